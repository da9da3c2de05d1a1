package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/state"
)

// peer is another node as a tunnel knows it.
type peer struct {
	Node      string
	PSK       secret
	Endpoint  netip.AddrPort
	Keepalive time.Duration
	Allowed   []netip.Prefix // sorted
}

// ends is what a node publishes of each family.
type ends = state.Pair[state.WireGuardData]

// peersOf gives every tunnel its peers. One node's fault is told in leftOut and is no other's: a node is left out of the tunnel
// that it does not fit. Of two nodes that claim one key or one subnet the first by name is a peer, on every node alike.
func peersOf(want []tunnel, in state.BackendInput, set settings, all common, nodes map[string]state.Peer) (leftOut map[string]string) {
	leftOut = map[string]string{}
	held := make(map[netip.Prefix]string, len(nodes))
	var own wgtypes.Key // of every tunnel the same; it takes as long to compute as all else of a peer
	for i := range want {
		own = want[i].Key.public()
		want[i].Peers = make(map[wgtypes.Key]peer, len(nodes))
	}
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		told, err := endsOf(nodes[node])
		if err != nil {
			leftOut[node] = err.Error()
			continue
		}
		for i := range want {
			key, p, err := peerOf(want[i], in, set, nodes[node], told)
			if err == nil && len(p.Allowed) == 0 {
				continue // it has no subnet of a family that the tunnel carries
			}
			if err == nil {
				err = claim(want[i], own, key, p, held)
			}
			if err != nil {
				leftOut[node] = fmt.Sprintf("%s: %v", want[i].Name, err)
				continue
			}
			p.Node, p.PSK, p.Keepalive = node, all.PSK, all.Keepalive
			want[i].Peers[key] = p
		}
	}
	return leftOut
}

func claim(w tunnel, own, key wgtypes.Key, p peer, held map[netip.Prefix]string) error {
	if key == own {
		return errors.New("it has this node's own key: two nodes run from one image?")
	}
	if other, ok := w.Peers[key]; ok {
		return fmt.Errorf("node %s has its key too", other.Node)
	}
	for _, a := range p.Allowed {
		if other := held[a]; other != "" {
			return fmt.Errorf("node %s claims its subnet %s too", other, a)
		}
	}
	for _, a := range p.Allowed {
		held[a] = p.Node
	}
	return nil
}

func endsOf(p state.Peer) (told ends, err error) {
	if p.Backend.Type != backend {
		return told, fmt.Errorf("its back end is %s", p.Backend.Type)
	}
	for f, raw := range map[state.Family]json.RawMessage{state.IPv4: p.Backend.Data, state.IPv6: p.Backend.DataV6} {
		var data state.WireGuardData
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, &data); err != nil {
			return told, fmt.Errorf("what it publishes for %s cannot be read", f)
		}
		told.Set(f, data)
	}
	return told, nil
}

// peerOf is a node as a peer of a tunnel. Nothing allowed: it is none.
func peerOf(w tunnel, in state.BackendInput, set settings, node state.Peer, told ends) (key wgtypes.Key, p peer, err error) {
	p.Node = node.Node
	for _, f := range w.Families {
		if node.Subnet.Has(f) {
			p.Allowed = append(p.Allowed, node.Subnet.Of(f))
		}
	}
	if len(p.Allowed) == 0 {
		return key, p, nil
	}
	slices.SortFunc(p.Allowed, comparePrefix)
	over := w.Families[0]
	if set.Mode != modeSeparate {
		over = outer(set.Mode, in, node)
	}
	data := told.Of(over)
	if data == (state.WireGuardData{}) && set.Mode != modeSeparate { // an end that knows one family only tells of that one
		data = told.IPv4
		if data == (state.WireGuardData{}) {
			data = told.IPv6
		}
	}
	key, err = wgtypes.ParseKey(data.PublicKey)
	switch {
	case data.PublicKey == "":
		return key, p, fmt.Errorf("it publishes no key for %s", over)
	case err != nil || key == wgtypes.Key{}:
		return key, p, fmt.Errorf("%.60q is no public key", data.PublicKey)
	case !node.PublicIP.Has(over):
		return key, p, fmt.Errorf("it has no public %s address", over)
	case data.Port < 0 || data.Port > 65535:
		return key, p, fmt.Errorf("%d is no UDP port", data.Port)
	case data.Port == 0:
		data.Port = w.Port // flannel of before it published ports
	}
	p.Endpoint = netip.AddrPortFrom(node.PublicIP.Of(over), uint16(data.Port))
	return key, p, nil
}

// outer is the family below a tunnel for both. In the mode auto it is IPv4, unless only IPv6 can lead there, or only IPv6
// leads there without translation of addresses.
func outer(mode string, in state.BackendInput, node state.Peer) state.Family {
	if mode != modeAuto {
		return state.Family(mode)
	}
	can := func(f state.Family) bool { return node.PublicIP.Has(f) && in.PublicIP.Has(f) }
	open := func(f state.Family) bool { return can(f) && !node.PublicIP.Of(f).IsPrivate() }
	switch {
	case !can(state.IPv6) || open(state.IPv4):
		return state.IPv4
	case !can(state.IPv4):
		return state.IPv6
	case open(state.IPv6) && !in.PublicIP.IPv6.IsPrivate():
		return state.IPv6
	}
	return state.IPv4
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
