package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
)

// Request is what a node asks of the store.
type Request struct {
	Node string
	Conf netconf.Config
	Path string // of Conf, for messages
	// PublicIP and Backend are to be published; a Backend without type leaves what is published.
	PublicIP state.Pair[netip.Addr]
	Backend  state.Published
	// Before is the subnets of the node's last lease.json, preferred where they are free.
	Before state.Pair[netip.Prefix]
	// Known is what this node knows of the subnets of those whose records cannot be read.
	Known []netip.Prefix
	// Uplink is never leased to pods: it leads to the other nodes.
	Uplink Uplink
	TTL    time.Duration
	Margin time.Duration // before the expiry, at which a lease is renewed
}

// Pick decides on the node's record: its own subnets where they still fit the configuration, else those
// it had before, else the lowest free ones. Notices say what had to be given up, for the log.
func (q Request) Pick(now time.Time, all Listing) (r Record, notices []string, err error) {
	own := all.Entries[q.Node]
	if own.Err != nil {
		return r, nil, exit.WithHint(own.Err, "give the lease back with `subnet-lease release --node %s`, or repair the file", q.Node)
	}
	r = Record{Version: state.Version, Node: q.Node, Granted: stamp(now), Expires: stamp(now.Add(q.TTL))}
	if own.Record != nil {
		r = *own.Record
	}
	reserved := own.Record != nil && own.Record.Reserved()
	for _, f := range state.Families {
		have := r.Subnet.Of(f)
		if !q.Conf.Network.Has(f) {
			r.Subnet.Set(f, netip.Prefix{})
			continue
		}
		if have.IsValid() {
			why := unfit(q.Conf, f, have, reserved)
			if why == "" {
				if on := q.Uplink.overlapping(have, q.Conf.Network.Of(f)); len(on) > 0 {
					return r, notices, q.clash(f, on, fmt.Sprintf("the subnet %s of node %q", have, q.Node))
				}
				continue
			}
			notices = append(notices, fmt.Sprintf("subnet %s is given up: it %s", have, why))
		}
		subnet, err := q.subnet(now, all, f)
		if err != nil {
			return r, notices, err
		}
		r.Subnet.Set(f, subnet)
		r.Granted = stamp(now)
	}
	if !reserved && !now.Before(r.Expires.Add(-q.Margin)) {
		r.Expires = stamp(now.Add(q.TTL))
	}
	r.PublicIP = q.PublicIP
	switch {
	case q.Backend.Type != "":
		r.Backend = canonical(q.Backend)
	case r.Backend.Type == "":
		r.Backend = state.Published{Type: q.Conf.Backend.Type}
	}
	return r, notices, nil
}

// unfit says why a subnet cannot be used with a configuration; "" when it can. A reserved one may lie
// outside SubnetMin and SubnetMax.
func unfit(conf netconf.Config, f state.Family, subnet netip.Prefix, reserved bool) string {
	network, lo, hi := conf.Network.Of(f), conf.SubnetMin.Of(f), conf.SubnetMax.Of(f)
	switch {
	case subnet.Bits() != conf.SubnetLen.Of(f):
		return fmt.Sprintf("is no /%d, which subnets are now", conf.SubnetLen.Of(f))
	case !network.Contains(subnet.Addr()):
		return fmt.Sprintf("lies outside the network %s", network)
	case !reserved && (subnet.Addr().Less(lo.Addr()) || hi.Addr().Less(subnet.Addr())):
		return fmt.Sprintf("lies outside SubnetMin %s and SubnetMax %s", lo, hi)
	}
	return ""
}

// subnet finds a free subnet. Expired leases of others are taken only when there is no other, so that
// a node that was away for long finds its subnet again.
func (q Request) subnet(now time.Time, all Listing, f state.Family) (netip.Prefix, error) {
	var live, expired []netip.Prefix
	claim := func(claims []netip.Prefix) {
		for _, p := range claims {
			if state.FamilyOf(p.Addr()) == f {
				live = append(live, p)
			}
		}
	}
	lo, hi := q.Conf.SubnetMin.Of(f), q.Conf.SubnetMax.Of(f)
	on := q.Uplink.overlapping(q.Conf.Network.Of(f), q.Conf.Network.Of(f))
	if _, ok := lowestFree(lo, hi, networks(on)); !ok {
		return netip.Prefix{}, q.clash(f, on, fmt.Sprintf("every subnet from %s to %s", lo, hi))
	}
	claim(networks(on))
	claim(q.Known)
	for _, node := range slices.Sorted(maps.Keys(all.Entries)) {
		e := all.Entries[node]
		if node == q.Node {
			continue
		}
		claim(e.Claims)
		switch {
		case e.Record == nil || !e.Record.Subnet.Has(f):
		case e.Record.Expired(now):
			expired = append(expired, e.Record.Subnet.Of(f))
		default:
			live = append(live, e.Record.Subnet.Of(f))
		}
	}
	if b := q.Before.Of(f); b.IsValid() && unfit(q.Conf, f, b, false) == "" &&
		!slices.ContainsFunc(append(live, expired...), b.Overlaps) {
		return b, nil
	}
	for _, taken := range [][]netip.Prefix{append(slices.Clone(live), expired...), live} {
		if p, ok := lowestFree(lo, hi, taken); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, exit.WithHint(
		exit.Errorf(exit.TryAgain, "no free subnet: every /%d from SubnetMin %s to SubnetMax %s is leased", lo.Bits(), lo, hi),
		"see `subnet-lease list`; release what is not used, or widen Network, SubnetMin and SubnetMax in net-conf.json")
}

// lowestFree is the first subnet from lo to hi, of lo's length, that overlaps none of taken (which may
// have any length). It takes time by the number of taken ones, not by that of subnets.
func lowestFree(lo, hi netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	blocks := make([]netip.Prefix, len(taken))
	for i, t := range taken {
		blocks[i] = netip.PrefixFrom(t.Addr(), min(t.Bits(), lo.Bits())).Masked()
	}
	slices.SortFunc(blocks, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	free := lo
	for _, b := range blocks {
		if !b.Overlaps(free) {
			if free.Addr().Less(b.Addr()) {
				break
			}
			continue
		}
		next := netconf.Last(b).Next() // invalid after the very last address
		if free = netip.PrefixFrom(next, lo.Bits()); !next.IsValid() || hi.Addr().Less(next) {
			return netip.Prefix{}, false
		}
	}
	return free, true
}

// change says what has to be done to the store so that it holds want, in the words of the verbs; "" is
// nothing.
func change(have *Record, want Record) string {
	switch {
	case have == nil || have.Subnet != want.Subnet:
		return "acquire"
	case have.PublicIP != want.PublicIP || !samePublished(have.Backend, want.Backend):
		return "publish"
	case !have.Expires.Equal(want.Expires):
		return "renew"
	}
	return ""
}

// reservation decides on a record of the given subnets that never expires.
func reservation(now time.Time, node string, subnets state.Pair[netip.Prefix], all Listing) (Record, error) {
	own := all.Entries[node]
	if own.Err != nil {
		return Record{}, exit.WithHint(own.Err, "give the lease back with `subnet-lease release --node %s`, or repair the file", node)
	}
	r := Record{Version: state.Version, Node: node, Granted: stamp(now)}
	if own.Record != nil {
		r = *own.Record
	}
	r.Expires = time.Time{}
	for _, f := range state.Families {
		want, have := subnets.Of(f), r.Subnet.Of(f)
		if !want.IsValid() || want == have {
			continue
		}
		if have.IsValid() && !own.Record.Expired(now) {
			return r, exit.WithHint(exit.Errorf(exit.BadConfig, "reserve %s: node %q holds %s", want, node, have),
				"a node in use would lose its pods' addresses: stop it and `subnet-lease release --node %s` first", node)
		}
		r.Subnet.Set(f, want)
		r.Granted = stamp(now)
	}
	for _, other := range slices.Sorted(maps.Keys(all.Entries)) {
		e := all.Entries[other]
		taken := e.Record != nil && !e.Record.Expired(now) && overlap(e.Record.Subnet, r.Subnet)
		taken = taken || slices.ContainsFunc(e.Claims, func(p netip.Prefix) bool { return p.Overlaps(r.Subnet.IPv4) || p.Overlaps(r.Subnet.IPv6) })
		if other != node && taken {
			return r, exit.WithHint(exit.Errorf(exit.TryAgain, "reserve for %q: node %q holds the subnet", node, other),
				"see `subnet-lease list`")
		}
	}
	return r, nil
}
