//go:build netns

package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
)

// Frames are made by hand, as a pod with CAP_NET_RAW can.

func ethernet(dst, src net.HardwareAddr, kind uint16, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(append([]byte{}, dst...), src...), kind), payload...)
}

func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i := 0; i < len(p); i += 2 {
			word := uint32(p[i]) << 8
			if i+1 < len(p) {
				word |= uint32(p[i+1])
			}
			sum += word
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ipPacket is a packet whose checksum lies at offset at of the payload.
func ipPacket(src, dst netip.Addr, protocol byte, hops byte, payload []byte, at int) []byte {
	length := []byte{0, 0, 0, protocol, byte(len(payload) >> 8), byte(len(payload))}
	binary.BigEndian.PutUint16(payload[at:], checksum(src.AsSlice(), dst.AsSlice(), length, payload))
	if src.Is6() {
		head := []byte{0x60, 0, 0, 0, byte(len(payload) >> 8), byte(len(payload)), protocol, hops}
		return append(append(append(head, src.AsSlice()...), dst.AsSlice()...), payload...)
	}
	total := 20 + len(payload)
	head := append([]byte{0x45, 0, byte(total >> 8), byte(total), 0, 1, 0, 0, hops, protocol, 0, 0}, append(src.AsSlice(), dst.AsSlice()...)...)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return append(head, payload...)
}

func udpPacket(src, dst netip.Addr, port uint16, text string) []byte {
	u := binary.BigEndian.AppendUint16([]byte{0x9c, 0x40}, port)
	u = append(binary.BigEndian.AppendUint16(u, uint16(8+len(text))), 0, 0)
	return ipPacket(src, dst, unix.IPPROTO_UDP, 64, append(u, text...), 6)
}

// advert is an ICMPv6 message of neighbour discovery about a target; text fills it up.
func advert(kind byte, src, dst, target netip.Addr, text string) []byte {
	m := append([]byte{kind, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...)
	return ipPacket(src, dst, unix.IPPROTO_ICMPV6, 255, append(m, text...), 2)
}

// arp is a request (1) or reply (2); text is behind it, where nobody looks.
func arp(operation byte, mac net.HardwareAddr, sender, target netip.Addr, text string) []byte {
	p := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, mac...)
	p = append(append(p, sender.AsSlice()...), 0, 0, 0, 0, 0, 0)
	return append(append(p, target.AsSlice()...), text...)
}

// send puts frames on a device.
func send(t testing.TB, ns *nstest.Namespace, device string, frames ...[]byte) {
	t.Helper()
	ns.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		link, err := net.InterfaceByName(device)
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
				t.Error(err)
			}
		}
	})
}

// capture begins to record what comes in by a device, and returns what finds a text in it.
func capture(t testing.TB, ns *nstest.Namespace, device string) (seen func(text string) bool) {
	t.Helper()
	var fd int
	ns.Do(func() {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0x0300); err != nil { // ETH_P_ALL
			t.Error(err)
			return
		}
		link, err := net.InterfaceByName(device)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: link.Index})
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { unix.Close(fd) })
	var got bytes.Buffer
	return func(text string) bool {
		buf := make([]byte, 2000)
		for {
			k, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				break
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
				got.Write(buf[:k])
			}
		}
		return strings.Contains(got.String(), text)
	}
}

// arrives waits until a text was seen.
func arrives(t testing.TB, what string, seen func(string) bool, text string) {
	t.Helper()
	for end := time.Now().Add(patient); !seen(text); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s does not arrive", what)
			return
		}
	}
}
