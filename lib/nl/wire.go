package nl

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

var errShort = errors.New("netlink message too short")

// align is NLMSG_ALIGN and RTA_ALIGN.
func align(n int) int { return (n + 3) &^ 3 }

// begin appends the header of a request; finish completes it once its payload is there.
func begin(b []byte, kind, flags uint16, seq uint32) (out []byte, start int) {
	start = len(b)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	return binary.NativeEndian.AppendUint32(b, 0), start
}

func finish(b []byte, start int) []byte {
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

func appendAttrUint32(b []byte, kind uint16, v uint32) []byte {
	var raw [4]byte
	binary.NativeEndian.PutUint32(raw[:], v)
	return appendAttr(b, kind, raw[:])
}

func appendAttrAddr(b []byte, kind uint16, a netip.Addr) []byte {
	if a.Is4() {
		raw := a.As4()
		return appendAttr(b, kind, raw[:])
	}
	raw := a.As16()
	return appendAttr(b, kind, raw[:])
}

func appendNdmsg(b []byte, family uint8, link int, state uint16, flags uint8) []byte {
	b = append(b, family, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(link))
	b = binary.NativeEndian.AppendUint16(b, state)
	return append(b, flags, 0)
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// attrs calls f for each attribute of b. The kernel's length fields are checked, not trusted.
func attrs(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return errShort
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min(align(n), len(b)):]
	}
	return nil
}

func uint32Of(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

func addrOf(value []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(value)
	return a.Unmap()
}

// header is the fixed part of a netlink message.
type header struct {
	kind, flags uint16
	seq         uint32
}

// messages calls f for each message of a datagram until f returns false.
func messages(b []byte, f func(h header, payload []byte) bool) error {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return errShort
		}
		h := header{
			kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			seq: binary.NativeEndian.Uint32(b[8:]),
		}
		if !f(h, b[unix.SizeofNlMsghdr:n]) {
			return nil
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// MAC is an Ethernet address as a value.
type MAC [6]byte

// ParseMAC reads aa:bb:cc:dd:ee:ff and demands what a tunnel's end must have: six bytes, unicast,
// not all zero.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	switch {
	case err != nil || len(hw) != 6:
		return MAC{}, errors.New("not an Ethernet address")
	case MAC(hw) == MAC{}:
		return MAC{}, errors.New("the address is all zero")
	case hw[0]&1 != 0:
		return MAC{}, errors.New("a multicast address")
	}
	return MAC(hw), nil
}

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }
