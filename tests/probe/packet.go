// Package probe asks a kernel's rules about packets: it crafts them, thousands a second, sends them
// into a router's namespace over a veth and sees which come out of it. There need be no pod behind
// an address and no server behind a port. SCTP is probed the same way, by INIT chunks, since not every
// kernel has SCTP sockets; what the rules and conntrack see is the same packet. Only tests import it.
package probe

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// The protocols a Packet can have.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132
)

// Packet is the first packet of a flow: a SYN, an INIT, an echo request, a datagram.
type Packet struct {
	From, To netip.Addr // of one family
	Protocol uint8      // ICMP stands for ICMPv6 where the addresses are IPv6
	// SourcePort and Port are ports; of an echo request SourcePort is the identifier, and Port means nothing.
	SourcePort, Port uint16
	ID               uint32 // tells the packet from others
}

func (p Packet) String() string {
	name, ok := map[uint8]string{ICMP: "ICMP", ICMPv6: "ICMP", TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}[p.Protocol]
	if !ok {
		name = fmt.Sprintf("protocol %d", p.Protocol)
	}
	return fmt.Sprintf("%s -> %s %d/%s", p.From, p.To, p.Port, name)
}

// mark precedes the ID in the data of every packet.
const mark = 0x746f7770

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Bytes is the packet from its IP header on, with right checksums.
func (p Packet) Bytes() []byte {
	body, sumAt := p.body()
	v6 := p.From.Is6()
	protocol := p.Protocol
	if v6 && protocol == ICMP {
		protocol = ICMPv6
	}
	if sumAt >= 0 {
		var pseudo uint32
		if protocol != ICMP {
			pseudo = sum(p.From.AsSlice()) + sum(p.To.AsSlice()) + uint32(protocol) + uint32(len(body))
		}
		c := fold(pseudo + sum(body))
		if c == 0 && protocol == UDP {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(body[sumAt:], c)
	}
	var head []byte
	if v6 {
		head = make([]byte, 40, 40+len(body))
		head[0] = 6 << 4
		binary.BigEndian.PutUint16(head[4:], uint16(len(body)))
		head[6], head[7] = protocol, 64
		copy(head[8:], p.From.AsSlice())
		copy(head[24:], p.To.AsSlice())
	} else {
		head = make([]byte, 20, 20+len(body))
		head[0] = 4<<4 | 5
		binary.BigEndian.PutUint16(head[2:], uint16(20+len(body)))
		binary.BigEndian.PutUint16(head[4:], uint16(p.ID))
		head[8], head[9] = 64, protocol
		copy(head[12:], p.From.AsSlice())
		copy(head[16:], p.To.AsSlice())
		binary.BigEndian.PutUint16(head[10:], fold(sum(head)))
	}
	return append(head, body...)
}

// body is what follows the IP header, and where in it the Internet checksum belongs (-1: nowhere).
func (p Packet) body() ([]byte, int) {
	data := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, mark), p.ID)
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SourcePort), p.Port)
	switch p.Protocol {
	case TCP:
		b := append(ports, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 0x02, 0xff, 0xff, 0, 0, 0, 0)
		return append(b, data...), 16
	case UDP:
		b := binary.BigEndian.AppendUint16(ports, uint16(8+len(data)))
		return append(append(b, 0, 0), data...), 6
	case SCTP:
		b := append(ports, 0, 0, 0, 0, 0, 0, 0, 0) // verification tag 0, as of an INIT; checksum
		b = append(b, 1, 0, 0, 20)
		b = binary.BigEndian.AppendUint32(b, p.ID|1<<31) // initiate tag, not 0
		b = append(b, 0, 1, 0, 0, 0, 1, 0, 1)            // window, streams
		b = append(b, data[:4]...)                       // first TSN: the mark
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
		return b, -1
	case ICMP, ICMPv6:
		kind := byte(8)
		if p.From.Is6() {
			kind = 128
		}
		b := append([]byte{kind, 0, 0, 0}, ports[:2]...)
		return append(append(b, 0, 1), data...), 2
	}
	return data, -1
}

// Parse reads a packet from its IP header on; false if it is none of ours.
func Parse(b []byte) (Packet, bool) {
	var p Packet
	switch {
	case len(b) >= 40 && b[0]>>4 == 6:
		p.From, _ = netip.AddrFromSlice(b[8:24])
		p.To, _ = netip.AddrFromSlice(b[24:40])
		p.Protocol, b = b[6], b[40:]
	case len(b) >= 20 && b[0]>>4 == 4:
		p.From, _ = netip.AddrFromSlice(b[12:16])
		p.To, _ = netip.AddrFromSlice(b[16:20])
		p.Protocol, b = b[9], b[20:min(len(b), int(binary.BigEndian.Uint16(b[2:])))]
	default:
		return p, false
	}
	offset, ports := 0, true
	switch p.Protocol {
	case TCP:
		offset = 20
	case UDP:
		offset = 8
	case ICMP, ICMPv6:
		offset, ports = 8, false
	case SCTP:
		if len(b) < 32 || binary.BigEndian.Uint32(b[28:]) != mark {
			return p, false
		}
		p.SourcePort, p.Port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.ID = binary.BigEndian.Uint32(b[16:]) &^ (1 << 31)
		return p, true
	default:
		ports = false
	}
	if len(b) < offset+8 || binary.BigEndian.Uint32(b[offset:]) != mark {
		return p, false
	}
	if ports {
		p.SourcePort, p.Port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	p.ID = binary.BigEndian.Uint32(b[offset+4:])
	return p, true
}

// sum is the sum of the 16-bit words of b, not folded.
func sum(b []byte) uint32 {
	var s uint32
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
