//go:build netns

package nl

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// TestUplinks: default routes by metric and family, the way to an address, and what is wrong with an
// address.
func TestUplinks(t *testing.T) {
	n := nstest.New(t, "uplinks")
	for _, line := range []string{
		"link add eth0 type veth peer name far0",
		"link add eth1 type veth peer name far1",
		"addr add 192.168.7.1/24 dev eth0",
		"addr add 192.168.7.2/24 dev eth0",
		"addr add 192.168.9.1/24 dev eth1",
		"addr add fd00:7::1/64 dev eth0 nodad",
		"addr add fd00:7::2/64 dev eth0 nodad preferred_lft 0",
		"link set far0 up", "link set far1 up", "link set eth0 up", "link set eth1 up",
		"route add default via 192.168.7.254 metric 50",
		"route add default via 192.168.9.254 metric 20",
		"-6 route add default via fd00:7::fe",
		"route add 10.9.0.0/16 via 192.168.7.254",
	} {
		n.Run("ip", strings.Fields(line)...)
	}
	var u Uplinks
	var err error
	var hints <-chan string
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n.Do(func() {
		if u, err = ReadUplinks(netip.MustParseAddr("10.9.1.1")); err == nil {
			hints, err = UplinkHints(ctx, func() string { return "eth0" })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	names := map[int]string{}
	for _, l := range u.Links {
		names[l.Index] = l.Name
	}
	defaults := map[state.Family]string{}
	for f, list := range u.Default {
		for _, index := range list {
			defaults[f] += names[index] + " "
		}
	}
	if diff := cmp.Diff(map[state.Family]string{state.IPv4: "eth1 eth0 ", state.IPv6: "eth0 "}, defaults); diff != "" {
		t.Errorf("default routes (-want +got):\n%s", diff)
	}
	if names[u.Reach] != "eth0" {
		t.Errorf("10.9.1.1 is reached by %q", names[u.Reach])
	}
	flags := map[string]string{}
	for _, a := range u.Addrs {
		if names[a.Link] == "eth0" && a.Scope == 0 {
			text := ""
			if a.Secondary {
				text = "secondary"
			}
			if a.Unusable {
				text = "unusable"
			}
			flags[a.Prefix.String()] = text
		}
	}
	want := map[string]string{"192.168.7.1/24": "", "192.168.7.2/24": "secondary", "fd00:7::1/64": "", "fd00:7::2/64": "unusable"}
	if diff := cmp.Diff(want, flags); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}

	// Of no interest: another link, a route that is none of the default ones, an address of the link.
	for _, c := range []struct{ line, hint string }{
		{"link set eth1 mtu 1400", ""},
		{"route add 10.8.0.0/16 via 192.168.7.254", ""},
		{"addr add 192.168.5.1/24 dev eth1 scope link", ""},
		{"route del default via 192.168.9.254 metric 20", "route 0.0.0.0/0 deleted"},
		{"link set eth0 mtu 1400", "link eth0 changed"},
		{"addr del 192.168.9.1/24 dev eth1", "address 192.168.9.1/24 deleted"},
	} {
		n.Run("ip", strings.Fields(c.line)...)
		if c.hint == "" {
			continue
		}
		select {
		case got := <-hints:
			if got != c.hint {
				t.Errorf("%s: hint %q, want %q", c.line, got, c.hint)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no hint", c.line)
		}
	}
	if u, err := func() (u Uplinks, err error) {
		n.Do(func() { u, err = ReadUplinks(netip.MustParseAddr("2001:db8::1")) })
		return u, err
	}(); err != nil || names[u.Reach] != "eth0" {
		t.Errorf("2001:db8::1 is reached by %q, %v", names[u.Reach], err)
	}
	empty := nstest.New(t, "empty")
	empty.Do(func() { u, err = ReadUplinks(netip.MustParseAddr("10.9.1.1")) })
	if err != nil || u.Reach != 0 || len(u.Default[state.IPv4]) != 0 {
		t.Errorf("without routes: %v, %v", u, err)
	}
}
