package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// span is a run of addresses that pods may get, both ends included.
type span struct {
	Subnet     netip.Prefix
	Start, End netip.Addr
	Gateway    netip.Addr
}

func (s span) contains(a netip.Addr) bool {
	return s.Subnet.Contains(a) && s.Start.Compare(a) <= 0 && a.Compare(s.End) <= 0
}

// spanSet is spans of which a pod gets one address. Its place in the configuration is host-local's
// range identifier: the number in last_reserved_ip.N.
type spanSet []span

func (set spanSet) of(a netip.Addr) (span, bool) {
	for _, s := range set {
		if s.contains(a) {
			return s, true
		}
	}
	return span{}, false
}

// next walks the set from the address after last, and around, until it has seen every address once
// or yield returns false. Gateways are left out.
func (set spanSet) next(last netip.Addr, yield func(netip.Addr, span) bool) {
	at := 0
	from := set[0].Start
	for i, s := range set {
		if s.contains(last) {
			at, from = i, last.Next()
			if last == s.End {
				at = (i + 1) % len(set)
				from = set[at].Start
			}
		}
	}
	a, first := from, true
	for {
		s := set[at]
		if a == from && !first {
			return
		}
		first = false
		if a != s.Gateway && !yield(a, s) {
			return
		}
		if a == s.End {
			at = (at + 1) % len(set)
			a = set[at].Start
		} else {
			a = a.Next()
		}
	}
}

func (set spanSet) String() string {
	var parts []string
	for _, s := range set {
		if text := s.Subnet.String(); s.whole() {
			parts = append(parts, text)
		} else {
			parts = append(parts, fmt.Sprintf("%s (%s to %s)", text, s.Start, s.End))
		}
	}
	return strings.Join(parts, ", ")
}

func (s span) whole() bool {
	w := wholeSpan(s.Subnet, s.Gateway)
	return s.Start == w.Start && s.End == w.End
}

// wholeSpan is every address of a subnet that a pod may have: without the network's own address
// and, for IPv4, the broadcast address.
func wholeSpan(subnet netip.Prefix, gateway netip.Addr) span {
	s := span{Subnet: subnet, Start: subnet.Addr().Next(), End: nl.Last(subnet), Gateway: gateway}
	if subnet.Addr().Is4() {
		s.End = s.End.Prev()
	}
	return s
}

// spanSets are the sets of this node: the lease's subnets, IPv4 first, or the configured ranges
// inside them.
func spanSets(env subnetEnv, ranges [][]rangeConf) ([]spanSet, error) {
	var sets []spanSet
	if len(ranges) == 0 {
		for _, f := range state.Families {
			if env.Subnet.Has(f) {
				sets = append(sets, spanSet{wholeSpan(env.Subnet.Of(f), env.Gateway.Of(f))})
			}
		}
		return sets, nil
	}
	for i, confs := range ranges {
		var set spanSet
		for j, conf := range confs {
			s, err := conf.span(env)
			if err != nil {
				return nil, &state.KeyError{Key: fmt.Sprintf("ipam.ranges[%d][%d]", i, j), Err: err}
			}
			if j > 0 && s.Subnet.Addr().Is4() != set[0].Subnet.Addr().Is4() {
				return nil, &state.KeyError{Key: fmt.Sprintf("ipam.ranges[%d]", i), Err: fmt.Errorf("mixes IPv4 and IPv6")}
			}
			set = append(set, s)
		}
		if len(set) > 0 {
			sets = append(sets, set)
		}
	}
	return sets, overlap(sets)
}

func overlap(sets []spanSet) error {
	var all []span
	for _, set := range sets {
		for _, s := range set {
			for _, o := range all {
				if s.contains(o.Start) || o.contains(s.Start) {
					return &state.KeyError{Key: "ipam.ranges", Err: fmt.Errorf("%s to %s overlaps %s to %s", s.Start, s.End, o.Start, o.End)}
				}
			}
			all = append(all, s)
		}
	}
	return nil
}

// span fills in what is left out and checks that the range is inside this node's subnet. Flannel's
// plugin throws configured ranges away without a word.
func (c rangeConf) span(env subnetEnv) (span, error) {
	family := state.IPv4
	for _, a := range []netip.Addr{c.Subnet.Addr(), c.Start, c.End} {
		if a.IsValid() {
			family = state.FamilyOf(a)
		}
	}
	lease := env.Subnet.Of(family)
	subnet := c.Subnet.Masked()
	if !c.Subnet.IsValid() {
		subnet = lease
	}
	if !lease.IsValid() || !subnet.IsValid() || subnet.Bits() < lease.Bits() || !lease.Contains(subnet.Addr()) {
		return span{}, fmt.Errorf("%s is outside this node's subnet %s", subnet, lease)
	}
	if subnet.Addr().BitLen()-subnet.Bits() < 2 {
		return span{}, fmt.Errorf("%s is too small to allocate from", subnet)
	}
	s := wholeSpan(subnet, env.Gateway.Of(family))
	if subnet != lease {
		s.Gateway = subnet.Addr().Next()
	}
	if c.Gateway.IsValid() {
		s.Gateway = c.Gateway
	}
	for _, a := range []netip.Addr{c.Start, c.End} {
		if a.IsValid() && !s.contains(a) {
			return span{}, fmt.Errorf("%s is not an address for pods of %s", a, subnet)
		}
	}
	if c.Start.IsValid() {
		s.Start = c.Start
	}
	if c.End.IsValid() {
		s.End = c.End
	}
	if s.End.Less(s.Start) {
		return span{}, fmt.Errorf("rangeEnd %s comes before rangeStart %s", s.End, s.Start)
	}
	return s, nil
}
