package main

import (
	"net/netip"
	"testing"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// TestTake: which of the kernel's words mean that everything must be listed again.
func TestTake(t *testing.T) {
	link := func(index int, name, alias string) nl.Event {
		return nl.Event{What: nl.LinkEvent, Link: nl.Link{Index: index, Name: name, Kind: "vxlan", Alias: alias}}
	}
	addr := func(index int) nl.Event {
		return nl.Event{What: nl.AddrEvent, Addr: nl.Addr{Link: index, Prefix: netip.MustParsePrefix("192.168.0.1/24")}}
	}
	route := func(dst string) nl.Event {
		return nl.Event{What: nl.RouteEvent, Route: nl.Route{Dst: netip.MustParsePrefix(dst), Link: 99, Protocol: 3}}
	}
	for _, tc := range []struct {
		name           string
		event          nl.Event
		tunnel, direct bool // dirty with the tunnel only, and with direct routes
		touched        int
	}{
		{"events lost", nl.Event{What: nl.Everything}, true, true, 0},
		{"our device", link(flannel1, "flannel.1", nl.Mark), true, true, 0},
		{"our device under another name", link(flannel1, "vx0", nl.Mark), true, true, 0},
		{"our device made again", link(77, "flannel.1", ""), true, true, 0},
		{"an old device of ours", link(78, "flannel.9", nl.Mark), true, true, 0},
		{"a pod's device", link(79, "veth1", ""), false, false, 0},
		{"the uplink", link(eth0, "eth0", ""), false, true, 0},
		{"address of our device", addr(flannel1), true, true, 0},
		{"address of the uplink", addr(eth0), false, true, 0},
		{"address of another", addr(5), false, false, 0},
		{"somebody's route to a peer's address", route("192.168.0.0/30"), false, true, 0},
		{"somebody's route", route("172.16.0.0/12"), false, false, 0},
		{"somebody's route where ours are", route("10.244.1.0/24"), false, false, 1},
		{"an entry of another device", nl.Event{What: nl.NeighEvent, Neigh: nl.Neigh{NeighKey: nl.NeighKey{Link: 5}}}, false, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, direct := range []bool{false, true} {
				e := world(typeVXLAN, direct)
				e.onLink[netip.MustParseAddr("192.168.0.1")] = true
				e.put(peerOf(1))
				e.rebuild()
				touched := newKeys()
				dirty := e.take(tc.event, touched)
				if want := direct && tc.direct || !direct && tc.tunnel; dirty != want {
					t.Errorf("direct %v: list everything: %v, want %v", direct, dirty, want)
				}
				if n := len(touched.routes) + len(touched.neighs) + len(touched.fdb); n != tc.touched {
					t.Errorf("direct %v: %d entries touched, want %d", direct, n, tc.touched)
				}
			}
		})
	}
}

// FuzzResolve: whatever a peer publishes, it gets no route outside the network and none over ours.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{
		`{"node":"n1","subnet":{"ipv4":"10.244.1.0/24"},"publicIP":{"ipv4":"192.168.0.1"},"backend":{"type":"vxlan","data":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}}`,
		`{"node":"n1","subnet":{"ipv4":"0.0.0.0/0","ipv6":"::/0"},"publicIP":{"ipv4":"::1"},"backend":{"type":"vxlan","data":[]}}`,
		`{"node":"n1","subnet":{"ipv6":"fd00:10:0:1::/64"},"publicIP":{"ipv6":"fd00::1"},"backend":{"type":"vxlan","dataV6":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}}`,
		`{"subnet":{"ipv4":"10.244.0.0/24"},"publicIP":{"ipv4":"192.168.0.1"},"backend":{"type":"vxlan","data":null}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p state.Peer
		if state.Decode(data, &p) != nil || p.Validate() != nil {
			return
		}
		e := world(typeVXLAN, false).dual()
		e.put(p)
		e.rebuild()
		for dst, r := range e.want.routes {
			family := state.FamilyOf(dst.Addr())
			if !inside(e.view.network.Of(family), dst) || e.view.subnet.Of(family).Overlaps(dst) || r.value.Dst != dst {
				t.Errorf("route to %s wanted for %s", dst, data)
			}
		}
		for _, c := range e.diff(nil) {
			_ = c.String()
		}
	})
}
