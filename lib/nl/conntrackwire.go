package nl

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctNew      = 0
	ctGet      = 1
	ctGetStats = 5

	ctaStatsEntries = 1
	ctaStatsMax     = 2

	ctaTupleOrig   = 1
	ctaTupleReply  = 2
	ctaMark        = 8
	ctaTupleMaster = 14
	ctaZone        = 18
	ctaMarkMask    = 21
	ctaFilter      = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum        = 1
	ctaProtoSrcPort    = 2
	ctaProtoDstPort    = 3
	ctaProtoICMPID     = 4
	ctaProtoICMPType   = 5
	ctaProtoICMPCode   = 6
	ctaProtoICMPv6ID   = 7
	ctaProtoICMPv6Type = 8
	ctaProtoICMPv6Code = 9

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	ctaFilterIPSrc      = 1 << 0
)

// FlowMark changes bits of a flow's mark: those of Mask become those of Bits. A flow that is gone is
// no error, and none is made.
type FlowMark struct {
	Flow Flow
	Bits uint32
	Mask uint32
}

// String is the change in the syntax of conntrack(8).
func (m FlowMark) String() string {
	t := m.Flow.Orig
	var b strings.Builder
	b.WriteString("conntrack -U")
	if t.Src.Is6() {
		b.WriteString(" -f ipv6")
	}
	b.WriteString(" -p " + protocolName(t.Protocol) + " -s " + t.Src.String() + " -d " + t.Dst.String())
	number := func(option string, n int) { b.WriteString(" " + option + " " + strconv.Itoa(n)) }
	switch t.Protocol {
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		option := "--icmp"
		if t.Src.Is6() {
			option = "--icmpv6"
		}
		number(option+"-type", int(t.ICMPType))
		number(option+"-code", int(t.ICMPCode))
		number(option+"-id", int(t.ICMPID))
	case unix.IPPROTO_GRE:
		number("--srckey", int(t.SrcPort))
		number("--dstkey", int(t.DstPort))
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE:
		number("--sport", int(t.SrcPort))
		number("--dport", int(t.DstPort))
	}
	b.WriteString(" --mark 0x" + strconv.FormatUint(uint64(m.Bits), 16) + "/0x" + strconv.FormatUint(uint64(m.Mask), 16))
	if zone := max(m.Flow.Zone, t.Zone, m.Flow.Reply.Zone); zone != 0 {
		// conntrack -U cannot name a zone, nor change a flow in one.
		number("# zone", int(zone))
	}
	return b.String()
}

// encode sends no NLM_F_CREATE, so that the kernel changes an entry or says ENOENT. The kernel clears
// the bits of the mask and then XORs the others in.
func (m FlowMark) encode(b []byte, seq uint32) []byte {
	b, start := begin(b, unix.NFNL_SUBSYS_CTNETLINK<<8|ctNew, unix.NLM_F_ACK, seq)
	b = append(b, familyOf(m.Flow.Orig.Src), unix.NFNETLINK_V0, 0, 0)
	b = appendTuple(b, ctaTupleOrig, m.Flow.Orig)
	b = appendZone(b, ctaZone, m.Flow.Zone)
	b = appendAttr(b, ctaMark, be32(m.Bits&m.Mask))
	return finish(appendAttr(b, ctaMarkMask, be32(m.Mask)), start)
}

func (FlowMark) done(errno unix.Errno) bool { return errno == unix.ENOENT }

func protocolName(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_DCCP:
		return "dccp"
	case unix.IPPROTO_UDPLITE:
		return "udplite"
	case unix.IPPROTO_GRE:
		return "gre"
	}
	return strconv.Itoa(int(p))
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func appendZone(b []byte, attr, zone uint16) []byte {
	if zone == 0 {
		return b
	}
	return appendAttr(b, attr, be16(zone))
}

// appendTuple appends all that the kernel needs to find an entry.
func appendTuple(b []byte, attr uint16, t Tuple) []byte {
	src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if t.Src.Is6() {
		src, dst = ctaIPv6Src, ctaIPv6Dst
	}
	ip := appendAttrAddr(appendAttrAddr(nil, src, t.Src), dst, t.Dst)
	proto := appendAttr(nil, ctaProtoNum, []byte{t.Protocol})
	switch t.Protocol {
	case unix.IPPROTO_ICMP:
		proto = appendAttr(proto, ctaProtoICMPID, be16(t.ICMPID))
		proto = appendAttr(proto, ctaProtoICMPType, []byte{t.ICMPType})
		proto = appendAttr(proto, ctaProtoICMPCode, []byte{t.ICMPCode})
	case unix.IPPROTO_ICMPV6:
		proto = appendAttr(proto, ctaProtoICMPv6ID, be16(t.ICMPID))
		proto = appendAttr(proto, ctaProtoICMPv6Type, []byte{t.ICMPType})
		proto = appendAttr(proto, ctaProtoICMPv6Code, []byte{t.ICMPCode})
	default: // ignored by protocols without ports
		proto = appendAttr(proto, ctaProtoSrcPort, be16(t.SrcPort))
		proto = appendAttr(proto, ctaProtoDstPort, be16(t.DstPort))
	}
	nested := appendAttr(nil, ctaTupleIP|unix.NLA_F_NESTED, ip)
	nested = appendAttr(nested, ctaTupleProto|unix.NLA_F_NESTED, proto)
	return appendAttr(b, attr|unix.NLA_F_NESTED, appendZone(nested, ctaTupleZone, t.Zone))
}

// parseFlow reads an entry. It stops early at one that match does not want: of 50,000 nearly all.
func parseFlow(b []byte, match func(orig, reply netip.Addr) bool) (f Flow, ok bool, err error) {
	if len(b) < 4 { // struct nfgenmsg
		return f, false, errShort
	}
	b = b[4:]
	orig, reply := attribute(b, ctaTupleOrig), attribute(b, ctaTupleReply)
	if !match(tupleSource(orig), tupleSource(reply)) {
		return f, false, nil
	}
	var bad error
	note := func(e error) {
		if e != nil && bad == nil {
			bad = e
		}
	}
	err = attrs(b, func(kind uint16, v []byte) {
		switch kind {
		case ctaTupleOrig:
			note(parseTuple(v, &f.Orig))
		case ctaTupleReply:
			note(parseTuple(v, &f.Reply))
		case ctaTupleMaster:
			note(parseTuple(v, &f.Master))
		case ctaMark:
			f.Mark = beUint32(v)
		case ctaZone:
			f.Zone = beUint16(v)
		}
	})
	if err == nil {
		err = bad
	}
	return f, err == nil && f.Orig.Src.IsValid() && f.Reply.Src.IsValid(), err
}

// tupleSource is the source address of a tuple, without reading the rest of it.
func tupleSource(b []byte) netip.Addr {
	ip := attribute(b, ctaTupleIP)
	v := attribute(ip, ctaIPv4Src)
	if v == nil {
		v = attribute(ip, ctaIPv6Src)
	}
	a, _ := netip.AddrFromSlice(v) // not unmapped: it says the family
	return a
}

func parseTuple(b []byte, t *Tuple) error {
	var bad error
	err := attrs(b, func(kind uint16, v []byte) {
		var e error
		switch kind {
		case ctaTupleIP:
			e = attrs(v, func(kind uint16, v []byte) {
				switch kind {
				case ctaIPv4Src, ctaIPv6Src:
					t.Src, _ = netip.AddrFromSlice(v)
				case ctaIPv4Dst, ctaIPv6Dst:
					t.Dst, _ = netip.AddrFromSlice(v)
				}
			})
		case ctaTupleProto:
			e = attrs(v, func(kind uint16, v []byte) { parseProto(kind, v, t) })
		case ctaTupleZone:
			t.Zone = beUint16(v)
		}
		if e != nil {
			bad = e
		}
	})
	if err == nil {
		err = bad
	}
	return err
}

func parseProto(kind uint16, v []byte, t *Tuple) {
	first := func() uint8 {
		if len(v) == 0 {
			return 0
		}
		return v[0]
	}
	switch kind {
	case ctaProtoNum:
		t.Protocol = first()
	case ctaProtoSrcPort:
		t.SrcPort = beUint16(v)
	case ctaProtoDstPort:
		t.DstPort = beUint16(v)
	case ctaProtoICMPID, ctaProtoICMPv6ID:
		t.ICMPID = beUint16(v)
	case ctaProtoICMPType, ctaProtoICMPv6Type:
		t.ICMPType = first()
	case ctaProtoICMPCode, ctaProtoICMPv6Code:
		t.ICMPCode = first()
	}
}

func beUint16(v []byte) uint16 {
	if len(v) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(v)
}

func beUint32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}
