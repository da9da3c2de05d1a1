package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// machine is lo, eth0 (two IPv4 addresses, good and bad IPv6 ones), eth1 and wan without IPv4.
func machine() nl.Uplinks {
	u := nl.Uplinks{Default: map[state.Family][]int{state.IPv4: {3, 2}, state.IPv6: {4}}}
	add := func(index int, name string, mtu int, addrs ...string) {
		u.Links = append(u.Links, nl.Link{Index: index, Name: name, MTU: mtu, Up: true})
		for _, text := range addrs {
			fields := strings.Fields(text)
			a := nl.UplinkAddr{Addr: nl.Addr{Prefix: netip.MustParsePrefix(fields[0]), Link: index}}
			for _, f := range fields[1:] {
				switch f {
				case "secondary":
					a.Secondary = true
				case "unusable":
					a.Unusable = true
				case "link":
					a.Scope = 253
				}
			}
			u.Addrs = append(u.Addrs, a)
		}
	}
	add(1, "lo", 65536, "127.0.0.1/8", "::1/128")
	add(2, "eth0", 1500, "192.168.7.1/24", "192.168.7.5/24 secondary", "192.168.8.1/24",
		"2001:db8::dead/64 unusable", "2001:db8::77/64 secondary", "2001:db8::1/64", "fe80::1/64 link")
	add(3, "eth1", 9000, "10.0.0.1/24")
	add(4, "wan", 1400, "169.254.9.9/16 link", "2001:db8:9::1/64", "fe80::4/64 link")
	return u
}

func TestChoose(t *testing.T) {
	v4, v6 := []state.Family{state.IPv4}, []state.Family{state.IPv6}
	both := []state.Family{state.IPv4, state.IPv6}
	for _, c := range []struct {
		name      string
		selection Selection
		families  []state.Family
		before    string // interface and addresses
		want      string
	}{
		{"the default route", Selection{}, v4, "", "eth1 9000 10.0.0.1, the IPv4 default route"},
		{"the IPv6 default route", Selection{}, v6, "", "wan 1400 2001:db8:9::1, the IPv6 default route"},
		{"the first default route with both families", Selection{}, both, "", "eth0 1500 192.168.7.1 2001:db8::1, the IPv4 default route"},
		{"by name", Selection{Ifaces: []string{"eth0"}}, v4, "", "eth0 1500 192.168.7.1, --iface eth0"},
		{"the first that is there", Selection{Ifaces: []string{"eth9", "eth0", "eth1"}}, v4, "", "eth0 1500 192.168.7.1, --iface eth0"},
		{"by address", Selection{Ifaces: []string{"192.168.8.1"}}, v4, "", "eth0 1500 192.168.8.1, --iface 192.168.8.1"},
		{"by address, written otherwise", Selection{Ifaces: []string{"2001:DB8:0::1"}}, both, "", "eth0 1500 192.168.7.1 2001:db8::1, --iface 2001:DB8:0::1"},
		{"by secondary address", Selection{Ifaces: []string{"192.168.7.5"}}, v4, "", "eth0 1500 192.168.7.5, --iface 192.168.7.5"},
		{"by link-local address", Selection{Ifaces: []string{"169.254.9.9"}}, v4, "", "wan 1400 169.254.9.9, --iface 169.254.9.9"},
		{"by regex", Selection{Regexes: []*regexp.Regexp{regexp.MustCompile("^eth")}}, v4, "", "eth0 1500 192.168.7.1, --iface-regex ^eth"},
		{"by regex of an address", Selection{Regexes: []*regexp.Regexp{regexp.MustCompile(`^192\.168\.8\.`)}}, v4, "", "eth0 1500 192.168.8.1, --iface-regex ^192\\.168\\.8\\."},
		{"by regex that matches several", Selection{Regexes: []*regexp.Regexp{regexp.MustCompile("nothing"), regexp.MustCompile("1$")}}, v4, "", "eth1 9000 10.0.0.1, --iface-regex 1$"},
		{"names before regexes", Selection{Ifaces: []string{"eth1"}, Regexes: []*regexp.Regexp{regexp.MustCompile("eth0")}}, v4, "", "eth1 9000 10.0.0.1, --iface eth1"},
		{"by reach", Selection{CanReach: netip.MustParseAddr("192.168.7.9")}, v4, "", "eth0 1500 192.168.7.1, --iface-can-reach 192.168.7.9"},
		{"the address of the last lease", Selection{Ifaces: []string{"eth0"}}, v4, "eth0 192.168.8.1", "eth0 1500 192.168.8.1, --iface eth0"},
		{"the address of the last lease is gone", Selection{Ifaces: []string{"eth0"}}, v4, "eth0 192.168.99.1", "eth0 1500 192.168.7.1, --iface eth0"},
		{"the last lease had a secondary one", Selection{Ifaces: []string{"eth0"}}, v6, "eth0 2001:db8::77", "eth0 1500 2001:db8::1, --iface eth0"},
		{"the last lease had another interface", Selection{}, v4, "eth0 192.168.7.1", "eth1 9000 10.0.0.1, the IPv4 default route"},
		{
			"a fixed public address",
			Selection{PublicIP: state.Pair[netip.Addr]{IPv4: netip.MustParseAddr("203.0.113.9")}},
			v4, "",
			"eth1 9000 10.0.0.1, the IPv4 default route, publishes 203.0.113.9",
		},
		{"no such name", Selection{Ifaces: []string{"eth9"}}, v4, "", "75 choose interface: none matches eth9; there are eth0 (up 192.168.7.1 "},
		{"no such regex", Selection{Regexes: []*regexp.Regexp{regexp.MustCompile("x9")}}, v4, "", "75 choose interface: none matches [x9]; there are eth0"},
		{"no address of the family", Selection{Ifaces: []string{"eth1"}}, v6, "", "75 choose interface: eth1 (--iface eth1) has no usable IPv6 address; there are eth0"},
		{"no such address of the family", Selection{Ifaces: []string{"wan"}}, v4, "", "75 choose interface: wan (--iface wan) has no usable IPv4 address"},
		{"not to be reached", Selection{CanReach: netip.MustParseAddr("203.0.113.1")}, v4, "", "75 choose interface: no route to 203.0.113.1"},
		{"loopback is not matched by regex", Selection{Regexes: []*regexp.Regexp{regexp.MustCompile("^lo$")}}, v4, "", "75 choose interface: none matches [^lo$]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := machine()
			if c.selection.CanReach == netip.MustParseAddr("192.168.7.9") {
				u.Reach = 2
			}
			var before state.Interface
			if dev, addr, ok := strings.Cut(c.before, " "); ok {
				before.Name = dev
				before.IP.Set(c.families[0], netip.MustParseAddr(addr))
			}
			got := ""
			choice, err := c.selection.Choose(u, c.families, before)
			if err != nil {
				got = fmt.Sprintf("%d %s", exit.Of(err), err)
			} else {
				i := choice.Interface
				got = fmt.Sprintf("%s %d %s, %s", i.Name, i.MTU, pairText(i.IP), choice.Why)
				if choice.PublicIP != i.IP {
					got += ", publishes " + pairText(choice.PublicIP)
				}
			}
			if got != c.want && (err == nil || !strings.HasPrefix(got, c.want)) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestChooseWithoutDefaultRoute(t *testing.T) {
	u := machine()
	u.Default = nil
	_, err := Selection{}.Choose(u, []state.Family{state.IPv4}, state.Interface{})
	want := "choose interface: there is no default route; there are eth0 (up 192.168.7.1 192.168.7.5 192.168.8.1 "
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "eth1 (up 10.0.0.1)") {
		t.Errorf("got %v", err)
	}
	_, err = Selection{}.Choose(nl.Uplinks{}, []state.Family{state.IPv4}, state.Interface{})
	if err == nil || !strings.HasSuffix(err.Error(), "there are no interfaces") {
		t.Errorf("got %v", err)
	}
}
