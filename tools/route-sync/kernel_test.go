//go:build netns

package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

const deadline = 20 * time.Second // far more than the second that is promised: machines are slow

// TestPacketsArrive is the point of it all: two nodes, two programs, pings from pod to pod.
func TestPacketsArrive(t *testing.T) {
	for _, tc := range []struct {
		name    string
		backend string
		dual    bool
		direct  bool
		shows   string // by ip route
	}{
		{"vxlan", typeVXLAN, false, false, "dev flannel.1"},
		{"vxlan dual stack over IPv4 and IPv6", typeVXLAN, true, false, "dev flannel.1"},
		{"vxlan direct", typeVXLAN, true, true, "via 192.168.0.2 dev eth0"},
		{"host-gw", typeHostGW, true, false, "via 192.168.0.2 dev eth0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := newNode(t, 1, tc.backend, tc.dual, tc.direct), newNode(t, 2, tc.backend, tc.dual, tc.direct)
			nstest.Connect(a.Namespace, "eth0", a.addrs(), b.Namespace, "eth0", b.addrs())
			before := map[*node]string{}
			for _, n := range []*node{a, b} {
				n.Run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
				n.device()
				// a pod's address, on lo for want of a pod
				n.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.9/32", n.number), "dev", "lo")
				n.Run("ip", "addr", "add", fmt.Sprintf("fd00:10:0:%x::9/128", n.number), "dev", "lo", "nodad")
				n.files()
			}
			a.knows(b.peer())
			b.knows(a.peer())
			for _, n := range []*node{a, b} {
				n.Eventually(deadline, func() string { // it comes with the carrier
					if n.Run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "link") == "" {
						return "no link-local address"
					}
					return ""
				})
				before[n] = n.Snapshot()
				n.apply()
			}
			if out := a.Run("ip", "route", "show", "10.244.2.0/24"); !strings.Contains(out, tc.shows) || !strings.Contains(out, "proto 116") {
				t.Errorf("route %q, want %q", out, tc.shows)
			}
			a.Run("ping", "-c1", "-W5", "-I", "10.244.1.9", "10.244.2.9")
			if tc.dual {
				a.Run("ping", "-6", "-c1", "-W5", "-I", "fd00:10:0:1::9", "fd00:10:0:2::9")
			}
			for _, n := range []*node{a, b} {
				if out, errs, code := n.Exec("down"); code != exit.OK {
					t.Fatalf("down: %s%s", out, errs)
				}
				if d := cmp.Diff(before[n], n.Snapshot()); d != "" {
					t.Errorf("down leaves (-before +after)\n%s", d)
				}
				if _, err := os.Stat(n.Dir.Routes()); err == nil {
					t.Error("down leaves routes.json")
				}
			}
		})
	}
}

// drifts are what people and programs do to a kernel.
var drifts = []string{
	"ip route del 10.244.2.0/24",
	"ip route replace 10.244.2.0/24 via 192.168.0.9 dev eth0",
	"ip route change 10.244.2.0/24 via 10.244.3.0 dev flannel.1 onlink proto 116",
	"ip -6 route del fd00:10:0:2::/64",
	"ip neigh del 10.244.2.0 dev flannel.1",
	"ip neigh replace 10.244.2.0 lladdr 02:ff:ff:ff:ff:ff dev flannel.1 nud permanent",
	"ip neigh flush dev flannel.1 nud permanent",
	"ip neigh add 10.244.99.0 lladdr 02:ff:ff:ff:ff:ff dev flannel.1 nud permanent",
	"bridge fdb del 02:00:00:00:00:02 dev flannel.1 dst 192.168.0.2 self",
	"bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.168.0.77 self permanent",
	"bridge fdb add 02:ff:ff:ff:ff:ff dev flannel.1 dst 192.168.0.77 self permanent",
	"ip route add 10.244.99.0/24 via 10.244.99.0 dev flannel.1 onlink proto 116",
	"ip route flush proto 116",
}

func TestDriftIsRepaired(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, true, false).alone()
	n.device()
	n.files()
	for i := 2; i <= 20; i++ {
		n.knows(dualPeer(i))
	}
	n.watch()
	n.ready()
	if why := n.planned(); why != "" {
		t.Fatal(why)
	}
	for _, drift := range drifts {
		if strings.Contains(drift, "replace 10.244.2.0/24 via") {
			continue // replaced by a stranger's: TestStrangersRoute
		}
		words := strings.Fields(drift)
		n.Run(words[0], words[1:]...)
		took := n.Eventually(deadline, n.planned)
		t.Logf("%-90s repaired in %s", drift, took.Round(time.Millisecond))
	}
	n.Run("ip", "link", "set", "flannel.1", "down")
	n.Run("ip", "link", "set", "flannel.1", "up")
	took := n.Eventually(deadline, n.planned)
	t.Logf("%-90s repaired in %s", "link down and up", took.Round(time.Millisecond))
	for _, dev := range []string{"flannel.1", "flannel-v6.1"} {
		n.Run("ip", "link", "del", dev)
	}
	if why := n.planned(); !strings.Contains(why, "no such device") {
		t.Errorf("without devices: %s", why)
	}
	n.device()
	took = n.Eventually(deadline, n.planned)
	t.Logf("%-90s repaired in %s", "both devices deleted and made again", took.Round(time.Millisecond))
	n.Run("ip", "link", "set", "eth0", "down")
	n.Run("ip", "link", "set", "eth0", "up")
	n.Eventually(deadline, n.planned)
	n.Eventually(deadline, func() string {
		if r := n.routes(); r.Peers != 19 || r.Repaired < 100 || r.LastRepair == "" || len(r.LeftOut) > 0 {
			return fmt.Sprintf("routes.json: %+v", r)
		}
		return ""
	})
}

// TestUplinkFlap: straight routes go with the uplink's link and addresses, and come back with them.
func TestUplinkFlap(t *testing.T) {
	n := newNode(t, 1, typeHostGW, true, false).alone().files()
	for i := 2; i <= 20; i++ {
		p := dualPeer(i)
		p.Backend.Type = typeHostGW
		n.knows(p)
	}
	n.watch()
	n.ready()
	for _, drift := range []string{
		"ip link set eth0 down; ip link set eth0 up; ip addr replace fd00::1/64 dev eth0 nodad",
		"ip addr del 192.168.0.1/16 dev eth0; ip addr add 192.168.0.1/16 dev eth0",
		"ip route flush proto 116",
	} {
		n.Run("sh", "-c", drift)
		n.Eventually(deadline, n.planned)
		if out := n.Run("ip", "route", "show", "proto", "116"); strings.Count(out, "\n") != 19 {
			t.Errorf("after %s:\n%s", drift, out)
		}
	}
}

// TestStrangersRoute: a route of somebody else's is left alone and told of, and ours comes back when
// it goes.
func TestStrangersRoute(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files().knows(peerOf(2))
	n.watch()
	n.ready()
	n.Run("ip", "route", "replace", "10.244.2.0/24", "via", "192.168.0.9", "dev", "eth0", "proto", "static")
	n.Eventually(deadline, func() string {
		if r := n.routes(); !strings.Contains(r.LeftOut["n2"], "another's route is in the way: 10.244.2.0/24 via 192.168.0.9 dev eth0 proto 4") {
			return fmt.Sprintf("routes.json: %+v", r)
		}
		return ""
	})
	if out := n.Run("ip", "route", "show", "10.244.2.0/24"); !strings.Contains(out, "proto static") {
		t.Errorf("the stranger's route is gone: %s", out)
	}
	n.Run("ip", "route", "del", "10.244.2.0/24", "proto", "static")
	n.Eventually(deadline, func() string {
		if r := n.routes(); len(r.LeftOut) > 0 || r.Peers != 1 {
			return fmt.Sprintf("routes.json: %+v", r)
		}
		return n.planned()
	})
}

// TestAFightIsNotRunHot: somebody who undoes each repair costs some tries a second, not a processor.
func TestAFightIsNotRunHot(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files().knows(peerOf(2))
	w := n.watch()
	n.ready()
	n.Run("sh", "-c", "end=$(($(date +%s)+2)); while [ $(date +%s) -lt $end ]; do ip route del 10.244.2.0/24 2>/dev/null; done; true")
	n.Eventually(deadline, n.planned)
	w.stop(t)
	if repairs := strings.Count(w.log.String(), "ip route add 10.244.2.0/24"); repairs < 2 || repairs > 40 {
		t.Errorf("%d repairs in two seconds", repairs)
	}
}

// TestOneFailingPeer: the kernel refuses n3's route, since its gateway is this node's own address. It
// is named, and the others do not notice.
func TestOneFailingPeer(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.Run("ip", "addr", "add", "10.244.3.0/32", "dev", "lo")
	n.files()
	for i := 2; i <= 9; i++ {
		n.knows(peerOf(i))
	}
	out, errs, code := n.Exec("apply")
	if code != exit.Refused || !strings.Contains(errs, "ip route add 10.244.3.0/24") || !strings.Contains(out, "ip route add 10.244.9.0/24") {
		t.Errorf("apply: exit %d\n%s%s", code, out, errs)
	}
	if r := n.routes(); r.Peers != 7 || !strings.Contains(r.LeftOut["n3"], "ip route add 10.244.3.0/24") {
		t.Errorf("routes.json: %+v", r)
	}
	n.watch()
	n.ready()
	start := time.Now()
	n.knows(peerOf(10))
	n.Eventually(deadline, func() string {
		if n.Run("ip", "route", "show", "10.244.10.0/24") == "" {
			return "n10 is not programmed"
		}
		return ""
	})
	t.Logf("another peer joined in %s meanwhile", time.Since(start).Round(time.Millisecond))
	n.Run("ip", "addr", "del", "10.244.3.0/32", "dev", "lo")
	n.Eventually(2*deadline, n.planned) // retried by itself
	n.Eventually(deadline, func() string {
		if r := n.routes(); r.Peers != 9 || len(r.LeftOut) > 0 {
			return fmt.Sprintf("routes.json: %+v", r)
		}
		return ""
	})
}

// TestStaleEntries: what peers left behind while this program did not run goes, and only with a whole
// list of peers.
func TestStaleEntries(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, true, false).alone()
	n.device()
	n.files()
	for i := 2; i <= 5; i++ {
		n.knows(dualPeer(i))
	}
	n.apply()
	before := n.Snapshot()
	for i := 3; i <= 5; i++ {
		os.Remove(n.Dir.Peer(fmt.Sprintf("n%d", i)))
	}
	os.Remove(n.Dir.PeersSynced())
	if out, errs, code := n.Exec("apply"); code != exit.TryAgain || out != "" || !strings.Contains(errs, ".synced") {
		t.Errorf("without .synced: exit %d\n%s%s", code, out, errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("something was removed without .synced (-before +after)\n%s", d)
	}
	n.files()
	out := n.apply()
	if got := strings.Count(out, " del "); got != 3*2*3 {
		t.Errorf("%d entries removed, want %d:\n%s", got, 3*2*3, out)
	}
	if left := n.Run("ip", "route", "show", "proto", "116"); strings.Count(left, "\n") != 1 {
		t.Errorf("routes left:\n%s", left)
	}
}

// TestChangesLeaveNothingBehind follows peers that change while the program watches; what is in the
// kernel must be what a fresh start would make.
func TestChangesLeaveNothingBehind(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, true, false).alone()
	n.device()
	n.files()
	n.knows(dualPeer(2))
	n.knows(dualPeer(3))
	n.watch()
	n.ready()
	step := func(what string, change func()) {
		t.Helper()
		change()
		n.Eventually(deadline, func() string { // a new name alone makes nothing to do, also before it was heard of
			if why := n.planned(); why != "" {
				return why
			}
			out := n.Run("ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent")
			fdb := n.Run("bridge", "fdb", "show", "dev", "flannel.1")
			routes := n.Run("ip", "route", "show", "proto", "116")
			if strings.Count(out, "\n") != 2 || strings.Count(fdb, "\n") != 2 || strings.Count(routes, "\n") != 2 {
				return what + ": left behind:\n" + out + fdb + routes
			}
			return ""
		})
	}
	p := dualPeer(2)
	step("MAC", func() {
		p.Backend.Data, p.Backend.DataV6 = vtep("02:00:00:00:aa:aa"), vtep("02:06:00:00:aa:aa")
		n.knows(p)
	})
	step("address", func() { p.PublicIP.IPv4 = netip.MustParseAddr("192.168.0.200"); n.knows(p) })
	step("subnet", func() { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.200.0/24"); n.knows(p) })
	step("rename", func() {
		os.Remove(n.Dir.Peer("n2"))
		p.Node = "other"
		n.knows(p)
	})
	for _, direct := range []bool{true, false} {
		n.direct = direct
		n.files()
		n.Eventually(deadline, n.planned)
		fdb := n.Run("bridge", "fdb", "show", "dev", "flannel.1")
		if direct != (fdb == "") {
			t.Errorf("DirectRouting %v: fdb\n%s", direct, fdb)
		}
	}
}
