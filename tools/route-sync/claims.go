package main

import (
	"net/netip"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// claims knows who claims which subnet and which MAC address. Where two claim the same, the node
// whose name comes first has it: every node of the cluster decides the same way. A look-up costs the
// same whatever the number of peers, as long as subnets are of one length.
type claims struct {
	subnets map[netip.Prefix][]string
	lengths map[int]int // how many subnets of each length, per family apart: IPv6 ones are negative
	macs    state.Pair[*map[nl.MAC][]string]
}

func newClaims() *claims {
	return &claims{
		subnets: map[netip.Prefix][]string{}, lengths: map[int]int{},
		macs: state.Pair[*map[nl.MAC][]string]{IPv4: &map[nl.MAC][]string{}, IPv6: &map[nl.MAC][]string{}},
	}
}

func lengthKey(p netip.Prefix) int {
	if p.Addr().Is6() {
		return -1 - p.Bits()
	}
	return p.Bits()
}

func (c *claims) add(node string, f state.Family, cl claim) {
	if cl.subnet.IsValid() {
		c.subnets[cl.subnet] = append(c.subnets[cl.subnet], node)
		c.lengths[lengthKey(cl.subnet)]++
	}
	if macs := *c.macs.Of(f); cl.mac != (nl.MAC{}) {
		macs[cl.mac] = append(macs[cl.mac], node)
	}
}

func (c *claims) remove(node string, f state.Family, cl claim) {
	if cl.subnet.IsValid() {
		drop(c.subnets, cl.subnet, node)
		if c.lengths[lengthKey(cl.subnet)]--; c.lengths[lengthKey(cl.subnet)] == 0 {
			delete(c.lengths, lengthKey(cl.subnet))
		}
	}
	if cl.mac != (nl.MAC{}) {
		drop(*c.macs.Of(f), cl.mac, node)
	}
}

func drop[K comparable](m map[K][]string, key K, node string) {
	nodes := m[key]
	for i, n := range nodes {
		if n == node {
			nodes = append(nodes[:i:i], nodes[i+1:]...)
			break
		}
	}
	if m[key] = nodes; len(nodes) == 0 {
		delete(m, key)
	}
}

// rivals calls f for each other node whose claim is in the way of cl, with what they both claim.
func (c *claims) rivals(node string, family state.Family, cl claim, f func(rival, what string)) {
	tell := func(nodes []string, what string) {
		for _, n := range nodes {
			if n != node {
				f(n, what)
			}
		}
	}
	if cl.mac != (nl.MAC{}) {
		tell((*c.macs.Of(family))[cl.mac], "MAC address "+cl.mac.String())
	}
	if !cl.subnet.IsValid() {
		return
	}
	longer := false
	for key := range c.lengths {
		bits := key
		if key < 0 {
			bits = -1 - key
		}
		switch {
		case key < 0 != cl.subnet.Addr().Is6():
		case bits > cl.subnet.Bits():
			longer = true
		default:
			p := netip.PrefixFrom(cl.subnet.Addr(), bits).Masked()
			tell(c.subnets[p], "subnet "+p.String())
		}
	}
	if !longer {
		return
	}
	for p, nodes := range c.subnets { // only where lengths are mixed
		if p.Bits() > cl.subnet.Bits() && p.Overlaps(cl.subnet) {
			tell(nodes, "subnet "+p.String())
		}
	}
}
