package main

import "encoding/binary"

// verdict is what becomes of a packet.
type verdict int

const (
	accepted    verdict = iota
	malformed           // no IPv4 packet
	noPeer              // to an address of no peer's subnet
	tooBig              // for the way to the peer
	unsent              // the kernel did not take it for the uplink
	stranger            // from an address that is no peer's
	forged              // from a peer, with a source that is not its
	misdirected         // from a peer, to an address that is not of this node's subnet
	undelivered         // the kernel did not take it from the device
	verdicts
)

var verdictTexts = [verdicts]string{
	"", "no IPv4", "to no peer", "too big for the way", "not sent", "from no peer", "of a source that is not the peer's",
	"not to this node", "not delivered",
}

// ipv4Header is the least length of an IPv4 header, bytes.
const ipv4Header = 20

// packet is what is looked at of an IPv4 packet's header.
type packet struct {
	src, dst uint32
	size     int // as the header says: what is behind it does not belong to the packet
}

// parse reads the header of an IPv4 packet. Its checksum is the kernel's to look at.
func parse(b []byte) (packet, bool) {
	if len(b) < ipv4Header || b[0]>>4 != 4 {
		return packet{}, false
	}
	size := int(binary.BigEndian.Uint16(b[2:]))
	if header := int(b[0]&0xf) * 4; header < ipv4Header || size < header || size > len(b) {
		return packet{}, false
	}
	return packet{src: binary.BigEndian.Uint32(b[12:]), dst: binary.BigEndian.Uint32(b[16:]), size: size}, true
}

// dontFragment says whether the sender forbids routers to cut the packet up.
func dontFragment(b []byte) bool { return b[6]&0x40 != 0 }
