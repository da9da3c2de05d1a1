//go:build netns

package main

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// dropped is the packet counter of a chain's drop.
func (n *node) dropped(family, chain string) int {
	n.t.Helper()
	out := n.host.Run("nft", "list", "chain", family, "towpath-policy", chain)
	m := regexp.MustCompile(`counter packets (\d+) bytes \d+ drop`).FindStringSubmatch(out)
	if m == nil {
		n.t.Fatalf("no counter in\n%s", out)
	}
	packets, err := strconv.Atoi(m[1])
	if err != nil {
		n.t.Fatal(err)
	}
	return packets
}

// spoofNode is a node with two pods that nothing isolates.
func spoofNode(t *testing.T) (n *node, from, to *pod) {
	n = newNode(t, "default/a", "default/b", "default/c")
	n.objects = t.TempDir() + "/objects.yaml"
	text := ""
	for name, p := range n.pods {
		n.addEndpoint(p)
		text += fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: default, uid: uid-%s}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {podIPs: [{ip: %s}, {ip: %q}]}\n",
			name[8:], name[8:], p.addrs.IPv4, p.addrs.IPv6)
	}
	n.write(n.objects, text)
	n.load()
	return n, n.pods["default/a"], n.pods["default/b"]
}

// TestNobodySpeaksAsAnother: of what a pod puts on its wire, only what is its own gets through the bridge.
func TestNobodySpeaksAsAnother(t *testing.T) {
	n, from, to := spoofNode(t)
	own, _ := net.ParseMAC(from.mac())
	dst, _ := net.ParseMAC(to.mac())
	other, _ := net.ParseMAC(n.pods["default/c"].mac())
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	a4, a6, b4, b6 := from.addrs.IPv4, from.addrs.IPv6, to.addrs.IPv4, to.addrs.IPv6
	c4, c6 := n.pods["default/c"].addrs.IPv4, n.pods["default/c"].addrs.IPv6
	allNodes, zero := netip.MustParseAddr("ff02::1"), netip.MustParseAddr("0.0.0.0")
	local := netip.MustParseAddr("fe80::bad")
	cases := []struct {
		what   string
		frame  func(text string) []byte
		passes bool
	}{
		{"own IPv4", func(s string) []byte { return ethernet(dst, own, 0x0800, udpPacket(a4, b4, 9, s)) }, true},
		{"own IPv6", func(s string) []byte { return ethernet(dst, own, 0x86dd, udpPacket(a6, b6, 9, s)) }, true},
		{"own ARP reply", func(s string) []byte { return ethernet(all, own, 0x0806, arp(2, own, a4, b4, s)) }, true},
		{"ARP probe", func(s string) []byte { return ethernet(all, own, 0x0806, arp(1, own, zero, a4, s)) }, true},
		{"own advertisement", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(136, a6, b6, a6, s)) }, true},
		{"own solicitation", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(135, a6, b6, b6, s)) }, true},
		{"duplicate address detection", func(s string) []byte {
			return ethernet(all, own, 0x86dd, advert(135, netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1:ff00:2"), a6, s))
		}, true},

		{"another pod's IPv4", func(s string) []byte { return ethernet(dst, own, 0x0800, udpPacket(c4, b4, 9, s)) }, false},
		{"another pod's IPv4 and MAC", func(s string) []byte { return ethernet(dst, other, 0x0800, udpPacket(c4, b4, 9, s)) }, false},
		{"own IPv4 from another MAC", func(s string) []byte { return ethernet(dst, other, 0x0800, udpPacket(a4, b4, 9, s)) }, false},
		{"an IPv4 from outside", func(s string) []byte { return ethernet(dst, own, 0x0800, udpPacket(outsideAddr.IPv4, b4, 9, s)) }, false},
		{"the node's IPv4", func(s string) []byte { return ethernet(dst, own, 0x0800, udpPacket(nodeAddr.IPv4, b4, 9, s)) }, false},
		{"another pod's IPv6", func(s string) []byte { return ethernet(dst, own, 0x86dd, udpPacket(c6, b6, 9, s)) }, false},
		{"link-local, not the own one", func(s string) []byte { return ethernet(dst, own, 0x86dd, udpPacket(local, b6, 9, s)) }, false},
		{"ARP reply for another pod", func(s string) []byte { return ethernet(all, own, 0x0806, arp(2, own, c4, b4, s)) }, false},
		{"ARP reply for the gateway", func(s string) []byte { return ethernet(all, own, 0x0806, arp(2, own, nodeAddr.IPv4, b4, s)) }, false},
		{"ARP request as another pod", func(s string) []byte { return ethernet(all, own, 0x0806, arp(1, own, c4, b4, s)) }, false},
		{"own ARP with another's MAC", func(s string) []byte { return ethernet(all, own, 0x0806, arp(2, other, a4, b4, s)) }, false},
		{"announcement from nowhere", func(s string) []byte { return ethernet(all, own, 0x0806, arp(2, own, zero, b4, s)) }, false},
		{"advertisement for another pod", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(136, a6, b6, c6, s)) }, false},
		{"advertisement for the gateway", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(136, a6, allNodes, nodeAddr.IPv6, s)) }, false},
		{"router advertisement", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(134, a6, allNodes, a6, s)) }, false},
		{"redirect", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(137, a6, b6, a6, s)) }, false},
		{"solicitation as another", func(s string) []byte { return ethernet(dst, own, 0x86dd, advert(135, c6, b6, b6, s)) }, false},
		{"VLAN tag", func(s string) []byte {
			return ethernet(dst, own, 0x8100, append([]byte{0, 5, 8, 0}, udpPacket(a4, b4, 9, s)...))
		}, false},
		{"neither IP nor ARP", func(s string) []byte { return ethernet(dst, own, 0x88cc, []byte(s)) }, false},
	}
	seen := capture(t, to.Namespace, "eth0")
	before, bad := n.dropped("bridge", "spoofed"), 0
	text := func(i int) string { return fmt.Sprintf("<<%d>> and some more, since a frame is 60 bytes at least", i) }
	for i, c := range cases {
		if !c.passes {
			bad++
			send(t, from.Namespace, "eth0", c.frame(text(i)))
		}
	}
	for i, c := range cases { // once these are there, the others would be
		if c.passes {
			send(t, from.Namespace, "eth0", c.frame(text(i)))
			arrives(t, c.what, seen, fmt.Sprintf("<<%d>>", i))
		}
	}
	for i, c := range cases {
		if !c.passes && seen(fmt.Sprintf("<<%d>>", i)) {
			t.Errorf("%s arrives", c.what)
		}
	}
	if got := n.dropped("bridge", "spoofed") - before; got < bad {
		t.Errorf("%d frames counted as spoofed, want %d", got, bad)
	}
	n.host.Run("nft", "delete", "table", "bridge", "towpath-policy")
	missed := 0
	for i, c := range cases { // without the table all get through to the pod, or to the IP rules
		if !c.passes {
			send(t, from.Namespace, "eth0", c.frame(text(i+100)))
		}
	}
	send(t, from.Namespace, "eth0", cases[0].frame(text(999)))
	arrives(t, "own IPv4", seen, "<<999>>")
	for i, c := range cases {
		if !c.passes && !seen(fmt.Sprintf("<<%d>>", i+100)) {
			missed++
		}
	}
	if missed == bad {
		t.Error("nothing arrives without the table either: the test proves nothing")
	}
	if n.dropped("inet", "spoofed") == 0 {
		t.Error("the IP rules let sources pass that are no pod's")
	}
}

// TestNobodyForgesTheTunnel: packets of the tunnel's form reach pods, and no node.
func TestNobodyForgesTheTunnel(t *testing.T) {
	n, from, to := spoofNode(t)
	own, _ := net.ParseMAC(from.mac())
	gateway, _ := net.ParseMAC(n.host.Run("sh", "-c", "tr -d '\\n' </sys/class/net/cni0/address"))
	dst, _ := net.ParseMAC(to.mac())
	outside, toPod := capture(t, n.outside, "eth0"), capture(t, to.Namespace, "eth0")
	received := make(chan string, 100)
	n.host.Do(func() {
		c, err := net.ListenPacket("udp", ":8472")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 100)
			for {
				k, _, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				received <- string(buf[:k])
			}
		}()
	})
	before := n.dropped("inet", "tunnelled")
	for i, to := range []netip.Addr{outsideAddr.IPv4, nodeAddr.IPv4, uplinkAddr.IPv4, outsideAddr.IPv6, nodeAddr.IPv6, uplinkAddr.IPv6} {
		src, kind := from.addrs.IPv4, uint16(0x0800)
		if to.Is6() {
			src, kind = from.addrs.IPv6, 0x86dd
		}
		send(t, from.Namespace, "eth0", ethernet(gateway, own, kind, udpPacket(src, to, 8472, fmt.Sprintf("<<forged %d>>", i))))
	}
	// As another node's pod: what is not masqueraded comes to this node's address within the pod network.
	n.outside.Do(func() {
		for _, a := range []netip.Addr{remoteAddr.IPv4, remoteAddr.IPv6} {
			target := nodeAddr.IPv4
			if a.Is6() {
				target = nodeAddr.IPv6
			}
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: a.AsSlice()}}
			c, err := d.Dial("udp", netip.AddrPortFrom(target, 8472).String())
			if err == nil {
				_, err = c.Write([]byte("<<forged afar>>"))
				c.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
		c, err := net.Dial("udp", netip.AddrPortFrom(uplinkAddr.IPv4, 8472).String())
		if err == nil {
			_, err = c.Write([]byte("<<a node>>"))
			c.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	send(t, from.Namespace, "eth0", ethernet(dst, own, 0x0800, udpPacket(from.addrs.IPv4, to.addrs.IPv4, 8472, "<<to a pod>>")),
		ethernet(gateway, own, 0x0800, udpPacket(from.addrs.IPv4, remoteAddr.IPv4, 8472, "<<to a pod afar>>")))
	arrives(t, "to a pod", toPod, "<<to a pod>>")
	arrives(t, "to a pod of another node", outside, "<<to a pod afar>>")
	select {
	case got := <-received:
		if got != "<<a node>>" {
			t.Errorf("the node received %q", got)
		}
	case <-time.After(patient):
		t.Error("what another node sends does not arrive")
	}
	if outside("<<forged") || len(received) > 0 {
		t.Error("a forged packet arrives")
	}
	n.host.Eventually(patient, func() string { // one that came from outside may have waited for a neighbour's address
		if got := n.dropped("inet", "tunnelled") - before; got != 8 {
			return fmt.Sprintf("%d packets counted, want 8", got)
		}
		return ""
	})
}
