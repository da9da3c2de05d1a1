//go:build netns

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// TestNoPacketIsLostBetweenBackends: while pings run, the cluster changes its backend node by node, and
// each hears of the other's change later. Nothing of the old way stays in the end.
func TestNoPacketIsLostBetweenBackends(t *testing.T) {
	a, b := linked(t)
	a.watch()
	b.watch()
	a.ready()
	b.ready()
	pings := a.pings(t)
	for _, backend := range []string{typeHostGW, typeVXLAN, typeHostGW} {
		for _, n := range []*node{a, b} {
			n.backend = backend
			n.files()
			n.Eventually(deadline, n.planned)
		}
		a.knows(b.peer())
		a.Eventually(deadline, a.planned)
		b.knows(a.peer())
		b.Eventually(deadline, b.planned)
	}
	pings()
	for _, n := range []*node{a, b} {
		if out := n.Run("bridge", "fdb", "show", "dev", "flannel.1") + n.Run("ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"); strings.Contains(out, "02:00") {
			t.Errorf("of the old backend there is left:\n%s", out)
		}
	}
}

// TestRepairedIsOthersDoing: what the node's own change takes from the kernel is no repair, what
// somebody deletes is one.
func TestRepairedIsOthersDoing(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files()
	for i := 2; i <= 5; i++ {
		n.knows(dualPeer(i))
	}
	w := n.watch()
	n.ready()
	n.Eventually(deadline, n.planned)
	n.Run("ip", "route", "del", "10.244.3.0/24")
	n.Eventually(deadline, func() string { return repairs(n, 1) })
	link, err := state.Load[state.Link](n.Dir.Link())
	if err != nil {
		t.Fatal(err)
	}
	link.MTU--
	n.Save(n.Dir.Link(), link)
	n.Run("ip", "link", "del", "flannel.1")
	n.device()
	n.knows(dualPeer(6))
	n.Eventually(deadline, n.planned)
	n.Eventually(deadline, func() string {
		if r := n.routes(); r.Peers != 5 {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
	if why := repairs(n, 1); why != "" {
		t.Errorf("%s\n%s", why, w.log.String())
	}
}

func repairs(n *node, want int) string {
	if r := n.routes(); r.Repaired != want {
		return fmt.Sprintf("%d repaired, want %d; the last: %s", r.Repaired, want, r.LastRepair)
	}
	return ""
}

// TestNoPacketIsLost: while pings run, peers move between tunnel and straight route, and the program
// is killed and started again.
func TestNoPacketIsLost(t *testing.T) {
	a, b := linked(t)
	wa, _ := a.watch(), b.watch()
	a.ready()
	b.ready()
	pings := a.pings(t)
	for i, direct := range []bool{true, false, true, false, true, false} {
		for _, n := range []*node{a, b} {
			n.direct = direct
			n.files()
			n.Eventually(deadline, n.planned)
		}
		if i == 2 {
			_ = wa.Process.Kill()
			_ = wa.Wait()
			wa = a.watch()
			a.ready()
		}
	}
	pings()
}

// linked are two nodes that know each other, with an address of a pod each.
func linked(t *testing.T) (a, b *node) {
	t.Helper()
	a, b = newNode(t, 1, typeVXLAN, false, false), newNode(t, 2, typeVXLAN, false, false)
	nstest.Connect(a.Namespace, "eth0", a.addrs(), b.Namespace, "eth0", b.addrs())
	for _, n := range []*node{a, b} {
		n.Run("sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done")
		n.device()
		n.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.9/32", n.number), "dev", "lo")
		n.files()
	}
	a.knows(b.peer())
	b.knows(a.peer())
	return a, b
}

// pings sends echo requests from node 1's pod to node 2's until the function it returns has waited for
// their end, and sees that each was answered.
func (n *node) pings(t *testing.T) (wait func()) {
	t.Helper()
	n.Run("ping", "-c1", "-W5", "-I", "10.244.1.9", "10.244.2.9")
	var out strings.Builder
	ping := n.Command("ping", "-q", "-i0.005", "-c400", "-W5", "-I", "10.244.1.9", "10.244.2.9")
	ping.Stdout = &out
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := ping.Wait(); err != nil || !strings.Contains(out.String(), " 0% packet loss") {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}
