package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

const tunnel1 = `bridge fdb replace 02:00:00:00:00:01 dev flannel.1 dst 192.168.0.1 self permanent
ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent
ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink proto 116
`

const away1 = `ip route del 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink proto 116
ip neigh del 10.244.1.0 dev flannel.1
bridge fdb del 02:00:00:00:00:01 dev flannel.1 dst 192.168.0.1 self
`

// TestChangeOfPeer changes one peer that is programmed and compares the operations; doing the same
// incrementally and from scratch must give the same.
func TestChangeOfPeer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(e *engine, p *state.Peer)
		want   string
	}{
		{"nothing", func(*engine, *state.Peer) {}, ""},
		{
			"MAC address: the new end before the neighbour, the old one last",
			func(_ *engine, p *state.Peer) { p.Backend.Data = vtep("02:00:00:00:99:99") },
			`bridge fdb replace 02:00:00:00:99:99 dev flannel.1 dst 192.168.0.1 self permanent
ip neigh replace 10.244.1.0 lladdr 02:00:00:00:99:99 dev flannel.1 nud permanent
bridge fdb del 02:00:00:00:00:01 dev flannel.1 dst 192.168.0.1 self
`,
		},
		{
			"public address", func(_ *engine, p *state.Peer) { p.PublicIP.IPv4 = netip.MustParseAddr("192.168.7.7") },
			"bridge fdb replace 02:00:00:00:00:01 dev flannel.1 dst 192.168.7.7 self permanent\n",
		},
		{
			"subnet", func(_ *engine, p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.77.0/24") },
			`ip neigh replace 10.244.77.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent
ip route add 10.244.77.0/24 via 10.244.77.0 dev flannel.1 onlink proto 116
ip route del 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink proto 116
ip neigh del 10.244.1.0 dev flannel.1
`,
		},
		{
			"it comes to our link", func(e *engine, _ *state.Peer) {
				e.view.direct = true
				e.onLink[netip.MustParseAddr("192.168.0.1")] = true
			},
			`ip route replace 10.244.1.0/24 via 192.168.0.1 dev eth0 proto 116
ip neigh del 10.244.1.0 dev flannel.1
bridge fdb del 02:00:00:00:00:01 dev flannel.1 dst 192.168.0.1 self
`,
		},
		{"it leaves", func(e *engine, p *state.Peer) { delete(e.files.peers, p.Node); p.Node = "" }, away1},
		{
			"it leaves, but peers/ is not whole", func(e *engine, p *state.Peer) {
				e.files.synced = false
				delete(e.files.peers, p.Node)
				p.Node = ""
			}, "",
		},
		{
			"it leaves while another's file cannot be read", func(e *engine, p *state.Peer) {
				e.files.peers["n9"] = &peerFile{err: fmt.Errorf("truncated")}
				delete(e.files.peers, p.Node)
				p.Node = ""
			}, "",
		},
		{"other backend", func(_ *engine, p *state.Peer) { p.Backend.Type = "ipsec" }, away1},
		{"the backend that the cluster changes to", func(_ *engine, p *state.Peer) { p.Backend.Type = typeHostGW }, ""},
		{"other VNI", func(_ *engine, p *state.Peer) {
			p.Backend.Data = json.RawMessage(`{"VNI":2,"VtepMAC":"02:00:00:00:00:01"}`)
		}, ""},
		{"other port", func(e *engine, p *state.Peer) {
			e.view.device.IPv4.port = defaultPort
			p.Backend.Data = json.RawMessage(`{"VNI":1,"VtepMAC":"02:00:00:00:00:01","Port":4789}`)
		}, ""},
		{"its end of the tunnel is not known for now", func(_ *engine, p *state.Peer) { p.Backend.Data = nil }, ""},
		{"junk instead of its MAC address", func(_ *engine, p *state.Peer) { p.Backend.Data = vtep("ff:ff:ff:ff:ff:ff") }, ""},
		{"device down", func(e *engine, p *state.Peer) {
			e.view.device.IPv4.why = "it is down"
			delete(e.files.peers, p.Node)
			p.Node = ""
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, how := range []string{"at once", "incrementally"} {
				e := world(typeVXLAN, false)
				e.put(peerOf(1))
				e.put(peerOf(2))
				e.settleAll(t)
				p := peerOf(1)
				tc.change(e, &p)
				if p.Node != "" {
					e.put(p)
				}
				if how == "at once" {
					if d := cmp.Diff(tc.want, e.settleAll(t)); d != "" {
						t.Errorf("%s (-want +got)\n%s", how, d)
					}
					continue
				}
				nodes := []string{"n1"}
				if e.files.peers["n9"] != nil {
					nodes = append(nodes, "n9")
				}
				changes := e.diff(e.update(nodes))
				if d := cmp.Diff(tc.want, e.texts(changes)); d != "" {
					t.Errorf("%s (-want +got)\n%s", how, d)
				}
				e.perform(changes)
				if rest := e.texts(e.diff(nil)); rest != "" {
					t.Errorf("a pass over everything finds more:\n%s", rest)
				}
			}
		})
	}
}

func TestFromEmpty(t *testing.T) {
	e := world(typeVXLAN, false).dual()
	e.put(dualPeer(1))
	want := tunnel1 + `bridge fdb replace 02:06:00:00:00:01 dev flannel-v6.1 dst fd00::1 self permanent
ip neigh replace fd00:10:0:1:: lladdr 02:06:00:00:00:01 dev flannel-v6.1 nud permanent
ip -6 route add fd00:10:0:1::/64 via fd00:10:0:1:: dev flannel-v6.1 onlink proto 116
`
	if d := cmp.Diff(want, e.settleAll(t)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if r := e.routes(); r.Peers != 1 || len(r.LeftOut) != 0 {
		t.Errorf("routes.json: %+v", r)
	}
	// one family alone may change
	p := dualPeer(1)
	p.PublicIP.IPv6 = netip.MustParseAddr("fd00::77")
	e.put(p)
	if d := cmp.Diff("bridge fdb replace 02:06:00:00:00:01 dev flannel-v6.1 dst fd00::77 self permanent\n", e.texts(e.diff(e.update([]string{"n1"})))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestHostGW(t *testing.T) {
	e := world(typeHostGW, false)
	for i := 1; i <= 2; i++ {
		p := peerOf(i)
		p.Backend = state.Published{Type: typeHostGW, Data: json.RawMessage("null")}
		e.put(p)
	}
	e.onLink[netip.MustParseAddr("192.168.0.1")] = true
	if d := cmp.Diff("ip route add 10.244.1.0/24 via 192.168.0.1 dev eth0 proto 116\n", e.settleAll(t)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if r := e.routes(); r.Peers != 1 || !strings.Contains(r.LeftOut["n2"], "192.168.0.2 is not on the link of eth0") {
		t.Errorf("routes.json: %+v", r)
	}
	e.onLink[netip.MustParseAddr("192.168.0.1")] = false // this node changed its uplink, the peer has yet to
	if d := e.settleAll(t); d != "" {
		t.Errorf("the way over the last uplink goes:\n%s", d)
	}
	if r := e.routes(); r.Peers != 0 || !strings.Contains(r.LeftOut["n1"], "not on the link of eth0") {
		t.Errorf("routes.json: %+v", r)
	}
}

// TestForeignEntries: what is in the kernel already, and what becomes of it.
func TestForeignEntries(t *testing.T) {
	dst := netip.MustParsePrefix("10.244.1.0/24")
	base, public := netip.MustParseAddr("10.244.1.0"), netip.MustParseAddr("192.168.0.1")
	ours := nl.Route{Dst: dst, Gateway: base, Link: flannel1, OnLink: true, Protocol: 116}
	with := func(f func(*nl.Route)) []nl.Route {
		r := ours
		f(&r)
		return []nl.Route{r}
	}
	entries := strings.SplitAfter(tunnel1, "\n")
	rest := entries[0] + entries[1]
	replaced := rest + strings.Replace(entries[2], "add", "replace", 1)
	for _, tc := range []struct {
		name     string
		routes   []nl.Route
		want     string
		conflict string
	}{
		{"flannel's route", with(func(r *nl.Route) { r.Protocol = nl.ProtocolBoot }), replaced, ""},
		{"ours another way", with(func(r *nl.Route) { r.Gateway = public; r.Link = eth0; r.OnLink = false }), replaced, ""},
		{"an administrator's", with(func(r *nl.Route) { r.Protocol = 4; r.Gateway = public; r.Link = eth0 }), rest, "another's route is in the way"},
		{"an administrator's over our device", with(func(r *nl.Route) { r.Protocol = 4 }), rest, "another's route is in the way"},
		{"a black hole", []nl.Route{{Dst: dst, Protocol: nl.ProtocolBoot, Other: true}}, rest, "another's route is in the way"},
		{"another's with a metric of its own", with(func(r *nl.Route) { r.Protocol = 4; r.Metric = 100 }), tunnel1, ""},
		{
			"ours with another metric", with(func(r *nl.Route) { r.Metric = 9 }),
			tunnel1 + "ip route del 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink proto 116 metric 9\n", "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := world(typeVXLAN, false)
			e.put(peerOf(1))
			e.have.routes[dst] = tc.routes
			if d := cmp.Diff(tc.want, e.settleAll(t)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if got := e.routes().LeftOut["n1"]; !strings.Contains(got, tc.conflict) || (got == "") != (tc.conflict == "") {
				t.Errorf("left out: %q", got)
			}
		})
	}
	t.Run("what nobody wants", func(t *testing.T) {
		e := world(typeVXLAN, false)
		stale := netip.MustParsePrefix("10.244.9.0/24")
		e.have.routes[stale] = []nl.Route{{Dst: stale, Gateway: stale.Addr(), Link: flannel1, OnLink: true, Protocol: 116}}
		left := netip.MustParsePrefix("10.244.8.0/24")
		e.have.routes[left] = []nl.Route{{Dst: left, Gateway: left.Addr(), Link: flannel1, OnLink: true, Protocol: nl.ProtocolBoot}}
		e.have.neighs[nl.NeighKey{Link: flannel1, IP: stale.Addr()}] = nl.Neigh{NeighKey: nl.NeighKey{Link: flannel1, IP: stale.Addr()}, MAC: nl.MAC{2, 9}, Permanent: true}
		learned := nl.NeighKey{Link: flannel1, IP: netip.MustParseAddr("10.244.9.9")}
		e.have.neighs[learned] = nl.Neigh{NeighKey: learned, MAC: nl.MAC{2, 8}}
		key := nl.FDBKey{Link: flannel1, MAC: nl.MAC{2, 9}}
		e.have.fdb[key] = []nl.FDB{{FDBKey: key, Dst: netip.MustParseAddr("192.168.0.9"), Permanent: true}}
		want := `ip route del 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink proto 116
ip neigh del 10.244.9.0 dev flannel.1
bridge fdb del 02:09:00:00:00:00 dev flannel.1 dst 192.168.0.9 self
`
		if d := cmp.Diff(want, e.settleAll(t)); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
		if d := cmp.Diff([]string{"10.244.8.0/24 via 10.244.8.0 dev flannel.1 onlink proto 3"}, e.routes().Foreign); d != "" {
			t.Errorf("foreign routes (-want +got)\n%s", d)
		}
		e.takeOver = true
		if d := cmp.Diff("ip route del 10.244.8.0/24 via 10.244.8.0 dev flannel.1 onlink proto 3\n", e.settleAll(t)); d != "" {
			t.Errorf("taken over (-want +got)\n%s", d)
		}
	})
}

// TestLeftOut: a peer that cannot be programmed says why, and is in nobody's way.
func TestLeftOut(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*state.Peer)
		why    string
	}{
		{"this node's subnet", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.0.0/25") }, "overlaps this node's 10.244.0.0/24"},
		{"outside the network", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("192.168.0.0/24") }, "outside the network"},
		{"the whole world", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("0.0.0.0/0") }, "overlaps this node's"},
		{"another's subnet", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.1.0/24") }, "node n1 claims its subnet 10.244.1.0/24 too"},
		{"a part of another's", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.1.64/26") }, "node n1 claims its subnet 10.244.1.0/24 too"},
		{"more than another's", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.0.0/16") }, "overlaps this node's"},
		{"another's and more", func(p *state.Peer) { p.Subnet.IPv4 = netip.MustParsePrefix("10.244.2.0/23") }, "node n2 claims its subnet 10.244.2.0/24 too"},
		{"another's MAC address", func(p *state.Peer) { p.Backend.Data = vtep("02:00:00:00:00:01") }, "node n1 claims its MAC address"},
		{"this node's MAC address", func(p *state.Peer) { p.Backend.Data = vtep("02:00:00:00:00:00") }, "is this node's"},
		{"this node's public address", func(p *state.Peer) { p.PublicIP.IPv4 = netip.MustParseAddr("192.168.0.10") }, "is this node's"},
		{"its own subnet's address", func(p *state.Peer) { p.PublicIP.IPv4 = netip.MustParseAddr("10.244.50.9") }, "inside its own subnet"},
		{"a multicast address", func(p *state.Peer) { p.PublicIP.IPv4 = netip.MustParseAddr("224.0.0.1") }, `key "publicIP.ipv4"`},
		{"no public address", func(p *state.Peer) { p.PublicIP.IPv4 = netip.Addr{} }, "no public ipv4 address"},
		{"no data", func(p *state.Peer) { p.Backend.Data = nil }, "no ipv4 end of the tunnel yet"},
		{"null data", func(p *state.Peer) { p.Backend.Data = json.RawMessage("null") }, "no ipv4 end of the tunnel yet"},
		{"junk data", func(p *state.Peer) { p.Backend.Data = json.RawMessage(`"x"`) }, `key "backend.data"`},
		{"no MAC address", func(p *state.Peer) { p.Backend.Data = vtep("") }, `key "backend.data.VtepMAC"`},
		{"other VNI", func(p *state.Peer) { p.Backend.Data = json.RawMessage(`{"VNI":7,"VtepMAC":"02:00:00:00:00:09"}`) }, "its VNI is 7, this node's 1"},
		{"other backend", func(p *state.Peer) { p.Backend.Type = "host-gw" }, "its backend is host-gw"},
		{"other family only", func(p *state.Peer) {
			p.Subnet = state.Pair[netip.Prefix]{IPv6: netip.MustParsePrefix("fd00::/64")}
		}, "no subnet of a family"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := world(typeVXLAN, false)
			e.put(peerOf(1))
			e.put(peerOf(2))
			ok := e.settleAll(t)
			p := peerOf(50)
			tc.change(&p)
			e.put(p)
			if got := e.texts(e.diff(e.update([]string{p.Node}))); got != "" {
				t.Errorf("changes:\n%s", got)
			}
			r := e.routes()
			if r.Peers != 2 || !strings.Contains(r.LeftOut["n50"], tc.why) {
				t.Errorf("%d peers, left out %q, want %q", r.Peers, r.LeftOut["n50"], tc.why)
			}
			// whoever goes makes room
			delete(e.files.peers, "n1")
			delete(e.files.peers, "n2")
			e.perform(e.diff(e.update([]string{"n1", "n2"})))
			if strings.Contains(tc.why, "claims") && (len(e.want.routes) != 1 || e.routes().Peers != 1) {
				t.Errorf("still left out: %q", e.routes().LeftOut)
			}
			_ = ok
		})
	}
}

// TestManyClaims compares the incremental decision with one from scratch through a long random-like
// sequence of comings and goings with clashes.
func TestManyClaims(t *testing.T) {
	e := world(typeVXLAN, false)
	e.rebuild()
	seed := uint32(1)
	next := func(n uint32) uint32 { seed = seed*1664525 + 1013904223; return seed >> 8 % 24 % n }
	for step := range 600 {
		node := fmt.Sprintf("n%d", 1+next(12))
		if next(4) == 0 {
			delete(e.files.peers, node)
		} else {
			p := peerOf(1 + int(next(12)))
			p.Node = node
			if next(5) == 0 {
				p.Subnet.IPv4 = netip.PrefixFrom(p.Subnet.IPv4.Addr(), 23).Masked()
			}
			if next(3) == 0 {
				p.Backend.Data = vtep(fmt.Sprintf("02:00:00:00:00:%02x", 1+next(12)))
			}
			e.put(p)
		}
		e.perform(e.diff(e.update([]string{node})))
		if rest := e.texts(e.diff(nil)); rest != "" {
			t.Fatalf("step %d: left over:\n%s", step, rest)
		}
		inc, left := fmt.Sprint(e.want), fmt.Sprint(e.routes().LeftOut)
		e.rebuild()
		if again := fmt.Sprint(e.want); again != inc {
			t.Fatalf("step %d: incrementally\n%s\nfrom scratch\n%s", step, inc, again)
		}
		if again := fmt.Sprint(e.routes().LeftOut); again != left {
			t.Fatalf("step %d: left out incrementally\n%s\nfrom scratch\n%s", step, left, again)
		}
	}
}
