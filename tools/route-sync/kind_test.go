package main

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

const tunnel0 = 9 // index of the device of a backend of another kind

// worldOf is a world whose node has any backend.
func worldOf(kind string, direct bool) *engine {
	e := world(kind, direct)
	if kind != typeVXLAN && kind != typeHostGW {
		e.view.device.IPv4 = device{name: "tunnel0", index: tunnel0}
		e.view.names[tunnel0] = "tunnel0"
		if kinds[kind].elsewhere() {
			e.view.device.IPv4 = e.view.uplink
		} else {
			e.view.ours[tunnel0] = "tunnel0"
		}
	}
	return e
}

func peerWith(i int, kind string) state.Peer {
	p := peerOf(i)
	if p.Backend.Type = kind; kind != typeVXLAN {
		p.Backend.Data = json.RawMessage("null")
	}
	return p
}

func TestKinds(t *testing.T) {
	const straight = "ip route add 10.244.1.0/24 via 192.168.0.1 dev eth0 proto 116\n"
	for _, tc := range []struct {
		kind           string
		tunnel, direct string // without and with DirectRouting and a peer on the uplink's own link
	}{
		{typeVXLAN, tunnel1, straight},
		{typeHostGW, straight, straight},
		{"ipip", "ip route add 10.244.1.0/24 via 192.168.0.1 dev tunnel0 onlink proto 116\n", straight},
		{"udp", "ip route add 10.244.1.0/24 dev tunnel0 proto 116\n", "ip route add 10.244.1.0/24 dev tunnel0 proto 116\n"},
		{"wireguard", "ip route add 10.244.1.0/24 dev tunnel0 proto 116\n", "ip route add 10.244.1.0/24 dev tunnel0 proto 116\n"},
		{"alloc", "", ""},
		{"extension", "", ""},
	} {
		for _, direct := range []bool{false, true} {
			e, want := worldOf(tc.kind, direct), tc.tunnel
			if direct {
				want = tc.direct
			}
			e.onLink[netip.MustParseAddr("192.168.0.1")] = true
			e.put(peerWith(1, tc.kind))
			if d := cmp.Diff(want, e.settleAll(t)); d != "" {
				t.Errorf("%s, direct %v (-want +got)\n%s", tc.kind, direct, d)
			}
			if r := e.routes(); r.Peers != 1 || len(r.LeftOut) > 0 {
				t.Errorf("%s, direct %v: routes.json: %+v", tc.kind, direct, r)
			}
		}
	}
	if d := cmp.Diff([]string{"alloc", "extension", "host-gw", "ipip", "udp", "vxlan", "wireguard"}, slices.Sorted(maps.Keys(kinds))); d != "" {
		t.Errorf("a backend that this test does not know (-want +got)\n%s", d)
	}
}

// TestKindChanges: a cluster changes from any backend to any other node by node. While the peer still has the old one its
// route stays; once it has the new one, nothing but the new one's entries is left.
func TestKindChanges(t *testing.T) {
	for from := range kinds {
		for to := range kinds {
			if from == to || to == "alloc" && from == kinds[to].also {
				continue // flannel's alloc cannot be told from udp
			}
			e := worldOf(from, false)
			e.onLink[netip.MustParseAddr("192.168.0.1")] = true
			e.put(peerWith(1, from))
			e.settleAll(t)

			after := worldOf(to, false)
			after.onLink, after.have = e.onLink, e.have
			maps.Copy(after.view.ours, e.view.ours)
			maps.Copy(after.view.vteps, e.view.vteps)
			after.put(peerWith(1, from))
			if ops := after.settleAll(t); ops != "" {
				t.Errorf("%s to %s: before the peer has changed:\n%s", from, to, ops)
			}
			if why := after.routes().LeftOut["n1"]; !strings.Contains(why, "its backend is "+from+", this node's "+to) {
				t.Errorf("%s to %s: left out: %q", from, to, why)
			}
			after.put(peerWith(1, to))
			ops := after.settleAll(t)
			fresh := worldOf(to, false)
			fresh.onLink = e.onLink
			fresh.put(peerWith(1, to))
			fresh.settleAll(t)
			if d := cmp.Diff(entries(fresh), entries(after)); d != "" {
				t.Errorf("%s to %s: by\n%s(-fresh +changed)\n%s", from, to, ops, d)
			}
			if strings.Contains(ops, "route del") && strings.Contains(ops, "route add") {
				t.Errorf("%s to %s: a gap:\n%s", from, to, ops)
			}
		}
	}
}

// entries is what the kernel has, as text.
func entries(e *engine) (lines []string) {
	for _, routes := range e.have.routes {
		for _, r := range routes {
			lines = append(lines, describe(r, e.view))
		}
	}
	for _, n := range e.have.neighs {
		lines = append(lines, nl.NeighChange{Neigh: n}.String())
	}
	for _, all := range e.have.fdb {
		for _, f := range all {
			lines = append(lines, nl.FDBChange{FDB: f}.String())
		}
	}
	slices.Sort(lines)
	return lines
}

// TestTunnelOfOtherFamily: WireGuard carries IPv6 to a peer that has an IPv4 address only; vxlan does not.
func TestTunnelOfOtherFamily(t *testing.T) {
	for kind, want := range map[string]string{
		"wireguard": "ip route add 10.244.1.0/24 dev tunnel0 proto 116\nip -6 route add fd00:10:0:1::/64 dev tunnel0 proto 116\n",
		typeVXLAN:   tunnel1,
	} {
		e := worldOf(kind, false).dual()
		if kind != typeVXLAN {
			e.view.device.IPv6 = e.view.device.IPv4
		}
		p := dualPeer(1)
		p.Backend.Type, p.PublicIP.IPv6 = kind, netip.Addr{}
		e.put(p)
		if d := cmp.Diff(want, e.settleAll(t)); d != "" {
			t.Errorf("%s (-want +got)\n%s", kind, d)
		}
	}
	e := worldOf("wireguard", false)
	p := peerWith(1, "wireguard")
	p.PublicIP.IPv4 = netip.Addr{}
	e.put(p)
	if ops := e.settleAll(t); ops != "" || !strings.Contains(e.routes().LeftOut["n1"], "no public ipv4 address") {
		t.Errorf("%s%v", ops, e.routes().LeftOut)
	}
}

// TestFlannelsAlloc: flannel's alloc publishes no backend, which the stores read as udp.
func TestFlannelsAlloc(t *testing.T) {
	e := worldOf("alloc", false)
	e.put(peerWith(1, "udp"))
	e.put(peerWith(2, "alloc"))
	if ops := e.settleAll(t); ops != "" || e.routes().Peers != 2 {
		t.Errorf("%s%+v", ops, e.routes())
	}
}

// TestTakesOverNetworkRoute: flannel's udp and wireguard have one route for all nodes. It goes only when asked for, and
// never a route that an extension made over the uplink.
func TestTakesOverNetworkRoute(t *testing.T) {
	whole := netip.MustParsePrefix("10.0.0.0/8")
	theirs := netip.MustParsePrefix("10.244.1.0/24")
	for _, tc := range []struct {
		kind string
		have nl.Route
		want string // with --take-over
	}{
		{"wireguard", nl.Route{Dst: whole, Link: tunnel0, Protocol: nl.ProtocolBoot}, "ip route del 10.0.0.0/8 dev tunnel0 proto 3\n"},
		{"udp", nl.Route{Dst: whole, Link: tunnel0, Protocol: nl.ProtocolBoot}, "ip route del 10.0.0.0/8 dev tunnel0 proto 3\n"},
		{"extension", nl.Route{Dst: theirs, Gateway: netip.MustParseAddr("192.168.0.1"), Link: eth0, Protocol: nl.ProtocolBoot}, ""},
		{"alloc", nl.Route{Dst: theirs, Gateway: netip.MustParseAddr("192.168.0.1"), Link: eth0, Protocol: nl.ProtocolBoot}, ""},
	} {
		e := worldOf(tc.kind, false)
		e.have.routes[tc.have.Dst] = []nl.Route{tc.have}
		e.put(peerWith(1, tc.kind))
		if ops := e.settleAll(t); strings.Contains(ops, "del") {
			t.Errorf("%s:\n%s", tc.kind, ops)
		}
		e.takeOver = true
		if d := cmp.Diff(tc.want, e.settleAll(t)); d != "" {
			t.Errorf("%s taken over (-want +got)\n%s", tc.kind, d)
		}
	}
}
