package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

func walk(set spanSet, last string, most int) []string {
	var from netip.Addr
	if last != "" {
		from = netip.MustParseAddr(last)
	}
	var all []string
	set.next(from, func(a netip.Addr, _ span) bool {
		all = append(all, a.String())
		return len(all) < most
	})
	return all
}

func TestSpanSetNext(t *testing.T) {
	small := spanSet{wholeSpan(netip.MustParsePrefix("10.0.0.0/29"), netip.MustParseAddr("10.0.0.1"))}
	two := spanSet{
		{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.6"), netip.MustParseAddr("10.0.0.1")},
		{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1")},
	}
	six := spanSet{wholeSpan(netip.MustParsePrefix("fd00::/126"), netip.MustParseAddr("fd00::1"))}
	edge := spanSet{wholeSpan(netip.MustParsePrefix("255.255.255.252/30"), netip.MustParseAddr("255.255.255.253"))}
	for _, c := range []struct {
		set  spanSet
		last string
		want string
	}{
		{small, "", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{small, "10.0.0.4", "10.0.0.5 10.0.0.6 10.0.0.2 10.0.0.3 10.0.0.4"},
		{small, "10.0.0.6", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{small, "10.9.9.9", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{two, "", "10.0.0.5 10.0.0.6 10.0.0.9"},
		{two, "10.0.0.6", "10.0.0.9 10.0.0.5 10.0.0.6"},
		{two, "10.0.0.9", "10.0.0.5 10.0.0.6 10.0.0.9"},
		{six, "", "fd00::2 fd00::3"},
		{edge, "", "255.255.255.254"},
	} {
		if got := strings.Join(walk(c.set, c.last, 100), " "); got != c.want {
			t.Errorf("%s after %q: %s\nwant %s", c.set, c.last, got, c.want)
		}
	}
	huge := spanSet{wholeSpan(netip.MustParsePrefix("fd00::/64"), netip.MustParseAddr("fd00::1"))}
	if got := walk(huge, "fd00::ffff:ffff:ffff:ffff", 2); !slices.Equal(got, []string{"fd00::2", "fd00::3"}) {
		t.Errorf("around the end of a /64: %v", got)
	}
}

func TestSpanSets(t *testing.T) {
	env := envOf(lease("10.244.1.0/24", "fd00:10:0:1::/64"), state.Link{MTU: 1450})
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	for name, c := range map[string]struct {
		ranges [][]rangeConf
		want   string // of the sets, or of the error
	}{
		"none":           {nil, "10.244.1.0/24 | fd00:10:0:1::/64"},
		"start and end":  {[][]rangeConf{{{Start: a("10.244.1.10"), End: a("10.244.1.20")}}}, "10.244.1.0/24 (10.244.1.10 to 10.244.1.20)"},
		"half a subnet":  {[][]rangeConf{{{Subnet: p("10.244.1.128/25")}}, {{Start: a("fd00:10:0:1::100")}}}, "10.244.1.128/25 | fd00:10:0:1::/64 (fd00:10:0:1::100 to fd00:10:0:1:ffff:ffff:ffff:ffff)"},
		"outside":        {[][]rangeConf{{{Subnet: p("10.244.2.0/24")}}}, "ipam.ranges[0][0]: 10.244.2.0/24 is outside this node's subnet 10.244.1.0/24"},
		"larger":         {[][]rangeConf{{{Subnet: p("10.244.0.0/16")}}}, "ipam.ranges[0][0]: 10.244.0.0/16 is outside"},
		"both families":  {[][]rangeConf{{{Start: a("10.244.1.10")}, {Start: a("fd00:10:0:1::9")}}}, "ipam.ranges[0]: mixes IPv4 and IPv6"},
		"network's own":  {[][]rangeConf{{{Start: a("10.244.1.0")}}}, "10.244.1.0 is not an address for pods"},
		"broadcast":      {[][]rangeConf{{{End: a("10.244.1.255")}}}, "10.244.1.255 is not an address for pods"},
		"too small":      {[][]rangeConf{{{Subnet: p("10.244.1.8/31")}}}, "too small"},
		"overlap":        {[][]rangeConf{{{End: a("10.244.1.20")}}, {{Start: a("10.244.1.20")}}}, "overlaps"},
		"backwards":      {[][]rangeConf{{{Start: a("10.244.1.20"), End: a("10.244.1.10")}}}, "comes before"},
		"family missing": {[][]rangeConf{{{Subnet: p("10.0.0.0/8")}}}, "outside"},
	} {
		sets, err := spanSets(env, c.ranges)
		var got []string
		for _, set := range sets {
			got = append(got, set.String())
		}
		text := strings.Join(got, " | ")
		var key *state.KeyError
		if errors.As(err, &key) {
			text = key.Key + ": " + key.Err.Error()
		}
		if err == nil && text != c.want || !strings.Contains(text, c.want) {
			t.Errorf("%s: %s\nwant %s", name, text, c.want)
		}
	}
}

func TestVethName(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range []holder{{"a", "eth0"}, {"a", "eth1"}, {"b", "eth0"}, {"ab", "eth0"}, {"a", "b:eth0"}} {
		name := vethName(h)
		if len(name) > 15 || !strings.HasPrefix(name, "veth") || seen[name] {
			t.Errorf("%v: %q", h, name)
		}
		seen[name] = true
	}
	if diff := cmp.Diff(vethName(holder{"a", "eth0"}), vethName(holder{"a", "eth0"})); diff != "" {
		t.Error("the name is not always the same")
	}
}
