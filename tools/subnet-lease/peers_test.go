package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

func set(t testing.TB, records string) *peerSet {
	own := *record("a 10.244.0.0/24 fd00:10:244::/64")
	own.PublicIP.IPv4 = netip.MustParseAddr("192.168.7.1")
	uplink := state.Pair[netip.Addr]{IPv4: netip.MustParseAddr("10.0.0.1"), IPv6: netip.MustParseAddr("fd00:7::1")}
	return newPeerSet(own, uplink, conf(t, dual), listing(records))
}

func outcome(d decision) string {
	what := "no peer"
	switch {
	case d.peer != nil:
		what = "peer"
	case d.keep:
		what = "kept"
	}
	return strings.TrimSuffix(what+": "+d.why, ": ")
}

func TestDecide(t *testing.T) {
	for _, c := range []struct{ name, records, want string }{
		{"a peer", "z 10.244.1.0/24", "peer"},
		{"of two families", "z 10.244.1.0/24 fd00:10:244:1::/64", "peer"},
		{"gone", "", "no peer"},
		{"expired", "z 10.244.1.0/24 0s", "no peer"},
		{"reserved, not taken up", "z 10.244.1.0/24 reserved unannounced", "no peer"},
		{"reserved and taken up", "z 10.244.1.0/24 reserved", "peer"},
		{"unreadable", "z unreadable", "kept: unreadable"},
		{"overlaps our own", "z 10.244.0.0/25", "no peer: subnet 10.244.0.0/25 overlaps this node's own 10.244.0.0/24"},
		{"overlaps our own IPv6", "z 10.244.1.0/24 fd00:10::/32", "no peer: subnet fd00:10::/32 overlaps this node's own fd00:10:244::/64"},
		{"holds our uplink", "z 10.0.0.0/24", "no peer: subnet 10.0.0.0/24 holds 10.0.0.1, an address of the network between the nodes"},
		{"holds its own address", "z 192.168.7.0/24", "no peer: subnet 192.168.7.0/24 holds 192.168.7.1, an address of the network between the nodes"},
		{"outside the network", "z 10.99.0.0/24", "peer: subnet 10.99.0.0/24 lies outside the network 10.244.0.0/16; it stays a peer"},
		{"overlaps another, by name", "z 10.244.1.0/24, b 10.244.1.0/24", `no peer: subnet 10.244.1.0/24 overlaps that of node "b", which had it first`},
		{"around another", "z 10.244.0.0/16, b 10.244.1.0/24", "no peer: subnet 10.244.0.0/16 overlaps this node's own 10.244.0.0/24"},
		{"inside another", "z 10.244.9.0/28, b 10.244.8.0/22", `no peer: subnet 10.244.9.0/28 overlaps that of node "b", which had it first`},
		{"outside of a smaller one", "z 10.244.8.0/22, b 10.244.9.0/28", `no peer: subnet 10.244.8.0/22 overlaps that of node "b", which had it first`},
		{"overlaps an expired one", "z 10.244.1.0/24, b 10.244.1.0/24 -1h", "peer"},
		{"overlaps a reservation nobody took up", "z 10.244.1.0/24, b 10.244.1.0/24 reserved unannounced", "peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, outcome(set(t, c.records).decide("z", now))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideOlderAndOwnAddress(t *testing.T) {
	s := set(t, "b 10.244.1.0/24, z 10.244.1.0/24")
	s.entries["z"].Record.Granted = now.Add(-48 * time.Hour)
	if got := outcome(s.decide("z", now)); got != "peer" {
		t.Errorf("the older one: %s", got)
	}
	if got := outcome(s.decide("b", now)); !strings.Contains(got, `that of node "z"`) {
		t.Errorf("the younger one: %s", got)
	}
	s.entries["z"].Record.PublicIP = s.own.PublicIP
	if got := outcome(s.decide("z", now)); got != "no peer: public address 192.168.7.1 is this node's own" {
		t.Errorf("our own address: %s", got)
	}
}

// TestPutTouches: a change names every node whose decision it may turn, and what the set holds after
// any changes is what a new set of the same records holds.
func TestPutTouches(t *testing.T) {
	s := set(t, "b 10.244.1.0/24, c 10.244.1.0/24, d 10.244.2.0/24 fd00:10:244:2::/64")
	for _, c := range []struct{ node, record, touched string }{
		{"b", "b 10.244.1.0/24 1h", "b c"},
		{"b", "", "b c"},
		{"b", "b 10.244.2.0/24", "b d"},
		{"e", "e 10.244.0.0/20", "b c d e"},
		{"e", "e 10.244.2.128/25", "b c d e"},
		{"d", "d unreadable", "b d e"},
		{"d", "d 10.244.9.0/24 fd00:10:244:2::/64", "d"},
		{"f", "f 10.244.77.0/24 fd00:10:244:2::/64", "d f"},
		{"a", "a 10.244.1.0/24", "a c"}, // this node: no peer in any case
	} {
		touched := s.put(c.node, listing(c.record).Entries[c.node])
		if diff := cmp.Diff(c.touched, strings.Join(touched, " ")); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", c.node, c.record, diff)
		}
		fresh := newPeerSet(s.own, s.uplink, s.conf, Listing{Entries: s.entries})
		for node := range s.entries {
			if diff := cmp.Diff(outcome(fresh.decide(node, now)), outcome(s.decide(node, now))); diff != "" {
				t.Errorf("%s after %s (-fresh +kept):\n%s", node, c.record, diff)
			}
		}
	}
}

func TestNextExpiry(t *testing.T) {
	s := set(t, "b 10.244.1.0/24 2h, c 10.244.2.0/24 1h, d 10.244.3.0/24 -1h, e 10.244.4.0/24 reserved")
	if got := s.nextExpiry(now); got != now.Add(time.Hour) {
		t.Errorf("next expiry %s", got)
	}
	if got := set(t, "e 10.244.4.0/24 reserved").nextExpiry(now); !got.IsZero() {
		t.Errorf("next expiry of nothing %s", got)
	}
}
