//go:build netns

package nl

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

var compareNetip = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// vxlanNamespace makes a namespace with vx0 (IPv4 and IPv6 overlay) and returns sockets in it.
func vxlanNamespace(t testing.TB, groups Groups) (*nstest.Namespace, *Socket, *Events, Link) {
	t.Helper()
	n := nstest.New(t, "nl")
	n.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
	n.Run("ip", "link", "set", "far0", "up")
	n.Run("ip", "addr", "add", "192.168.9.1/24", "dev", "eth0")
	n.Run("ip", "link", "set", "eth0", "up")
	n.Run("ip", "link", "add", "vx0", "type", "vxlan", "id", "1", "dev", "eth0", "local", "192.168.9.1", "dstport", "8472", "nolearning")
	n.Run("ip", "addr", "add", "10.244.0.0/32", "dev", "vx0")
	n.Run("ip", "link", "set", "vx0", "up")
	var s *Socket
	var e *Events
	var link Link
	n.Do(func() {
		c, err := Open()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		var ok bool
		if link, ok, err = c.Link("vx0"); err != nil || !ok {
			t.Errorf("Link: %v %v", ok, err)
			return
		}
		if s, err = OpenSocket(); err != nil {
			t.Error(err)
			return
		}
		if e, err = Subscribe(groups); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { s.Close(); e.Close() })
	return n, s, e, link
}

func entries(link Link, i int) (Route, Neigh, FDB) {
	base := netip.AddrFrom4([4]byte{10, 244 + byte(i>>8), byte(i), 0})
	mac := MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
	return Route{Dst: netip.PrefixFrom(base, 24), Gateway: base, Link: link.Index, OnLink: true, Protocol: ProtocolTowpath},
		Neigh{NeighKey: NeighKey{link.Index, base}, MAC: mac, Permanent: true},
		FDB{FDBKey: FDBKey{link.Index, mac}, Dst: netip.AddrFrom4([4]byte{192, 168, 9, byte(i%250 + 2)}), Permanent: true}
}

func TestChangesListsAndEventsAgree(t *testing.T) {
	n, s, e, link := vxlanNamespace(t, WatchRoutes|WatchNeighs)
	const peers = 500 // several batches
	var changes []Change
	var routes []Route
	var neighs []Neigh
	var fdbs []FDB
	for i := 1; i <= peers; i++ {
		r, ne, f := entries(link, i)
		routes, neighs, fdbs = append(routes, r), append(neighs, ne), append(fdbs, f)
		changes = append(changes, FDBChange{Replace, f, "vx0"}, NeighChange{Replace, ne, "vx0"}, RouteChange{Add, r, "vx0"})
	}
	for i, err := range s.Apply(changes, nil) {
		if err != nil {
			t.Fatalf("%s: %v", changes[i], err)
		}
	}
	var toldRoutes []Route
	var toldNeighs []Neigh
	var toldFDB []FDB
	if err := e.Drain(func(ev Event) {
		switch ev.What {
		case RouteEvent:
			toldRoutes = append(toldRoutes, ev.Route)
		case NeighEvent:
			toldNeighs = append(toldNeighs, ev.Neigh)
		case FDBEvent:
			toldFDB = append(toldFDB, ev.FDB)
		default:
			t.Errorf("unexpected event %v", ev)
		}
	}); err != nil {
		t.Fatal(err)
	}
	listed := map[Route]bool{}
	if err := s.Routes(ProtocolTowpath, func(r Route) { listed[r] = true }); err != nil {
		t.Fatal(err)
	}
	if len(listed) != peers {
		t.Errorf("%d routes listed, want %d", len(listed), peers)
	}
	for _, r := range routes {
		if !listed[r] {
			t.Fatalf("not listed as made: %+v; listed %v", r, firstOf(listed))
		}
	}
	if d := cmp.Diff(routes, toldRoutes, compareNetip, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("route events (-made +told):\n%s", d)
	}
	if d := cmp.Diff(neighs, toldNeighs, compareNetip); d != "" {
		t.Errorf("neighbour events (-made +told):\n%s", d)
	}
	if d := cmp.Diff(fdbs, toldFDB, compareNetip); d != "" {
		t.Errorf("fdb events (-made +told):\n%s", d)
	}
	gotNeighs, gotFDB := map[Neigh]bool{}, map[FDB]bool{}
	if err := errors.Join(s.Neighs(link.Index, func(x Neigh) { gotNeighs[x] = true }), s.FDB(link.Index, func(x FDB) { gotFDB[x] = true })); err != nil {
		t.Fatal(err)
	}
	for i := range peers {
		if !gotNeighs[neighs[i]] || !gotFDB[fdbs[i]] {
			t.Fatalf("not listed as made: %+v or %+v", neighs[i], fdbs[i])
		}
	}
	out := n.Run("ip", "route", "show", "10.244.7.0/24")
	if want := "10.244.7.0/24 via 10.244.7.0 dev vx0 proto 116 onlink"; strings.TrimSpace(out) != want {
		t.Errorf("ip route: %q, want %q", out, want)
	}
	for i, c := range changes { // in place of the old, then away, twice
		switch c := c.(type) {
		case RouteChange:
			c.Verb = Delete
			changes[i] = c
		case NeighChange:
			c.Verb = Delete
			changes[i] = c
		case FDBChange:
			c.Verb = Delete
			changes[i] = c
		}
	}
	for range 2 {
		for i, err := range s.Apply(changes, nil) {
			if err != nil {
				t.Fatalf("%s: %v", changes[i], err)
			}
		}
	}
	if out := n.Run("ip", "route", "show", "dev", "vx0") + n.Run("ip", "neigh", "show", "dev", "vx0", "nud", "permanent") + n.Run("bridge", "fdb", "show", "dev", "vx0"); out != "" {
		t.Errorf("left over:\n%s", out)
	}
}

func firstOf[K comparable](m map[K]bool) (k K) {
	for k = range m {
		break
	}
	return k
}

// TestOneFailureStopsNoOther also fixes what an error looks like.
func TestOneFailureStopsNoOther(t *testing.T) {
	n, s, _, link := vxlanNamespace(t, WatchLinks)
	good, _, _ := entries(link, 1)
	bad, _, _ := entries(link, 2)
	bad.OnLink = false // its gateway is nobody's
	last, _, _ := entries(link, 3)
	errs := s.Apply([]Change{RouteChange{Add, good, "vx0"}, RouteChange{Add, bad, "vx0"}, RouteChange{Add, last, "vx0"}}, nil)
	if errs[0] != nil || errs[2] != nil {
		t.Errorf("others failed: %v", errs)
	}
	if !errors.Is(errs[1], unix.ENETUNREACH) || exit.Of(errs[1]) != exit.Refused || !strings.Contains(errs[1].Error(), "invalid gateway") {
		t.Errorf("error %v (exit %d)", errs[1], exit.Of(errs[1]))
	}
	if out := n.Run("ip", "route", "show", "proto", "116"); strings.Count(out, "\n") != 2 {
		t.Errorf("routes:\n%s", out)
	}
	if errs := s.Apply([]Change{RouteChange{Add, good, "vx0"}}, nil); !errors.Is(errs[0], unix.EEXIST) {
		t.Errorf("add over another: %v", errs[0])
	}
}

func TestReplacedRoute(t *testing.T) {
	n, s, e, link := vxlanNamespace(t, WatchRoutes)
	r, _, _ := entries(link, 1)
	n.Run("ip", "route", "add", "10.244.1.0/24", "via", "192.168.9.9", "dev", "eth0")
	n.Run("ip", "route", "add", "10.245.1.0/24", "via", "192.168.9.9", "dev", "eth0", "mtu", "1400")
	n.Run("ip", "route", "add", "blackhole", "10.246.1.0/24", "proto", "116")
	if err := e.Drain(func(Event) {}); err != nil {
		t.Fatal(err)
	}
	if errs := s.Apply([]Change{RouteChange{Replace, r, "vx0"}}, nil); errs[0] != nil {
		t.Fatal(errs[0])
	}
	var events []Event
	if err := e.Drain(func(ev Event) { events = append(events, ev) }); err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 || !events[0].Replaced || events[0].Route != r {
		t.Errorf("events %+v", events)
	}
	var other int
	if err := s.Routes(0, func(r Route) {
		if r.Other && (r.Dst.String() == "10.245.1.0/24" || r.Dst.String() == "10.246.1.0/24") {
			other++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if other != 2 {
		t.Errorf("%d of 2 unusual routes seen as such", other)
	}
	// whatever carries our protocol can be removed
	if errs := s.Apply([]Change{RouteChange{Delete, Route{Dst: netip.MustParsePrefix("10.246.1.0/24"), Protocol: 116}, ""}}, nil); errs[0] != nil {
		t.Error(errs[0])
	}
}

func TestPaths(t *testing.T) {
	n, s, _, _ := vxlanNamespace(t, WatchLinks)
	n.Run("ip", "route", "add", "10.9.0.0/16", "via", "192.168.9.254")
	c := must(t, n, Open)
	eth0, _, err := c.Link("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("192.168.9.7"), netip.MustParseAddr("10.9.1.1"), netip.MustParseAddr("172.31.0.1"), netip.MustParseAddr("fd00::1")}
	got, err := s.Paths(addrs)
	if err != nil {
		t.Fatal(err)
	}
	want := []Path{{Link: eth0.Index}, {Link: eth0.Index, Gateway: netip.MustParseAddr("192.168.9.254")}, {}, {}}
	if d := cmp.Diff(want, got, compareNetip); d != "" {
		t.Error(d)
	}
}

func must[T interface{ Close() error }](t testing.TB, n *nstest.Namespace, open func() (T, error)) (v T) {
	t.Helper()
	var err error
	n.Do(func() { v, err = open() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func TestLostEventsAreEverything(t *testing.T) {
	_, s, _, link := vxlanNamespace(t, WatchLinks)
	_ = s
	n2, s2, e2, link2 := vxlanNamespace(t, WatchNeighs)
	_ = n2
	_ = link
	if err := unix.SetsockoptInt(fdOf(t, e2), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	var changes []Change
	for i := range 300 {
		_, ne, _ := entries(link2, i)
		changes = append(changes, NeighChange{Replace, ne, "vx0"})
	}
	s2.Apply(changes, nil)
	lost := false
	if err := e2.Drain(func(ev Event) { lost = lost || ev.What == Everything }); err != nil {
		t.Fatal(err)
	}
	if !lost {
		t.Error("lost events were not told")
	}
}

func fdOf(t *testing.T, e *Events) (fd int) {
	t.Helper()
	if err := e.raw.Control(func(raw uintptr) { fd = int(raw) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestHints(t *testing.T) {
	n := nstest.New(t, "nl")
	var hints <-chan string
	var err error
	n.Do(func() {
		hints, err = Hints(t.Context(), WatchLinks|WatchAddrs, func(e Event) string {
			if e.What == LinkEvent && e.Link.Name != "d0" {
				return ""
			}
			return e.String()
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Run("ip", "link", "add", "d1", "type", "bridge")
	n.Run("ip", "link", "add", "d0", "type", "bridge")
	if got := <-hints; got != "link d0 changed" {
		t.Errorf("hint %q", got)
	}
	n.Run("ip", "link", "del", "d0")
	for got := range hints { // the first may still speak of the creation
		if got == "link d0 deleted" {
			break
		}
	}
	n.Run("ip", "addr", "add", "10.1.1.1/24", "dev", "d1")
	if got := <-hints; got != "address 10.1.1.1/24 changed" {
		t.Errorf("hint %q", got)
	}
}

func BenchmarkApply(b *testing.B) {
	for _, peers := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			_, s, _, link := vxlanNamespace(b, WatchLinks)
			var add, del []Change
			for i := range peers {
				r, ne, f := entries(link, i+1)
				add = append(add, FDBChange{Replace, f, "vx0"}, NeighChange{Replace, ne, "vx0"}, RouteChange{Add, r, "vx0"})
				del = append(del, RouteChange{Delete, r, "vx0"}, NeighChange{Delete, ne, "vx0"}, FDBChange{Delete, f, "vx0"})
			}
			for b.Loop() {
				for i, err := range s.Apply(add, nil) {
					if err != nil {
						b.Fatalf("%s: %v", add[i], err)
					}
				}
				b.StopTimer()
				s.Apply(del, nil)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*peers), "ns/peer")
		})
	}
}
