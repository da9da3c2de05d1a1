//go:build netns

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/ruleset"
)

// wire carries connections to an API server until it is cut.
type wire struct {
	t     *testing.T
	to    string
	at    string // HOST:PORT, also after it was cut
	mu    sync.Mutex
	open  net.Listener
	conns []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	w := &wire{t: t, to: strings.TrimPrefix(to, "https://"), at: "127.0.0.1:0"}
	w.join()
	t.Cleanup(w.cut)
	return w
}

func (w *wire) join() {
	w.t.Helper()
	l, err := net.Listen("tcp", w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	w.at, w.open = l.Addr().String(), l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", w.to)
			if err != nil {
				c.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, c, up)
			w.mu.Unlock()
			go pipe(c, up)
			go pipe(up, c)
		}
	}()
}

func pipe(from, to net.Conn) {
	io.Copy(to, from)
	to.Close()
}

func (w *wire) cut() {
	w.open.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// TestLiveGap: what went while nobody could watch, and that no watch can tell of any longer, is found to be gone; what stayed
// as it was costs nothing.
func TestLiveGap(t *testing.T) {
	l := newLive(t)
	w := newWire(t, l.api.URL)
	l.namespace("dev", `"team":"blue"`)
	l.namespace("prod", `"team":"blue"`)
	l.policy("dev/friends", fromFriends)
	l.policy("dev/gone", `{"podSelector":{},"policyTypes":["Egress"]}`)
	l.endpoint("web-eth0", "dev/web", l.pod("dev/web", here, `"app":"web"`, ""), "10.244.1.2")
	for name, ip := range map[string]string{"dev/stays": "10.244.2.2", "dev/goes": "10.244.2.3", "prod/goes": "10.244.2.4"} {
		l.pod(name, "worker02", `"app":"friend"`, "")
		l.status(name, ip, "Running")
	}
	l.follow(apitest.Admin, "--kube-api-url", "https://"+w.at)
	l.isolated("10.244.1.2", "dev/web")
	l.elements("egress is closed", "inet/maps/egress4", []string{`10.244.1.2 comment "dev/web" : goto ge-`}, nil)
	for _, ip := range []string{"10.244.2.2", "10.244.2.3", "10.244.2.4"} {
		l.peer(ip, true)
	}
	w.cut()
	l.says("failing: ")
	l.remove("dev/goes")
	l.api.Do("DELETE", "/apis/networking.k8s.io/v1/namespaces/dev/networkpolicies/gone", "")
	l.merge("/api/v1/namespaces/prod", `{"metadata":{"labels":{"team":"red"}}}`)
	l.api.Pause() // a new API server remembers no change from before
	l.api.Resume()
	l.pod("dev/comes", "worker02", `"app":"friend"`, "")
	l.status("dev/comes", "10.244.2.5", "Running")
	w.join()
	l.peer("10.244.2.5", true)
	l.peer("10.244.2.3", false)
	l.peer("10.244.2.4", false)
	l.peer("10.244.2.2", true)
	l.elements("egress is open", "inet/maps/egress4", nil, []string{"goto ge-"})

	// nothing changed meanwhile: nothing is written
	l.says("STATUS=1 pods, 1 policies")
	stands := l.manifest("as it stands", func(*ruleset.Manifest) bool { return true }).Generation()
	w.cut()
	l.says("failing: ")
	w.join()
	l.says("STATUS=1 pods, 1 policies")
	l.pod("dev/mark", "worker02", `"app":"friend"`, "")
	l.status("dev/mark", "10.244.2.6", "Running")
	l.peer("10.244.2.6", true)
	l.stop() // the log is whole
	said := l.log.String()
	at := strings.LastIndex(said, "generation="+stands)
	if n := strings.Count(said[max(0, at):], "policy written"); at < 0 || n != 1 {
		t.Errorf("after a gap in which nothing changed and one pod, the policy was written %d times, want once", n)
	}
}

// TestLiveInvalid: an object of an older Kubernetes that the API server would refuse today matches nothing, and still isolates.
func TestLiveInvalid(t *testing.T) {
	l := newLive(t)
	l.namespace("dev", "")
	l.endpoint("web-eth0", "dev/web", l.pod("dev/web", here, `"app":"web"`, ""), "10.244.1.2")
	l.pod("dev/friend", "worker02", `"app":"friend"`, "")
	l.status("dev/friend", "10.244.2.2", "Running")
	meta := `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"namespace":"dev","name":"old","uid":"6a0c0dd6-3a3b-4d4e-8e4f-000000000001"},"spec":`
	l.api.Store(map[string]string{"/registry/networkpolicies/dev/old": meta + `{"podSelector":{},"policyTypes":["Ingress"],
		"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"no/label"}}},{"podSelector":{"matchLabels":{"app":"friend"}}}]}]}}`})
	l.follow(apitest.Admin)
	l.isolated("10.244.1.2", "dev/web")
	l.peer("10.244.2.2", true)
	l.api.Store(map[string]string{"/registry/networkpolicies/dev/old": meta + `{"podSelector":{"matchLabels":{"app":"no/label"}},"policyTypes":["Ingress"],
		"ingress":[{}]}}`})
	l.peer("10.244.2.2", false)
	l.isolated("10.244.1.2", "dev/web")
	l.stop()
	if said := l.log.String(); !strings.Contains(said, `NetworkPolicy \"dev/old\": it isolates, and this part of it allows nothing`) {
		t.Errorf("nobody was told what is wrong; the log:\n%s", said)
	}
}

// TestLiveUnknownNamespace: a pod that is seen before its Namespace is let in by no selector of labels, not by NotIn either.
func TestLiveUnknownNamespace(t *testing.T) {
	l := newLive(t)
	l.namespace("dev", `"team":"blue"`)
	l.policy("dev/others", `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["red"]}]},"podSelector":{}}]}]}`)
	l.endpoint("web-eth0", "dev/web", l.pod("dev/web", here, "", ""), "10.244.1.2")
	for name, ip := range map[string]string{"good": "10.244.2.2", "evil": "10.244.2.3"} {
		l.api.Store(map[string]string{"/registry/pods/" + name + "/pod": fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod","namespace":%q,"uid":"%s"},
			"spec":{"nodeName":"worker02"},"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%[3]q}]}}`, name, "6a0c0dd6-3a3b-4d4e-8e4f-00000000000"+ip[len(ip)-1:], ip)})
	}
	l.pod("dev/friend", "worker02", "", "")
	l.status("dev/friend", "10.244.2.4", "Running")
	l.follow(apitest.Admin)
	l.isolated("10.244.1.2", "dev/web")
	l.peer("10.244.2.4", true)
	l.peer("10.244.2.2", false)
	l.peer("10.244.2.3", false)
	l.namespace("evil", `"team":"red"`)
	l.namespace("good", "")
	l.peer("10.244.2.2", true)
	l.peer("10.244.2.3", false)
}

// TestLiveOnce: the verbs that read once ask the API server as well.
func TestLiveOnce(t *testing.T) {
	l := newLive(t, "nobody")
	l.namespace("dev", `"team":"blue"`)
	l.policy("dev/friends", fromFriends)
	l.pod("dev/web", here, `"app":"web"`, "")
	l.status("dev/web", "10.244.1.2", "Running")
	l.pod("dev/friend", "worker02", `"app":"friend"`, "")
	l.status("dev/friend", "10.244.2.2", "Running")
	run := func(code int, want string, args ...string) {
		t.Helper()
		out, err := exec.Command("policy-render", args...).CombinedOutput()
		got := 0
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			got = ended.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != code || !strings.Contains(string(out), want) {
			t.Errorf("policy-render %s: status %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, want, out)
		}
	}
	config := []string{"--run-dir", string(l.dir), "--kubeconfig", l.api.Kubeconfig(apitest.Admin)}
	with := func(verb string, more ...string) []string { return append(append([]string{verb}, config...), more...) }
	question := []string{"--objects", "kube", "--from", "dev/friend", "--to", "dev/web", "--port", "80"}
	run(0, "allow\n", with("explain", question...)...)
	run(0, "deny\n", with("explain", "--from", "external", "--to", "dev/web", "--port", "80")...)
	run(0, "dev/friend", with("matrix")...)
	run(0, "10.244.1.2", with("plan")...)
	run(0, "policy.nft", with("apply")...)
	run(0, "", with("cut", "--dry-run")...)
	l.isolated("10.244.1.2", "dev/web")
	config[3] = l.api.Kubeconfig("nobody")
	run(77, "is forbidden", with("explain", question...)...)
	run(77, "is forbidden", with("apply")...)
	l.api.Pause()
	run(69, "connection refused", with("explain", question...)...)
	config[3] = "none"
	run(78, "kubeconfig", with("explain", question...)...)
}
