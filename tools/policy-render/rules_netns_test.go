//go:build netns

package main

import (
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

const (
	patient   = 10 * time.Second
	impatient = 400 * time.Millisecond
)

// flow is a row of a table of who reaches whom.
type flow struct {
	from, to string // a pod, "node", "uplink", "outside" or "remote"
	network  string // tcp or udp
	port     int
	reaches  bool
}

func (n *node) source(name string) *nstest.Namespace {
	switch name {
	case "node":
		return n.host
	case "outside":
		return n.outside
	}
	return n.pods[name].Namespace
}

func (n *node) addr(name string, f state.Family) netip.Addr {
	switch name {
	case "node":
		return nodeAddr.Of(f)
	case "uplink":
		return uplinkAddr.Of(f)
	case "outside":
		return outsideAddr.Of(f)
	case "remote":
		return remoteAddr.Of(f)
	}
	return n.pods[name].addrs.Of(f)
}

// check tries all flows at once, in both families.
func (n *node) check(what string, flows []flow) {
	n.t.Helper()
	var all sync.WaitGroup
	for _, f := range flows {
		for _, family := range state.Families {
			all.Add(1)
			go func() {
				defer all.Done()
				patience := patient
				if !f.reaches {
					patience = impatient
				}
				err := ask(n.source(f.from), f.network, netip.AddrPortFrom(n.addr(f.to, family), uint16(f.port)), patience)
				if (err == nil) != f.reaches {
					n.t.Errorf("%s: %s to %s %d/%s, %s: reaches %v, want %v (%v)", what, f.from, f.to, f.port, f.network, family, err == nil, f.reaches, err)
				}
			}()
		}
	}
	all.Wait()
}

const story = "testdata/story.yaml"

func abs(t *testing.T, path string) string {
	t.Helper()
	out, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRulesInTheKernel(t *testing.T) {
	n := newNode(t, "dev/myapp", "dev/other", "prod/web", "default/free")
	n.objects = abs(t, story)
	for _, p := range n.pods {
		n.addEndpoint(p)
	}
	n.addPod("lost/stranger") // an address of the subnet that nobody knows
	var open []flow
	for from := range n.pods {
		for to := range n.pods {
			open = append(open, flow{from, to, "tcp", 7777, true})
		}
	}
	n.check("without rules", open)
	n.load()
	flows := []flow{
		// deny-all-ingress isolates dev; a pod reaches itself all the same.
		{"dev/myapp", "dev/other", "tcp", 80, false},
		{"default/free", "dev/other", "tcp", 80, false},
		{"default/free", "dev/other", "udp", 80, false},
		{"dev/other", "dev/other", "tcp", 7777, true},
		{"outside", "dev/other", "tcp", 80, false},
		// The node reaches its pods.
		{"node", "dev/other", "tcp", 80, true},
		{"node", "dev/other", "udp", 7777, true},
		// Ports and peers of allow-myapp-ingress; a named port by namespace.
		{"default/free", "dev/myapp", "tcp", 80, true},
		{"default/free", "dev/myapp", "tcp", 443, true},
		{"default/free", "dev/myapp", "tcp", 7777, false},
		{"default/free", "dev/myapp", "udp", 80, false},
		{"outside", "dev/myapp", "tcp", 80, false},
		// Egress of prod, and then ingress of the other end.
		{"prod/web", "dev/myapp", "tcp", 8005, true},
		{"prod/web", "dev/myapp", "udp", 8005, false},
		{"prod/web", "dev/myapp", "tcp", 443, false},
		{"prod/web", "default/free", "tcp", 80, false},
		{"prod/web", "default/free", "udp", 8005, true},
		{"prod/web", "outside", "tcp", 80, false},
		{"prod/web", "node", "tcp", 80, false},
		{"prod/web", "uplink", "tcp", 80, false},
		{"prod/web", "prod/web", "tcp", 80, true},
		// Nothing isolates these.
		{"dev/other", "prod/web", "tcp", 80, true},
		{"dev/other", "outside", "tcp", 80, true},
		{"default/free", "prod/web", "udp", 7777, true},
		{"outside", "prod/web", "tcp", 80, true},
		{"outside", "default/free", "udp", 80, true},
		{"default/free", "node", "tcp", 80, true},
		{"default/free", "uplink", "tcp", 80, true},
		{"default/free", "remote", "tcp", 80, true},
		{"outside", "uplink", "tcp", 80, true},
		{"outside", "node", "tcp", 80, true},
		{"node", "outside", "tcp", 80, true},
		{"node", "node", "tcp", 80, true},
		// Nobody knows who this is.
		{"lost/stranger", "default/free", "tcp", 80, false},
		{"lost/stranger", "node", "tcp", 80, false},
		{"lost/stranger", "outside", "tcp", 80, false},
		{"default/free", "lost/stranger", "tcp", 80, false},
		{"outside", "lost/stranger", "tcp", 80, false},
		{"node", "lost/stranger", "tcp", 80, true},
	}
	n.check("with rules", flows)
	n.load("--node-egress", "allow")
	n.check("--node-egress allow", []flow{
		{"prod/web", "node", "tcp", 80, true},
		{"prod/web", "uplink", "tcp", 80, true},
		{"prod/web", "outside", "tcp", 80, false},
		{"default/free", "uplink", "tcp", 80, true},
		{"outside", "node", "tcp", 80, true},
	})
}
