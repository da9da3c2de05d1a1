package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is what the headers of a packet say. What was cut off is zero.
type packet struct {
	Src, Dst netip.Addr // of ARP: who asks or answers, and whom
	Protocol string     // TCP, UDP, SCTP, ICMP, ICMPv6, ARP, "IP protocol 47", "ether type 0x88cc"
	Ports    bool       // SrcPort and DstPort are known
	SrcPort  uint16
	DstPort  uint16
	Detail   string // "echo request", "who has 10.244.1.1"
}

// parsePacket reads the payload of a logged packet, which begins with the header of its ether type.
func parsePacket(etherType uint16, b []byte) packet {
	p := packet{}
	switch etherType {
	case unix.ETH_P_IP:
		p.ipv4(b)
	case unix.ETH_P_IPV6:
		p.ipv6(b)
	case unix.ETH_P_ARP:
		p.arp(b)
	default:
		p.Protocol = fmt.Sprintf("ether type 0x%04x", etherType)
	}
	return p
}

func (p *packet) ipv4(b []byte) {
	p.Protocol = "IPv4"
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	size := int(b[0]&0xf) * 4
	first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	if size < 20 || size > len(b) || !first {
		p.transport(b[9], nil)
		return
	}
	p.transport(b[9], b[size:])
}

// Extension headers of IPv6 that stand before the transport header.
const (
	hopByHop, routing, fragment, destination = 0, 43, 44, 60
)

func (p *packet) ipv6(b []byte) {
	p.Protocol = "IPv6"
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	next, b := b[6], b[40:]
	for {
		size := 8
		switch next {
		case hopByHop, routing, destination:
			if len(b) >= 2 {
				size = (int(b[1]) + 1) * 8
			}
		case fragment:
		default:
			p.transport(next, b)
			return
		}
		if len(b) < size {
			p.transport(next, nil)
			return
		}
		later := next == fragment && binary.BigEndian.Uint16(b[2:])&^7 != 0
		next, b = b[0], b[size:]
		if later {
			p.transport(next, nil)
			return
		}
	}
}

var protocols = map[byte]string{
	unix.IPPROTO_TCP: "TCP", unix.IPPROTO_UDP: "UDP", unix.IPPROTO_SCTP: "SCTP", unix.IPPROTO_ICMP: "ICMP", unix.IPPROTO_ICMPV6: "ICMPv6",
}

var icmpTypes = map[string]map[byte]string{
	"ICMP": {0: "echo reply", 3: "destination unreachable", 8: "echo request", 11: "time exceeded"},
	"ICMPv6": {
		1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request", 129: "echo reply",
		133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement", 137: "redirect",
	},
}

// transport reads the header after that of IP; b is nil where it is not there.
func (p *packet) transport(number byte, b []byte) {
	p.Protocol = protocols[number]
	switch p.Protocol {
	case "":
		p.Protocol = fmt.Sprintf("IP protocol %d", number)
	case "ICMP", "ICMPv6":
		if len(b) > 0 {
			p.Detail = icmpTypes[p.Protocol][b[0]]
			if p.Detail == "" {
				p.Detail = fmt.Sprintf("type %d", b[0])
			}
		}
		if len(b) >= 24 && (p.Detail == "neighbor solicitation" || p.Detail == "neighbor advertisement") {
			p.Detail += " of " + netip.AddrFrom16([16]byte(b[8:])).String()
		}
	default:
		if p.Ports = len(b) >= 4; p.Ports {
			p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	}
}

func (p *packet) arp(b []byte) {
	p.Protocol = "ARP"
	if len(b) < 28 || b[4] != 6 || b[5] != 4 { // Ethernet and IPv4
		return
	}
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		p.Detail = "who has " + p.Dst.String()
	case 2:
		p.Detail = fmt.Sprintf("%s is at %s", p.Src, net.HardwareAddr(b[8:14]))
	}
}
