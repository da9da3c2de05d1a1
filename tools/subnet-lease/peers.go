package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
)

// peerSet is the other nodes' records, and which of them are peers. One changed record costs the
// look-ups of its own subnets, whatever the size of the cluster.
type peerSet struct {
	own     Record
	uplink  state.Pair[netip.Addr] // this node's addresses on the interface between the nodes
	conf    netconf.Config
	entries map[string]Entry
	holders map[netip.Prefix][]string // nodes by subnet
	lengths map[subnetLength]int      // how many holders
}

type subnetLength struct {
	f    state.Family
	bits int
}

// decision is what becomes of peers/NODE.json.
type decision struct {
	peer *state.Peer // to be written; nil: to be removed, unless keep
	keep bool        // the record cannot be read: what is known of the peer stays
	why  string      // not empty: something about the record is wrong
}

func newPeerSet(own Record, uplink state.Pair[netip.Addr], conf netconf.Config, all Listing) *peerSet {
	s := &peerSet{
		own: own, uplink: uplink, conf: conf, entries: make(map[string]Entry, len(all.Entries)),
		holders: make(map[netip.Prefix][]string, len(all.Entries)), lengths: map[subnetLength]int{},
	}
	for node, e := range all.Entries {
		s.set(node, e)
	}
	return s
}

// put takes a changed record in and returns the nodes whose decision may have changed with it.
func (s *peerSet) put(node string, e Entry) []string {
	touched := map[string]bool{node: true}
	touch := func(other string) { touched[other] = true }
	each(s.entries[node], func(p netip.Prefix) { s.overlapping(p, touch) })
	s.set(node, e)
	each(e, func(p netip.Prefix) { s.overlapping(p, touch) })
	return slices.Sorted(maps.Keys(touched))
}

func (s *peerSet) set(node string, e Entry) {
	if node == s.own.Node {
		return
	}
	each(s.entries[node], func(p netip.Prefix) {
		s.holders[p] = slices.DeleteFunc(s.holders[p], func(n string) bool { return n == node })
		if len(s.holders[p]) == 0 {
			delete(s.holders, p)
		}
		s.lengths[lengthOf(p)]--
	})
	each(e, func(p netip.Prefix) {
		s.holders[p] = append(s.holders[p], node)
		s.lengths[lengthOf(p)]++
	})
	if s.entries[node] = e; e.gone() {
		delete(s.entries, node)
	}
}

// each calls f for every subnet of an entry.
func each(e Entry, f func(netip.Prefix)) {
	if e.Record == nil {
		return
	}
	for _, family := range state.Families {
		if p := e.Record.Subnet.Of(family); p.IsValid() {
			f(p)
		}
	}
}

func lengthOf(p netip.Prefix) subnetLength {
	return subnetLength{f: state.FamilyOf(p.Addr()), bits: p.Bits()}
}

// overlapping calls f for every node that holds a subnet which overlaps p. All subnets of a cluster
// have one length, but for a moment after its configuration was changed; only then all are looked at.
func (s *peerSet) overlapping(p netip.Prefix, f func(node string)) {
	for l, n := range s.lengths {
		switch {
		case n == 0 || l.f != state.FamilyOf(p.Addr()):
		case l.bits <= p.Bits():
			for _, node := range s.holders[netip.PrefixFrom(p.Addr(), l.bits).Masked()] {
				f(node)
			}
		default:
			for other, nodes := range s.holders {
				if other.Bits() == l.bits && p.Contains(other.Addr()) {
					for _, node := range nodes {
						f(node)
					}
				}
			}
		}
	}
}

// decide says what becomes of a node's file.
func (s *peerSet) decide(node string, now time.Time) decision {
	e := s.entries[node]
	r := e.Record
	switch {
	case e.Err != nil:
		return decision{keep: true, why: e.Err.Error()}
	case r == nil || r.Expired(now) || !r.Announced():
		return decision{}
	}
	if why := s.unsafe(r); why != "" {
		return decision{why: why}
	}
	d := decision{}
	holder := ""
	each(e, func(p netip.Prefix) {
		if network := s.conf.Network.Of(state.FamilyOf(p.Addr())); network.IsValid() && !network.Contains(p.Addr()) {
			d.why = fmt.Sprintf("subnet %s lies outside the network %s; it stays a peer", p, network)
		}
		s.overlapping(p, func(other string) {
			o := s.entries[other].Record
			if other != node && !o.Expired(now) && o.Announced() && older(o, r) && (holder == "" || other < holder) {
				holder = other
			}
		})
	})
	if holder != "" {
		return decision{why: fmt.Sprintf("subnet %s overlaps that of node %q, which had it first", pairText(r.Subnet), holder)}
	}
	peer := r.peer()
	d.peer = &peer
	return d
}

// unsafe says why routes to a record's subnets would break this node's own traffic.
func (s *peerSet) unsafe(r *Record) (why string) {
	for _, f := range state.Families {
		p := r.Subnet.Of(f)
		if !p.IsValid() {
			continue
		}
		if own := s.own.Subnet.Of(f); own.IsValid() && p.Overlaps(own) {
			return fmt.Sprintf("subnet %s overlaps this node's own %s", p, own)
		}
		for _, a := range []netip.Addr{s.uplink.Of(f), s.own.PublicIP.Of(f), r.PublicIP.Of(f)} {
			if a.IsValid() && p.Contains(a) {
				return fmt.Sprintf("subnet %s holds %s, an address of the network between the nodes", p, a)
			}
		}
	}
	for _, f := range state.Families {
		if a := r.PublicIP.Of(f); a.IsValid() && a == s.own.PublicIP.Of(f) {
			return fmt.Sprintf("public address %s is this node's own", a)
		}
	}
	return ""
}

// older orders two records that overlap, alike on every node.
func older(a, b *Record) bool {
	return cmp.Or(cmp.Compare(a.Created, b.Created), a.Granted.Compare(b.Granted), cmp.Compare(a.Node, b.Node)) < 0
}

// nextExpiry is when the next of the live records expires; zero: none does.
func (s *peerSet) nextExpiry(now time.Time) (next time.Time) {
	for _, e := range s.entries {
		if r := e.Record; r != nil && !r.Expires.IsZero() && !r.Expired(now) && (next.IsZero() || r.Expires.Before(next)) {
			next = r.Expires
		}
	}
	return next
}
