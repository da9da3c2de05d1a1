package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// socketBuffer is how much may wait in the socket while the program is restarted, bytes.
const socketBuffer = 4 << 20

// prepare sets the socket's options, also of one that another run left. What does not fit the way to a peer is refused to us rather
// than cut up by the kernel (IP_PMTUDISC_DO), so that its sender can be told; flannel's packets are cut up on the way.
func prepare(raw syscall.RawConn) error {
	var err error
	failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		for force, option := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, socketBuffer) != nil { // without the right, as far as the system allows
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, socketBuffer) //nolint:errcheck // smaller is no fault
			}
		}
		unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) //nolint:errcheck // Linux has it since 5.0
	})
	return errors.Join(failed, err)
}

// listen opens the UDP socket.
func listen(at netip.AddrPort) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return prepare(raw) }}
	conn, err := config.ListenPacket(context.Background(), "udp4", at.String())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, exit.WithHint(exit.Errorf(exit.TryAgain, "listen on UDP %s: another program has it", at), "ss -ulpn sport = :%d names it; flanneld has to be stopped first", at.Port())
	}
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, exit.Errorf(exit.TryAgain, "listen on UDP %s: the node has no such address", at)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on UDP %s: %w", at, err)
	}
	return conn.(*net.UDPConn), nil
}

// socketOf is the socket that an earlier run stored, if it listens where it has to.
func socketOf(f *os.File, at netip.AddrPort) *net.UDPConn {
	if f == nil {
		return nil
	}
	defer f.Close() // conn has a copy
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil
	}
	conn, ok := pc.(*net.UDPConn)
	local, _ := pc.LocalAddr().(*net.UDPAddr)
	if ok && local != nil && local.AddrPort() == at {
		if raw, err := conn.SyscallConn(); err == nil && prepare(raw) == nil {
			return conn
		}
	}
	pc.Close() //nolint:errcheck // it is of no use
	return nil
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr  unix.Msghdr
	size uint32
}

const (
	maxDatagram = 1<<16 - 1 - overhead // the most that fits an IPv4 packet, bytes
	maxSegments = 64                   // UDP_MAX_SEGMENTS of linux/udp.h before 6.9
)

// controlSize is room for one control message of an int.
var controlSize = unix.CmsgSpace(4)

// control writes a control message of UDP_SEGMENT, the size of the packets that the kernel is to make of one.
func control(b []byte, segment int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(segment))
}

// segmentOf is the size of the packets that the kernel made one of, by its control message UDP_GRO; 0: it did not.
func segmentOf(b []byte) int {
	for len(b) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(b) {
			return 0
		}
		if data := b[unix.CmsgLen(0):size]; h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(data)))
		}
		b = b[min(len(b), unix.CmsgSpace(size-unix.CmsgLen(0))):]
	}
	return 0
}

// sockaddr is where to send: port in network order, as the address is.
func sockaddr(ip uint32, port uint16) unix.RawSockaddrInet4 {
	sa := unix.RawSockaddrInet4{Family: unix.AF_INET}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], port)
	binary.BigEndian.PutUint32(sa.Addr[:], ip)
	return sa
}

// pathMTU is what the kernel knows of the way to an address, bytes.
func pathMTU(ip uint32, port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was sent
	to := &unix.SockaddrInet4{Port: int(port)}
	binary.BigEndian.PutUint32(to.Addr[:], ip)
	if err := unix.Connect(fd, to); err != nil {
		return 0, err
	}
	return unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
}
