package nl

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFlowMarkText(t *testing.T) {
	tuple := func(protocol uint8, src, dst string) Tuple {
		return Tuple{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Protocol: protocol}
	}
	tcp := tuple(unix.IPPROTO_TCP, "10.0.0.1", "10.0.0.2")
	tcp.SrcPort, tcp.DstPort = 1000, 80
	ping := tuple(unix.IPPROTO_ICMP, "10.0.0.1", "10.0.0.2")
	ping.ICMPType, ping.ICMPID = 8, 7
	ping6 := tuple(unix.IPPROTO_ICMPV6, "fd00::1", "fd00::2")
	ping6.ICMPType, ping6.ICMPID = 128, 7
	gre := tuple(unix.IPPROTO_GRE, "10.0.0.1", "10.0.0.2")
	gre.SrcPort, gre.DstPort = 3, 4
	for want, m := range map[string]FlowMark{
		"conntrack -U -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 --mark 0x80000/0x80000":                          {Flow{Orig: tcp}, 0x80000, 0x80000},
		"conntrack -U -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 --mark 0x0/0x80000 # zone 9":                     {Flow{Orig: tcp, Zone: 9}, 0, 0x80000},
		"conntrack -U -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7 --mark 0x1/0x1":                 {Flow{Orig: ping}, 1, 1},
		"conntrack -U -f ipv6 -p icmpv6 -s fd00::1 -d fd00::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 7 --mark 0x1/0x1": {Flow{Orig: ping6}, 1, 1},
		"conntrack -U -p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 3 --dstkey 4 --mark 0x1/0x1":                                    {Flow{Orig: gre}, 1, 1},
		"conntrack -U -p 89 -s 10.0.0.1 -d 10.0.0.2 --mark 0x1/0x1":                                                           {Flow{Orig: tuple(89, "10.0.0.1", "10.0.0.2")}, 1, 1},
	} {
		if got := m.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// FuzzParseFlow: whatever the kernel might send, nothing is read beyond it, and what is read can be
// written and read again.
func FuzzParseFlow(f *testing.F) {
	all := func(netip.Addr, netip.Addr) bool { return true }
	body := func(flow Flow) []byte {
		b := appendTuple([]byte{familyOf(flow.Orig.Src), 0, 0, 0}, ctaTupleOrig, flow.Orig)
		b = appendTuple(b, ctaTupleReply, flow.Reply)
		if flow.Master.Src.IsValid() {
			b = appendTuple(b, ctaTupleMaster, flow.Master)
		}
		return appendAttr(appendZone(b, ctaZone, flow.Zone), ctaMark, be32(flow.Mark))
	}
	for _, src := range []string{"10.0.0.1", "fd00::1"} {
		for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
			a := netip.MustParseAddr(src)
			t := Tuple{Src: a, Dst: a.Next(), Protocol: protocol}
			f.Add(body(Flow{Orig: t, Reply: t, Master: t, Mark: 5, Zone: 6}))
		}
	}
	f.Add([]byte{2, 0, 0, 0, 255, 255, 1, 128})
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, ok, err := parseFlow(b, all)
		if !ok || err != nil {
			return
		}
		for _, tuple := range []Tuple{flow.Orig, flow.Reply, flow.Master} {
			if tuple == (Tuple{}) {
				continue
			}
			icmp := tuple.Protocol == unix.IPPROTO_ICMP || tuple.Protocol == unix.IPPROTO_ICMPV6
			if !tuple.Src.IsValid() || !tuple.Dst.IsValid() || tuple.Src.Is4() != tuple.Dst.Is4() || icmp && tuple.SrcPort|tuple.DstPort != 0 ||
				!icmp && (tuple.ICMPID != 0 || tuple.ICMPType|tuple.ICMPCode != 0) {
				return // no entry of a kernel
			}
		}
		if again, ok, err := parseFlow(body(flow), all); !ok || err != nil || again != flow {
			t.Errorf("%+v became %+v, %v", flow, again, err)
		}
	})
}
