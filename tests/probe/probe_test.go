//go:build netns

package probe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

var samples = []Packet{
	{From: netip.MustParseAddr("10.244.1.2"), To: netip.MustParseAddr("10.244.2.3"), Protocol: TCP, SourcePort: 1025, Port: 80, ID: 7},
	{From: netip.MustParseAddr("10.244.1.2"), To: netip.MustParseAddr("10.244.2.3"), Protocol: UDP, SourcePort: 1025, Port: 53, ID: 8},
	{From: netip.MustParseAddr("10.244.1.2"), To: netip.MustParseAddr("10.244.2.3"), Protocol: SCTP, SourcePort: 1025, Port: 90, ID: 9},
	{From: netip.MustParseAddr("10.244.1.2"), To: netip.MustParseAddr("10.244.2.3"), Protocol: ICMP, ID: 10},
	{From: netip.MustParseAddr("fd00::1"), To: netip.MustParseAddr("fd00:1::2"), Protocol: TCP, SourcePort: 1, Port: 65535, ID: 1 << 30},
	{From: netip.MustParseAddr("fd00::1"), To: netip.MustParseAddr("fd00:1::2"), Protocol: UDP, SourcePort: 1, Port: 65535, ID: 11},
	{From: netip.MustParseAddr("fd00::1"), To: netip.MustParseAddr("fd00:1::2"), Protocol: SCTP, SourcePort: 1, Port: 65535, ID: 12},
	{From: netip.MustParseAddr("fd00::1"), To: netip.MustParseAddr("fd00:1::2"), Protocol: ICMPv6, ID: 13},
}

func TestBytesAndBack(t *testing.T) {
	for _, p := range samples {
		got, ok := Parse(p.Bytes())
		if diff := cmp.Diff(p, got, cmpopts.EquateComparable(netip.Addr{})); !ok || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", p, ok, diff)
		}
		if _, ok := Parse(p.Bytes()[:len(p.Bytes())-1]); ok {
			t.Errorf("%s: read although cut short", p)
		}
	}
}

// TestRouter sees that every kind of packet passes, is taken for a new flow with right checksums, and is
// dropped by exactly the rule that is about it.
func TestRouter(t *testing.T) {
	r := NewRouter(t, netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00::/64"))
	ask := func() []bool {
		var probes []Probe
		for _, p := range samples {
			probes = append(probes, Probe{p, true})
			p.From, p.To = p.To, p.From
			probes = append(probes, Probe{p, false})
		}
		return r.Pass(probes)
	}
	all := make([]bool, 2*len(samples))
	for i := range all {
		all[i] = true
	}
	r.Run("nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; policy drop; }; add rule inet t f ct state new accept")
	if diff := cmp.Diff(all, ask()); diff != "" {
		t.Errorf("all allowed (-want +got):\n%s", diff)
	}
	for i, rule := range []string{
		"ip saddr 10.244.1.2 tcp dport 80", "ip saddr 10.244.1.2 udp dport 53", "ip saddr 10.244.1.2 sctp dport 90", "ip saddr 10.244.1.2 icmp type echo-request",
		"ip6 saddr fd00::1 tcp dport 65535", "ip6 saddr fd00::1 udp dport 65535", "ip6 saddr fd00::1 sctp dport 65535", "ip6 saddr fd00::1 icmpv6 type echo-request",
	} {
		r.Run("nft", "insert rule inet t f "+rule+" drop")
		all[2*i] = false
		if diff := cmp.Diff(all, ask()); diff != "" {
			t.Errorf("after %s drop (-want +got):\n%s", rule, diff)
		}
	}
	count := func() string { return strings.TrimSpace(r.Run("cat", "/proc/sys/net/netfilter/nf_conntrack_count")) }
	if n := count(); n == "0" {
		t.Error("no packet is in the connection table")
	}
	r.Forget()
	if n := count(); n != "0" {
		t.Errorf("%s connections are still known", n)
	}
}

// TestRouterIsExact sends many packets, half of which are dropped, and wants every one of them told right.
func TestRouterIsExact(t *testing.T) {
	r := NewRouter(t, netip.MustParsePrefix("10.244.1.0/24"))
	r.Run("nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; policy accept; }; add rule inet t f udp dport & 1 == 1 drop")
	probes := make([]Probe, 20_000)
	for i := range probes {
		probes[i] = Probe{Packet{From: samples[0].From, To: samples[0].To, Protocol: UDP, Port: uint16(1000 + i&^1 + (i>>1)&1)}, true}
	}
	start := time.Now()
	for i, passed := range r.Pass(probes) {
		want := probes[i].Port&1 == 0
		if want && !passed { // a queue of the kernel, which others use too, may have been full
			passed = r.Pass(probes[i : i+1])[0]
		}
		if passed != want {
			t.Fatalf("packet %d to port %d: passed %v", i, probes[i].Port, passed)
		}
	}
	t.Logf("%.0f packets a second", float64(len(probes))/time.Since(start).Seconds())
}
