//go:build netns

package main

import (
	"net"
	"net/netip"
	"testing"
)

// TestNobodyReachesTheIsolatedAmongMany: what goes to all pods of the bridge does not reach one that is isolated, and does
// reach one that is not, or that allows everything.
func TestNobodyReachesTheIsolatedAmongMany(t *testing.T) {
	n := newNode(t, "default/a", "default/open", "dev/closed", "all/allowed")
	n.objects = t.TempDir() + "/objects.yaml"
	text := ""
	for name, p := range n.pods {
		n.addEndpoint(p)
		namespace, pod := splitName(name)
		text += "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + pod + ", namespace: " + namespace + ", uid: uid-" + pod + "}\nspec: {nodeName: n1}\nstatus: {podIPs: [{ip: " + p.addrs.IPv4.String() + "}]}\n"
	}
	for namespace, spec := range map[string]string{"dev": "{podSelector: {}}", "all": "{podSelector: {}, ingress: [{}]}"} {
		text += "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: " + namespace + "}\nspec: " + spec + "\n"
	}
	n.write(n.objects, text)
	from := n.pods["default/a"]
	own, _ := net.ParseMAC(from.mac())
	a4, a6 := from.addrs.IPv4, from.addrs.IPv6
	closedMAC, _ := net.ParseMAC(n.pods["dev/closed"].mac())
	frames := map[string][]byte{
		"<<IPv4 group>>":   ethernet(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, own, 0x0800, udpPacket(a4, netip.MustParseAddr("224.0.0.1"), 9, "<<IPv4 group>>")),
		"<<broadcast>>":    ethernet(net.HardwareAddr{255, 255, 255, 255, 255, 255}, own, 0x0800, udpPacket(a4, netip.MustParseAddr("255.255.255.255"), 9, "<<broadcast>>")),
		"<<IPv6 group>>":   ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, own, 0x86dd, udpPacket(a6, netip.MustParseAddr("ff02::1"), 9, "<<IPv6 group>>")),
		"<<group, alone>>": ethernet(closedMAC, own, 0x0800, udpPacket(a4, netip.MustParseAddr("224.0.0.1"), 9, "<<group, alone>>")),
	}
	solicitation := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, own, 0x86dd,
		advert(135, a6, netip.MustParseAddr("ff02::1"), n.pods["dev/closed"].addrs.IPv6, "<<solicitation>>"))
	seen := map[string]func(string) bool{}
	for name, p := range n.pods {
		seen[name] = capture(t, p.Namespace, "eth0")
	}
	n.host.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
	for _, f := range frames { // without rules all arrive
		send(t, from.Namespace, "eth0", f)
	}
	for text := range frames {
		arrives(t, text+" without rules", seen["dev/closed"], text)
	}
	n.load()
	seen["dev/closed"] = capture(t, n.pods["dev/closed"].Namespace, "eth0")
	seen["default/open"], seen["all/allowed"] = capture(t, n.pods["default/open"].Namespace, "eth0"), capture(t, n.pods["all/allowed"].Namespace, "eth0")
	for _, f := range frames {
		send(t, from.Namespace, "eth0", f)
	}
	send(t, from.Namespace, "eth0", solicitation)
	arrives(t, "a solicitation", seen["dev/closed"], "<<solicitation>>")
	for text := range frames {
		if seen["dev/closed"](text) {
			t.Errorf("%s reaches the isolated pod", text)
		}
		if text == "<<group, alone>>" {
			continue
		}
		arrives(t, text+" to an open pod", seen["default/open"], text)
		arrives(t, text+" to a pod that allows everything", seen["all/allowed"], text)
	}
}
