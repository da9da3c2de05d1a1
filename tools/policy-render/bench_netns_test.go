//go:build netns

package main

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// handWritten is the frame of shared knowledge that ours is to beat: the mark first, the pod's own addresses before the
// look-up, the node's addresses in a set.
var handWritten = map[string]string{
	"forward": `ct mark & 0x00080000 == 0x00080000 counter drop
		ct state vmap { established : accept, related : accept, invalid : drop }
		iifname "cni0" ip saddr != @local4 goto unknown-pod
		goto egress`,
	"egress": `ip saddr vmap @egress4
		ip saddr @local4 goto unknown-pod
		goto ingress`,
	"ingress": `ip daddr vmap @ingress4
		ip daddr @nodeaddr4 accept
		ip daddr @local4 goto unknown-pod
		accept`,
}

const handWrittenSets = `
	set local4 { type ipv4_addr; flags interval; elements = { 10.244.1.0/24 }; }
	set nodeaddr4 { type ipv4_addr; elements = { 10.244.1.1, 192.168.9.1 }; }
`

// byHand puts the hand-written frame into a script of ours, without the bridge table.
func byHand(script string) string {
	inet, bridge, _ := strings.Cut(script, "table bridge towpath-policy {")
	for name, rules := range handWritten {
		re := regexp.MustCompile(`(?s)(\n\tchain ` + name + ` \{\n(?:\t\ttype [^\n]*\n)?).*?(\n\t\}\n)`)
		inet = re.ReplaceAllString(inet, "${1}\t\t"+rules+"${2}")
	}
	script = inet + "table bridge towpath-policy {" + bridge
	return strings.Replace(script, "table inet towpath-policy {", "table inet towpath-policy {"+handWrittenSets, 1)
}

// BenchmarkNewConnection is one packet that begins a connection between two pods of one bridge, which is all processed by
// the time that the system call returns. The sender's and the receiver's policies both match in their last rule.
func BenchmarkNewConnection(b *testing.B) {
	const trivial = "table inet t {\n\tchain c {\n\t\ttype filter hook forward priority filter\n\t\tct state established accept\n\t}\n}\n"
	for _, side := range []string{"tracked", "handwritten", "towpath", "towpath-no-bridge-table", "bare"} {
		b.Run(side+"/policies=1000", func(b *testing.B) {
			n := newNode(b, "dev/a", "dev/b")
			n.objects = b.TempDir() + "/objects.yaml"
			text := ""
			for name, p := range n.pods {
				n.addEndpoint(p)
				_, pod := splitName(name)
				text += strings.Replace(podYAML(pod, "uid-"+pod, p.addrs.IPv4.String()), "---", "---\n", 1)
			}
			for i := range 998 {
				text += policyYAML(fmt.Sprint("p", i), fmt.Sprintf("{podSelector: {matchLabels: {app: c%d}}, ingress: [{ports: [{port: %d}]}]}", i, i+1))
			}
			text += policyYAML("in", "{podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 9, protocol: UDP}]}]}")
			text += policyYAML("out", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 9, protocol: UDP}]}]}")
			n.write(n.objects, text)
			script := n.render("apply", "--output", "-")
			switch side {
			case "bare":
				script = ""
			case "tracked":
				script = trivial
			case "handwritten":
				script = byHand(script) + "delete table bridge towpath-policy\n"
			case "towpath-no-bridge-table":
				script += "delete table bridge towpath-policy\n"
			}
			n.write(n.objects+".nft", script)
			n.host.Run("nft", "-f", n.objects+".nft")
			a, to := n.pods["dev/a"], n.pods["dev/b"]
			to.Run("ping", "-c1", "-W1", nodeAddr.IPv4.String()) // the bridge learns its port
			src, _ := net.ParseMAC(a.mac())
			dst, _ := net.ParseMAC(to.mac())
			seen := capture(b, to.Namespace, "eth0")
			frame := ethernet(dst, src, 0x0800, udpPacket(a.addrs.IPv4, to.addrs.IPv4, 9, "<<bench>>"))
			send(b, a.Namespace, "eth0", frame)
			arrives(b, "a packet", seen, "<<bench>>")
			a.Do(func() {
				fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Error(err)
					return
				}
				defer unix.Close(fd)
				link, err := net.InterfaceByName("eth0")
				if err != nil {
					b.Error(err)
					return
				}
				frame[14+20+6], frame[14+20+7] = 0, 0 // no checksum
				at := &unix.SockaddrLinklayer{Ifindex: link.Index}
				port, start := uint32(1), threadTime()
				for b.Loop() {
					port++ // up to 65,535 connections: run with -benchtime=60000x
					frame[34], frame[35] = byte(port>>8), byte(port)
					if err := unix.Sendto(fd, frame, 0, at); err != nil {
						b.Error(err)
						return
					}
				}
				// Other processes do not count in this one.
				b.ReportMetric(float64(threadTime()-start)/float64(b.N), "cpu-ns/op")
			})
		})
	}
}

// threadTime is the processor time of the calling thread, ns.
func threadTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return ts.Nano()
}
