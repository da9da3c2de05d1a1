//go:build netns

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
)

// grammar are rules of every form that policy-render writes, and some that it might.
var grammar = map[string][]string{
	"inet": {
		"accept", "drop", "return", "counter", "counter accept", "jump other", "goto other", "counter drop comment \"a, b : c\"",
		"tcp dport 80 accept", "udp sport 53 accept", "sctp dport 9999 accept", "tcp dport @ports accept", "udp dport @ports ip saddr @a4 counter accept comment \"x\"",
		"sctp dport @ports ip6 saddr @a6 accept", "th dport 80 accept", "meta l4proto tcp accept", "meta l4proto sctp th dport @ports accept", "meta l4proto 17 udp dport 1000-2000 accept",
		"tcp dport 1-65535 accept", "tcp dport != 80 accept", "tcp dport != 80-90 accept", "tcp dport == 80 accept",
		"ip saddr 10.0.0.1 accept", "ip saddr != 10.0.0.1 accept", "ip saddr 10.0.0.0/8 accept", "ip daddr 10.0.0.0/9 accept", "ip6 saddr fe80::/10 accept",
		"ip6 daddr 2001:db8::/32 accept", "ip6 daddr 2001:db8::1 accept", "ip saddr 10.0.0.1-10.0.0.9 accept", "ip saddr != 10.0.0.0/16 accept",
		"ip saddr @a4 tcp dport 80 ip daddr @a4 accept", "ip saddr != @a4 goto other", "ip6 daddr != @a6 goto other",
		"ip saddr vmap @v4", "ip6 daddr vmap @v6", "ip saddr . ip daddr @self4 accept", "ip6 saddr . ip6 daddr @self6 accept",
		"ip daddr . meta l4proto . th dport @np4 counter accept comment \"x\"", "ip6 daddr . meta l4proto . th dport @np6 goto other",
		"ip daddr . tcp dport @dp4 accept", "tcp dport 80 ip daddr . tcp dport @dp4 accept",
		"ct state established accept", "ct state established,related accept", "ct state invalid drop", "ct state new,untracked counter",
		"ct mark & 0x00080000 == 0x00080000 counter drop", "ct mark and 0x80000 != 0x80000 accept", "ct mark 0x1 accept", "meta mark & 0x4000 == 0x4000 return",
		"ct direction original accept", "ct direction reply drop",
		"icmpv6 type nd-neighbor-solicit accept", "icmpv6 type nd-router-advert drop", "icmpv6 type 135 accept", "icmp type echo-request accept",
		"ip protocol icmp accept", "meta nfproto ipv4 accept", "meta nfproto ipv6 ip6 saddr @a6 accept",
		"fib daddr type local accept", "fib saddr type unicast accept", "fib daddr type multicast accept",
		"iifname \"lo\" accept", "iifname \"cni0\" ip saddr != @a4 goto other", "oifname != \"eth0\" accept", "iifname cni0 accept", "iifname @ifs accept", "iifname != @ifs drop",
		"limit rate 10/second burst 20 packets log prefix \"towpath E ge-x \" group 100 snaplen 64", "limit rate 3/minute accept", "limit rate over 100/hour burst 7 packets drop",
		"log prefix \"x y\" group 5", "log group 7 snaplen 100", "ct state vmap { established : goto other, related : accept, untracked : goto other, invalid : drop }", "ct state { established, related } accept",
		"ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept", "ip6 daddr ff02::/16 icmpv6 type { mld-listener-query, mld2-listener-report } accept",
		"ip saddr { 10.0.0.1, 10.0.0.2 } accept", "tcp dport != { 80, 443 } accept", "ip saddr vmap { 10.0.0.1 : accept, 10.0.0.2 : jump other }",
		"udp dport 8472 counter drop", "ip saddr 10.244.1.0/24 iifname != \"lo\" goto other", "udp dport 8472 jump other", "ip daddr 10.244.1.0/24 fib daddr type != local goto other",
		"ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/8 goto other", "iifname @ifs goto other", "ct mark & 0x00080000 == 0x00000000 accept", "meta nfproto ipv6 iifname != @ifs accept",
		"ip daddr 10.0.0.1 udp dport 8472 limit rate 1/second log prefix \"a\" group 1 counter drop comment \"vxlan\"",
	},
	"bridge": {
		"iifname @ifs jump other", "iifname . ether saddr . ip saddr @port4 return", "iifname . arp saddr ether . arp saddr ip @port4 accept", "iifname . ether saddr . ip6 saddr @port6 accept",
		"ether type ip accept", "ether type arp drop", "ether type ip6 ip6 saddr fe80::/10 accept", "ether type != ip drop", "ether saddr 02:00:00:00:00:01 accept", "ether daddr != 02:00:00:00:00:01 drop",
		"arp operation request accept", "arp saddr ip 10.0.0.1 accept", "arp daddr ip 10.0.0.1 accept", "arp saddr ether 02:00:00:00:00:01 drop", "arp daddr ether 02:00:00:00:00:01 drop",
		"ip saddr 10.0.0.1 accept", "ip6 saddr ::1 accept", "meta protocol ip accept", "meta protocol arp accept", "meta protocol ip6 drop", "ip saddr @a4 udp dport 67 accept", "iifname . ether saddr @mac accept",
		"ip6 saddr :: icmpv6 type nd-neighbor-solicit accept", "meta l4proto ipv6-icmp ip6 saddr fe80::/64 accept", "ether type ip6 icmpv6 type 135 accept", "ip protocol udp udp dport 67 accept", "iifname . ip saddr @ip4 accept", "ether type ip6 icmpv6 type { nd-router-advert, nd-neighbor-advert, nd-redirect } iifname @ifs goto other",
		"icmpv6 type nd-neighbor-advert iifname . ether saddr . ip6 saddr @port6 iifname . ether saddr . @th,64,128 @target6 accept", "icmpv6 type nd-redirect drop", "icmp type echo-request accept",
		"ether type ip iifname . ether saddr . ip saddr @port4 accept", "ether type ip6 iifname . ether saddr . ip6 saddr @port6 accept", "iifname . ether saddr != @mac goto other",
		"ether type arp iifname . arp saddr ether . arp saddr ip @port4 accept", "ether type arp arp operation request arp saddr ip 0.0.0.0 iifname . arp saddr ether @mac accept",
	},
}

var grammarSets = []string{
	"set ports type inet_service;flags interval|80|443|8000-8080|65000-65535", "set a4 type ipv4_addr|10.0.0.1 comment \"a/b\"|10.0.0.2", "set a6 type ipv6_addr;comment \"six\"|fd00::1",
	"map v4 type ipv4_addr : verdict|10.0.0.1 comment \"a\" : goto other|10.0.0.2 : accept|10.0.0.3 : jump other|10.0.0.4 : drop|10.0.0.5 : return", "map v6 type ipv6_addr : verdict;comment \"map\"|fd00::1 : drop",
	"set self4 type ipv4_addr . ipv4_addr|10.0.0.1 . 10.0.0.1", "set self6 type ipv6_addr . ipv6_addr;comment \"c\"|fd00::1 . fd00::1",
	"set np4 type ipv4_addr . inet_proto . inet_service|10.0.0.1 . sctp . 80|10.0.0.1 . tcp . 80 comment \"x\"", "set np6 type ipv6_addr . inet_proto . inet_service|fd00::1 . udp . 53",
	"set dp4 type ipv4_addr . inet_service|10.0.0.1 . 80", "set pp type inet_proto . inet_service;flags interval|tcp . 80|udp . 53-60", "set ifs type ifname|\"lo\"|\"veth1\"|veth2",
	"set port4 type ifname . ether_addr . ipv4_addr|\"veth1\" . 02:00:00:00:00:01 . 10.0.0.1", "set port6 type ifname . ether_addr . ipv6_addr|\"veth1\" . 02:00:00:00:00:01 . fd00::1",
	"set mac type ifname . ether_addr|\"veth1\" . 02:00:00:00:00:01", "set ip4 type ifname . ipv4_addr|\"veth1\" . 10.0.0.1",
	"set cidr4 type ipv4_addr;flags interval;comment \"block\"|0.0.0.0-9.255.255.255|10.0.0.0/16|10.2.0.5|250.0.0.0-255.255.255.255", "set cidr6 type ipv6_addr;flags interval|2001:db8::/32|fe00::/7",
	"set mixed type ipv4_addr . inet_proto . inet_service;flags interval|10.0.0.0/24 . tcp . 80-90|10.0.1.0-10.0.1.7 . udp . 53", "set target6 typeof iifname . ether saddr . @th,64,128|\"veth1\" . 02:00:00:00:00:01 . 0xfd000000000000000000000000000001", "set lone type ether_addr|02:00:00:00:00:01",
}

// grammarObjects is a ruleset of one family with all of that; the chains go one by one.
func grammarObjects(family string) []*ruleset.Object {
	objects := []*ruleset.Object{{ID: ruleset.ID{Family: family, Kind: ruleset.Chain, Name: "other"}, Head: []string{`comment "x/y"`}}}
	for _, s := range grammarSets {
		parts := strings.Split(s, "|")
		kind, rest, _ := strings.Cut(parts[0], " ")
		name, head, _ := strings.Cut(rest, " ")
		objects = append(objects, &ruleset.Object{ID: ruleset.ID{Family: family, Kind: ruleset.Kind(kind), Name: name}, Head: strings.Split(head, ";"), Lines: slices.Sorted(slices.Values(parts[1:]))})
	}
	objects = append(objects,
		&ruleset.Object{ID: ruleset.ID{Family: family, Kind: ruleset.Chain, Name: "base"}, Head: []string{"type filter hook forward priority filter; policy accept;"}, Lines: []string{"jump other"}},
		&ruleset.Object{ID: ruleset.ID{Family: family, Kind: ruleset.Chain, Name: "base2"}, Head: []string{"type filter hook prerouting priority -300; policy drop;", `comment "b"`}})
	for i, line := range grammar[family] {
		objects = append(objects, &ruleset.Object{ID: ruleset.ID{Family: family, Kind: ruleset.Chain, Name: fmt.Sprintf("c%03d", i)}, Lines: []string{line}})
	}
	return objects
}

func mustScan(t testing.TB, o *ruleset.Object) *object {
	t.Helper()
	text := o.Text()
	s, err := scan(o.Family, ruleset.Digest(text), text)
	if err != nil {
		t.Fatalf("%s: %v\n%s", o.ID, err, text)
	}
	s.path = o.Path()
	return s
}

// made are the changes that make objects where there are none.
func made(t testing.TB, objects []*ruleset.Object) []change {
	t.Helper()
	want := &policy{}
	for _, o := range objects {
		want.objects = append(want.objects, mustScan(t, o))
	}
	changes, ok := diff(&policy{}, want)
	if !ok {
		t.Fatal("a full replacement is asked for")
	}
	return changes
}

var handles = regexp.MustCompile(`# handle \d+|handle \d+`)

// bytecode is all that the kernel has of the tables: rules as the expressions they are made of, elements as bytes.
func bytecode(n *nstest.Namespace) string {
	out := ""
	for _, family := range ruleset.Families {
		text, err := n.Try("nft", "-s", "-nn", "--debug=netlink", "list", "table", family, ruleset.Table)
		if err != nil {
			text = err.Error()
		}
		out += text
	}
	// Each rule's expressions are headed by its table, chain and handle.
	out = regexp.MustCompile(`(?m)^((?:inet|bridge) towpath-policy \S+) \d+( \d+)?`).ReplaceAllString(out, "$1")
	// Elements have no order, and a range need not be preceded by the end of all that is before it.
	var elements, lines []string
	for line := range strings.SplitSeq(handles.ReplaceAllString(out, "handle N"), "\n") {
		switch {
		case regexp.MustCompile(`^\s+element [0 ]+: 1 \[end\]$`).MatchString(line):
		case strings.HasPrefix(line, "\telement "):
			elements = append(elements, line)
		default:
			slices.Sort(elements)
			lines = append(append(lines, elements...), line)
			elements = nil
		}
	}
	return strings.Join(lines, "\n")
}

// TestCompiledIsWhatNftMakes: the same rules, sets and elements through nft and compiled here are the same to the kernel.
func TestCompiledIsWhatNftMakes(t *testing.T) {
	for _, family := range ruleset.Families {
		byNft, byUs := nstest.New(t, "nft"), nstest.New(t, "us")
		changes := made(t, grammarObjects(family))
		table := fmt.Sprintf("add table %s %s\n", family, ruleset.Table)
		for _, n := range []*nstest.Namespace{byNft, byUs} {
			n.Run("nft", table)
		}
		cmd := byNft.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script(changes))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, c := range changes {
			if _, err := compile([]change{c}); err != nil {
				t.Error(err)
			}
		}
		byUs.Do(func() {
			b, err := compile(changes)
			if err != nil {
				t.Error(err)
				return
			}
			conn, err := nl.OpenNFT()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if err := conn.Commit(&b.NFTBatch); err != nil {
				t.Errorf("%v: %s", err, changes[b.changes[max(0, refusedAt(err))]])
			}
		})
		if diff := cmp.Diff(strings.Split(bytecode(byNft), "\n"), strings.Split(bytecode(byUs), "\n")); diff != "" {
			t.Errorf("%s (-nft +us):\n%s", family, diff)
		}
	}
}
