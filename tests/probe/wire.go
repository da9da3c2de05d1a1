package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Wire sends and receives whole Ethernet frames on one device.
type Wire struct {
	fd    int
	index int
	buf   []byte
}

// Ethertypes.
const (
	IPv4    = 0x0800
	TypeARP = 0x0806
	IPv6    = 0x86dd
)

// Open opens a device of the caller's network namespace. Frames that the machine itself sends on it
// are not received.
func Open(device string) (*Wire, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	for _, opt := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64 << 20},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8 << 20},
	} {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, opt.value); err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("set option %d of packet socket: %w", opt.name, err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Index}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket to %s: %w", device, err)
	}
	return &Wire{fd: fd, index: link.Index, buf: make([]byte, 1<<16)}, nil
}

// Close closes it.
func (w *Wire) Close() { _ = unix.Close(w.fd) }

// Send sends a frame.
func (w *Wire) Send(frame []byte) error {
	for {
		_, err := unix.Write(w.fd, frame)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		w.wait(unix.POLLOUT, 10)
	}
}

// Receive waits for a frame, at most so many milliseconds; nil if none came. The frame is valid until the next call.
func (w *Wire) Receive(milliseconds int) []byte {
	for range 2 {
		n, err := unix.Read(w.fd, w.buf)
		if err == nil {
			return w.buf[:n]
		}
		if milliseconds == 0 || !w.wait(unix.POLLIN, milliseconds) {
			return nil
		}
	}
	return nil
}

func (w *Wire) wait(events int16, milliseconds int) bool {
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: events}}
	n, _ := unix.Poll(fds, milliseconds)
	return n > 0
}

// Frame is an Ethernet frame.
func Frame(to, from net.HardwareAddr, ethertype uint16, payload []byte) []byte {
	b := make([]byte, 0, 14+len(payload))
	b = append(append(b, to...), from...)
	return append(binary.BigEndian.AppendUint16(b, ethertype), payload...)
}

// Payload is what follows the header of a frame, and its ethertype.
func Payload(frame []byte) (uint16, []byte) {
	if len(frame) < 14 {
		return 0, nil
	}
	return binary.BigEndian.Uint16(frame[12:]), frame[14:]
}
