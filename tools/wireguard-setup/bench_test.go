package main

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/state"
)

// BenchmarkPeers is what a change of one peer's file costs before the setting itself: every peer is judged and compared, none is read again.
func BenchmarkPeers(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			in := input()
			set, all, err := settingsOf("wireguard.json", in)
			if err != nil {
				b.Fatal(err)
			}
			have := uplink()
			nodes := map[string]state.Peer{}
			for i := range n {
				p := node(2)
				p.Node = fmt.Sprintf("node%04d", i)
				p.Backend.Data = []byte(fmt.Sprintf(`{"PublicKey":%q,"Port":51820}`, wgtypes.Key{byte(i), byte(i >> 8), 1}))
				p.Subnet.IPv4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
				nodes[p.Node] = p
			}
			want, _, err := tunnelsOf("wireguard.json", in, set, have, keyOf(1))
			if err != nil {
				b.Fatal(err)
			}
			if left := peersOf(want, in, set, all, nodes); len(left) > 0 {
				b.Fatal(left)
			}
			have = made(want, kindWireGuard)
			changed := nodes["node0042"]
			changed.PublicIP.IPv4 = netip.MustParseAddr("192.168.0.99")
			nodes["node0042"] = changed
			d := kernelDiffer()
			for b.Loop() {
				peersOf(want, in, set, all, nodes)
				if ops := d.peers(want[0], have.Devices[deviceName]); len(ops) != 1 {
					b.Fatal(len(ops))
				}
			}
		})
	}
}
