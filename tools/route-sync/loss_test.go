//go:build netns

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

// TestNoPacketIsLost: while pings run, peers move between tunnel and straight route, and the program
// is killed and started again.
func TestNoPacketIsLost(t *testing.T) {
	a, b := newNode(t, 1, typeVXLAN, false, false), newNode(t, 2, typeVXLAN, false, false)
	nstest.Connect(a.Namespace, "eth0", a.addrs(), b.Namespace, "eth0", b.addrs())
	for _, n := range []*node{a, b} {
		n.Run("sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done")
		n.device()
		n.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.9/32", n.number), "dev", "lo")
		n.files()
	}
	a.knows(b.peer())
	b.knows(a.peer())
	wa, _ := a.watch(), b.watch()
	a.ready()
	b.ready()
	a.Run("ping", "-c1", "-W5", "-I", "10.244.1.9", "10.244.2.9")
	var out strings.Builder
	ping := a.Command("ping", "-q", "-i0.005", "-c400", "-W5", "-I", "10.244.1.9", "10.244.2.9")
	ping.Stdout = &out
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
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
	if err := ping.Wait(); err != nil || !strings.Contains(out.String(), " 0% packet loss") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
