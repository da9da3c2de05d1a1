package nl

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestIPIPOf: which devices are no more than an IPIP tunnel with a local address. This is all there can be of it where the
// kernel has no such device.
func TestIPIPOf(t *testing.T) {
	local := net.IPv4(192, 168, 0, 11)
	for _, tc := range []struct {
		name  string
		tun   netlink.Iptun
		other bool
	}{
		{"as flannel makes it", netlink.Iptun{Local: local}, false},
		{"as towpath makes it", netlink.Iptun{Local: local.To4(), PMtuDisc: 1, Proto: 4}, false},
		{"as the kernel lists it", netlink.Iptun{Local: local.To4(), Remote: net.IPv4zero.To4(), PMtuDisc: 1, Proto: 4}, false},
		{"to one remote", netlink.Iptun{Local: local, Remote: net.IPv4(192, 168, 0, 12)}, true},
		{"over one device", netlink.Iptun{Local: local, Link: 2}, true},
		{"of metadata", netlink.Iptun{Local: local, FlowBased: true}, true},
		{"of MPLS", netlink.Iptun{Local: local, Proto: 137}, true},
		{"in UDP", netlink.Iptun{Local: local, EncapType: 1}, true},
		{"with a TTL", netlink.Iptun{Local: local, Ttl: 64}, true},
	} {
		if d := ipipOf(&tc.tun); d.Other != tc.other || d.Local != netip.MustParseAddr("192.168.0.11") {
			t.Errorf("%s: %+v", tc.name, d.IPIPSpec)
		}
	}
	if d := ipipOf(&netlink.Iptun{Local: net.IPv4zero}); d.Local.IsValid() {
		t.Errorf("tunl0: local %s", d.Local)
	}
}
