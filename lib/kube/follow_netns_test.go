//go:build netns

package kube_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// names is a sink that keeps names.
type names struct {
	mu       sync.Mutex
	have     map[string]*corev1.Node
	replaced int
}

func (n *names) Replace(all []*corev1.Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.have = map[string]*corev1.Node{}
	for _, o := range all {
		n.have[o.Name] = o
	}
	n.replaced++
}

func (n *names) Set(o *corev1.Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.have[o.Name] = o
}

func (n *names) Delete(_, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.have, name)
}

func (n *names) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for name, o := range n.have {
		if o.UID != "" {
			name += "!" // was not trimmed
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func node(name string) string {
	return `{"apiVersion":"v1","kind":"Node","metadata":{"name":"` + name + `"}}`
}

// TestFollow: what is there, what comes and what goes is told; an API server that is away for a while costs nothing
// but time.
func TestFollow(t *testing.T) {
	s := apitest.Start(t)
	s.Do("POST", "/api/v1/nodes", node("a"))
	c, err := kube.Open(kube.Options{Kubeconfig: s.Kubeconfig(apitest.Admin), Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sink := &names{}
	var troubles sync.Map
	go kube.Follow(ctx, c, kube.Nodes, kube.FollowOptions[*corev1.Node]{
		Trim:    func(n *corev1.Node) { n.UID = "" },
		Trouble: func(err error) { troubles.Store(err.Error(), true) },
	}, sink)
	expect := func(want ...string) {
		t.Helper()
		deadline := time.Now().Add(2 * time.Minute)
		for !slices.Equal(sink.list(), want) {
			if time.Now().After(deadline) {
				t.Fatalf("have %q, want %q", sink.list(), want)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	expect("a")
	s.Do("POST", "/api/v1/nodes", node("b"))
	expect("a", "b")
	s.Do("DELETE", "/api/v1/nodes/a", "")
	expect("b")
	s.Pause()
	<-time.After(3 * time.Second)
	expect("b")
	s.Resume()
	s.Do("POST", "/api/v1/nodes", node("c"))
	expect("b", "c")
	n := 0
	troubles.Range(func(any, any) bool { n++; return true })
	if n == 0 {
		t.Error("nobody was told that the server was away")
	}
}
