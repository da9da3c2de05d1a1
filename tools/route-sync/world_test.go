package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

const (
	flannel1 = 7 // indexes of devices
	eth0     = 2
	flannel6 = 8
)

// world is an engine without a kernel: diff, do the changes, look what is left.
func world(kind string, direct bool) *engine {
	e := &engine{failed: map[string]string{}, conflicts: map[string]string{}, files: files{run: "run", synced: true, peers: map[string]*peerFile{}}}
	e.view = view{
		node: "me", kind: kind, direct: direct, uplink: device{name: "eth0", index: eth0},
		ours: map[int]string{flannel1: "flannel.1", flannel6: "flannel-v6.1"}, vteps: map[int]string{flannel1: "flannel.1", flannel6: "flannel-v6.1"},
		names: map[int]string{flannel1: "flannel.1", eth0: "eth0", flannel6: "flannel-v6.1"},
	}
	e.view.network.IPv4, e.view.subnet.IPv4 = netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.244.0.0/24")
	e.view.publicIP.IPv4 = netip.MustParseAddr("192.168.0.10")
	e.view.device.IPv4 = device{name: "flannel.1", index: flannel1, vni: 1, mac: "02:00:00:00:00:00"}
	if kind == typeHostGW {
		e.view.device.IPv4 = e.view.uplink
		e.view.ours, e.view.vteps = map[int]string{}, map[int]string{}
	}
	e.onLink = map[netip.Addr]bool{}
	e.have = kernel{routes: map[netip.Prefix][]nl.Route{}, neighs: map[nl.NeighKey]nl.Neigh{}, fdb: map[nl.FDBKey][]nl.FDB{}}
	return e
}

func (e *engine) dual() *engine {
	e.view.network.IPv6, e.view.subnet.IPv6 = netip.MustParsePrefix("fd00:10::/48"), netip.MustParsePrefix("fd00:10::/64")
	e.view.publicIP.IPv6 = netip.MustParseAddr("fd00::10")
	e.view.device.IPv6 = device{name: "flannel-v6.1", index: flannel6, vni: 1, mac: "02:06:00:00:00:00"}
	return e
}

// peerOf is node number i.
func peerOf(i int) state.Peer {
	p := state.Peer{Version: 1, Node: fmt.Sprintf("n%d", i)}
	second := byte(244)
	if i > 255 {
		second = 100 + byte(i>>8)
	}
	p.Subnet.IPv4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, byte(i), 0}), 24)
	p.PublicIP.IPv4 = netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
	p.Backend = state.Published{Type: typeVXLAN, Data: vtep(fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255))}
	return p
}

func vtep(mac string) json.RawMessage {
	return json.RawMessage(`{"VNI":1,"VtepMAC":"` + mac + `"}`)
}

func dualPeer(i int) state.Peer {
	p := peerOf(i)
	p.Subnet.IPv6 = netip.MustParsePrefix(fmt.Sprintf("fd00:10:0:%x::/64", i))
	p.PublicIP.IPv6 = netip.MustParseAddr(fmt.Sprintf("fd00::%x", i))
	p.Backend.DataV6 = vtep(fmt.Sprintf("02:06:00:00:%02x:%02x", i>>8, i&255))
	return p
}

func (e *engine) put(p state.Peer) {
	e.files.peers[p.Node] = &peerFile{peer: p, known: true}
}

func (e *engine) texts(changes []change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

// perform does to the known state what the kernel would do, and tell.
func (e *engine) perform(changes []change) {
	for _, c := range changes {
		switch c := c.Change.(type) {
		case nl.RouteChange:
			e.take(nl.Event{What: nl.RouteEvent, Gone: c.Verb == nl.Delete, Replaced: c.Verb == nl.Replace, Route: c.Route}, newKeys())
		case nl.NeighChange:
			e.take(nl.Event{What: nl.NeighEvent, Gone: c.Verb == nl.Delete, Neigh: c.Neigh}, newKeys())
		case nl.FDBChange:
			e.take(nl.Event{What: nl.FDBEvent, Gone: c.Verb == nl.Delete, FDB: c.FDB}, newKeys())
		}
	}
}

func (e *engine) settleAll(t *testing.T) string {
	t.Helper()
	e.rebuild()
	changes := e.diff(nil)
	e.perform(changes)
	if again := e.texts(e.diff(nil)); again != "" {
		t.Errorf("the second pass is not empty:\n%s", again)
	}
	return e.texts(changes)
}
