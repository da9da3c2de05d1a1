//go:build netns

package main

import (
	"net"
	"net/netip"
	"os"
	"testing"
)

// linkLocal is the address that the kernel gives a device by itself.
func linkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// TestLinkLocalIsNoWayAround: an isolated pod is not reached at the address that nobody names, and neighbours still find each
// other.
func TestLinkLocalIsNoWayAround(t *testing.T) {
	n, from, to := spoofNode(t)
	data, err := os.ReadFile(n.objects)
	if err != nil {
		t.Fatal(err)
	}
	n.write(n.objects, string(data)+"---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: default}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n")
	n.load()
	own, err := net.ParseMAC(from.mac())
	if err != nil {
		t.Fatal(err)
	}
	dst, err := net.ParseMAC(to.mac())
	if err != nil {
		t.Fatal(err)
	}
	a6, b6 := from.addrs.IPv6, to.addrs.IPv6
	frames := map[string][]byte{
		"<<to local>>":    ethernet(dst, own, 0x86dd, udpPacket(a6, linkLocal(dst), 9, "<<to local>>")),
		"<<local>>":       ethernet(dst, own, 0x86dd, udpPacket(linkLocal(own), linkLocal(dst), 9, "<<local>>")),
		"<<from local>>":  ethernet(dst, own, 0x86dd, udpPacket(linkLocal(own), b6, 9, "<<from local>>")),
		"<<to the pod>>":  ethernet(dst, own, 0x86dd, udpPacket(a6, b6, 9, "<<to the pod>>")),
		"<<to another>>":  ethernet(dst, own, 0x86dd, udpPacket(a6, netip.MustParseAddr("fe80::1234"), 9, "<<to another>>")),
		"<<local of it>>": ethernet(dst, own, 0x86dd, udpPacket(linkLocal(own), netip.MustParseAddr("fe80::1234"), 9, "<<local of it>>")),
	}
	seen := capture(t, to.Namespace, "eth0")
	for _, f := range frames {
		send(t, from.Namespace, "eth0", f)
	}
	for what, f := range map[string][]byte{
		"<<solicitation>>":     ethernet(dst, own, 0x86dd, advert(135, linkLocal(own), linkLocal(dst), linkLocal(dst), "<<solicitation>>")),
		"<<advertisement>>":    ethernet(dst, own, 0x86dd, advert(136, linkLocal(own), linkLocal(dst), linkLocal(own), "<<advertisement>>")),
		"<<of the pod's own>>": ethernet(dst, own, 0x86dd, advert(136, a6, linkLocal(dst), a6, "<<of the pod's own>>")),
	} {
		send(t, from.Namespace, "eth0", f) // once these are there, the others would be
		arrives(t, what, seen, what)
	}
	for text := range frames {
		if seen(text) {
			t.Errorf("%s reaches the isolated pod", text)
		}
	}
	n.host.Run("nft", "delete", "table", "inet", "towpath-policy")
	for text, f := range frames { // without the rules all arrive
		send(t, from.Namespace, "eth0", f)
		arrives(t, text+" without rules", seen, text)
	}
}
