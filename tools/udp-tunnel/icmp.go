package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP's types and codes (RFC 792, RFC 1191).
const (
	icmpUnreachable = 3
	icmpNet         = 0
	icmpFragNeeded  = 4
)

// What the kernel allows itself: net.ipv4.icmp_msgs_burst and a part of icmp_msgs_per_sec.
const (
	icmpBurst     = 50
	icmpPerSecond = 100
)

// maxQuote is how much of a packet goes back to its sender (RFC 1812, 4.3.2.3: a message of 576 bytes at most).
const maxQuote = 576 - ipv4Header - 8

// errands tells senders that their packets cannot be carried, as a router would. The messages go out by a raw socket:
// from the device they would have a source that is this node's own, and the kernel takes no such packet from a device.
type errands struct {
	fd     int
	buf    [8 + maxQuote]byte
	tokens int
	filled time.Time
}

func newErrands() (*errands, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	const icmpFilter = 1                                                         // ICMP_FILTER of linux/icmp.h
	if err := unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, -1); err != nil { // it is for sending only
		unix.Close(fd) //nolint:errcheck // the first error counts
		return nil, fmt.Errorf("filter raw socket: %w", err)
	}
	return &errands{fd: fd, tokens: icmpBurst, filled: time.Now()}, nil
}

func (e *errands) close() {
	if e != nil {
		unix.Close(e.fd) //nolint:errcheck // nothing more is sent
	}
}

// unreachable tells the sender of b that code, with the MTU of the way where that is what it is about.
func (e *errands) unreachable(b []byte, code byte, mtu int) {
	if e == nil || !deservesError(b) || !e.allowed(time.Now()) {
		return
	}
	m := message(e.buf[:], b, code, mtu)
	to := &unix.SockaddrInet4{}
	copy(to.Addr[:], b[12:16])
	_ = unix.Sendto(e.fd, m, unix.MSG_DONTWAIT, to) // an error message is no promise
}

func (e *errands) allowed(now time.Time) bool {
	if more := int(now.Sub(e.filled) * icmpPerSecond / time.Second); more > 0 {
		e.tokens, e.filled = min(e.tokens+more, icmpBurst), now
	}
	if e.tokens == 0 {
		return false
	}
	e.tokens--
	return true
}

// message is the ICMP message about the packet b.
func message(buf, b []byte, code byte, mtu int) []byte {
	m := buf[:8+copy(buf[8:], b)]
	clear(m[:8])
	m[0], m[1] = icmpUnreachable, code
	binary.BigEndian.PutUint16(m[6:], uint16(mtu))
	binary.BigEndian.PutUint16(m[2:], internetChecksum(m))
	return m
}

func internetChecksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}

// deservesError is RFC 1122, 3.2.2: no error about an error, about a fragment but the first, nor about what came from or went
// to many.
func deservesError(b []byte) bool {
	header := int(b[0]&0xf) * 4
	src, _ := netip.AddrFromSlice(b[12:16])
	dst, _ := netip.AddrFromSlice(b[16:20])
	switch {
	case binary.BigEndian.Uint16(b[6:])&0x1fff != 0, src.IsUnspecified(), src.IsLoopback(), src.IsMulticast(), dst.IsMulticast(), src.As4()[0] >= 240, dst.As4()[0] >= 240:
		return false
	case b[9] != unix.IPPROTO_ICMP:
		return true
	}
	if len(b) <= header {
		return false
	}
	switch b[header] { // queries
	case 0, 8, 13, 14, 15, 16, 17, 18:
		return true
	}
	return false
}
