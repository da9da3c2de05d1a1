package main

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

func TestPickBesideUplink(t *testing.T) {
	const (
		around = `{"Network":"192.168.100.0/22","SubnetLen":24,"Backend":{"Type":"vxlan"}}`
		six    = `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:7::/48","Backend":{"Type":"vxlan"}}`
	)
	for _, c := range []struct{ name, conf, uplink, have, want string }{
		{"elsewhere", plain, "192.168.100.11/24", "", "10.244.0.0/24"},
		{"at the start", around, "192.168.100.11/24", "", "192.168.101.0/24"},
		{"and others", around, "192.168.100.11/24", "b 192.168.101.0/24", "192.168.102.0/24"},
		{"a single address", plain, "10.244.0.7/32", "", "10.244.1.0/24"},
		{"a second address", plain, "192.168.100.11/24 10.244.0.7/24", "", "10.244.1.0/24"},
		{"that of the last lease", plain, "10.244.3.1/24", "", "10.244.0.0/24"},
		{"all of it", around, "192.168.100.11/22", "", "78 Network 192.168.100.11/22"},
		{"cut out of it", plain, "10.0.0.5/8", "", "10.244.0.0/24"},
		{"cut out of it, around the address", around, "192.168.100.11/16", "", "192.168.101.0/24"},
		{"its own record, around the address", around, "192.168.100.11/16", "a 192.168.100.0/24", "78 Network 192.168.100.11/32"},
		{"all of it, and leased", two, "10.244.4.9/23", "b 10.244.4.0/24", "78 Network 10.244.4.9/23"},
		{"the rest is leased", two, "10.244.4.9/24", "b 10.244.5.0/24", "75"},
		{"its own record", around, "192.168.100.11/24", "a 192.168.100.0/24", "78 Network 192.168.100.11/24"},
		{"its own record, elsewhere", around, "192.168.100.11/24", "a 192.168.103.0/24", "192.168.103.0/24"},
		{"its own reservation", around, "192.168.100.11/24", "a 192.168.100.0/24 reserved", "78 Network 192.168.100.11/24"},
		{"IPv6", six, "fd00:7::1/64", "", "fd00:7:0:1::/64"},
		{"all of IPv6", six, "fd00:7::1/48", "", "78 IPv6Network fd00:7::1/48"},
		{"cut out of IPv6", six, "fd00:7::1/32", "", "fd00:7:0:1::/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := Request{Node: "a", Conf: conf(t, c.conf), Path: "n.json", TTL: 24 * time.Hour, Margin: time.Hour, Uplink: Uplink{Dev: "eth0"}}
			for _, text := range strings.Fields(c.uplink) {
				q.Uplink.Addrs = append(q.Uplink.Addrs, netip.MustParsePrefix(text))
			}
			if c.name == "that of the last lease" {
				q.Before.IPv4 = netip.MustParsePrefix("10.244.3.0/24")
			}
			r, _, err := q.Pick(now, listing(c.have))
			if err == nil {
				if got := pairText(r.Subnet); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				return
			}
			want := strings.Fields(c.want)
			if strconv.Itoa(int(exit.Of(err))) != want[0] || len(exit.Hints(err)) == 0 {
				t.Errorf("exit status %d: %v", exit.Of(err), err)
			}
			if e := (*state.Error)(nil); len(want) > 1 && (!errors.As(err, &e) || e.Key != want[1] || !strings.Contains(e.Error(), "eth0 has the address "+want[2])) {
				t.Errorf("not named: %v", err)
			}
		})
	}
}
