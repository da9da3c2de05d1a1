package probe

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// ARP is the payload of an ARP message: 1 is a request, 2 a reply.
func ARP(operation uint16, fromMAC net.HardwareAddr, from netip.Addr, toMAC net.HardwareAddr, to netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, operation)
	b = append(append(b, fromMAC...), from.AsSlice()...)
	return append(append(b, toMAC...), to.AsSlice()...)
}

// Types of ICMPv6 messages.
const (
	RouterAdvertisement   = 134
	NeighbourSolicitation = 135
	NeighbourAdvert       = 136
	Redirect              = 137
)

// ND is an IPv6 packet with a message of neighbour discovery about target, saying that its link-layer
// address is mac.
func ND(kind uint8, from, to, target netip.Addr, mac net.HardwareAddr) []byte {
	body := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	option := byte(2) // target's link-layer address
	switch kind {
	case RouterAdvertisement:
		body = append(body[:4], 64, 0, 7, 8) // hop limit, flags, lifetime
		body = append(body, 0, 0, 0, 0, 0, 0, 0, 0)
		option = 1
	case NeighbourSolicitation:
		body, option = append(body, target.AsSlice()...), 1
	case NeighbourAdvert:
		body[4] = 0x60 // solicited, override
		body = append(body, target.AsSlice()...)
	case Redirect:
		body = append(append(body, target.AsSlice()...), to.AsSlice()...)
	}
	body = append(append(body, option, 1), mac...)
	pseudo := sum(from.AsSlice()) + sum(to.AsSlice()) + ICMPv6 + uint32(len(body))
	binary.BigEndian.PutUint16(body[2:], fold(pseudo+sum(body)))
	head := []byte{6 << 4, 0, 0, 0, 0, 0, ICMPv6, 255}
	binary.BigEndian.PutUint16(head[4:], uint16(len(body)))
	return append(append(append(head, from.AsSlice()...), to.AsSlice()...), body...)
}
