package nl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Knock sends datagrams to a port of another node on which nobody listens, and hears which of them that node answered
// with "port unreachable": those that came there whole, since a kernel verifies the checksum before it answers.
type Knock struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	to   netip.Addr
}

// OpenKnock opens a socket in the network namespace of the calling thread.
func OpenKnock(ctx context.Context, from netip.Addr, to netip.AddrPort) (*Knock, error) {
	what := fmt.Sprintf("open socket from %s to %s", from, to)
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			level, option := unix.SOL_IP, unix.IP_RECVERR
			if to.Addr().Is6() {
				level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
			}
			failed = unix.SetsockoptInt(int(fd), level, option, 1)
		})
		return errors.Join(err, failed)
	}}
	c, err := d.DialUDP(ctx, "udp", netip.AddrPortFrom(from, 0), to)
	if err != nil {
		return nil, kernelError(what, err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close() //nolint:errcheck // the first error counts
		return nil, kernelError(what, err)
	}
	return &Knock{conn: c, raw: raw, to: to.Addr()}, nil
}

// Close closes the socket.
func (k *Knock) Close() error { return k.conn.Close() }

// Send sends a datagram of two bytes or more. complete: the kernel computes its checksum here and now, as it does for
// every datagram that a program gives it in parts; otherwise it leaves that to the device, where that offers to.
func (k *Knock) Send(payload []byte, complete bool) error {
	if complete {
		if err := k.send(payload[:1], unix.MSG_MORE); err != nil {
			return err
		}
		payload = payload[1:]
	}
	return k.send(payload, 0)
}

func (k *Knock) send(b []byte, flags int) error {
	var failed error
	for range 3 { // an error of an earlier datagram is given out first
		err := k.raw.Write(func(fd uintptr) bool {
			failed = unix.Send(int(fd), b, flags)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if failed = errors.Join(err, failed); failed == nil {
			return nil
		}
	}
	return kernelError("send datagram to "+k.to.String(), failed)
}

// Answered waits until the moment given for an answer and returns the datagram that it is about. ok is false when none
// came.
func (k *Knock) Answered(until time.Time) (payload []byte, ok bool, err error) {
	if err := k.conn.SetReadDeadline(until); err != nil {
		return nil, false, kernelError("wait for answers of "+k.to.String(), err)
	}
	data, control := make([]byte, 2048), make([]byte, 512)
	for {
		var n, cn int
		var failed error
		err := k.raw.Read(func(fd uintptr) bool {
			n, cn, _, _, failed = unix.Recvmsg(int(fd), data, control, unix.MSG_ERRQUEUE)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err = errors.Join(err, failed); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, kernelError("wait for answers of "+k.to.String(), err)
		}
		if by, unreachable := parseRefusal(control[:cn]); unreachable && by == k.to {
			return data[:n], true, nil
		}
	}
}

// parseRefusal reads the control messages of an error queue: which node said that nobody listens on the port. Routers
// and this node itself say other things.
func parseRefusal(control []byte) (by netip.Addr, unreachable bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}, false
	}
	const size = 16 // of struct sock_extended_err, which the sender's sockaddr follows
	for _, m := range messages {
		if len(m.Data) < size {
			continue
		}
		origin, kind, code, from := m.Data[4], m.Data[5], m.Data[6], m.Data[size:]
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR && len(from) >= unix.SizeofSockaddrInet4 &&
			binary.NativeEndian.Uint16(from) == unix.AF_INET:
			by, _ = netip.AddrFromSlice(from[4:8])
			return by, origin == unix.SO_EE_ORIGIN_ICMP && kind == 3 && code == 3
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR && len(from) >= unix.SizeofSockaddrInet6 &&
			binary.NativeEndian.Uint16(from) == unix.AF_INET6:
			by, _ = netip.AddrFromSlice(from[8:24])
			return by, origin == unix.SO_EE_ORIGIN_ICMP6 && kind == 1 && code == 4
		}
	}
	return netip.Addr{}, false
}
