package nstest

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ConnectFaulty joins two namespaces as Connect does, but over a network card with a fault that some have: it takes packets whose
// checksum it is to fill in, does so for what it sends by itself, and not for what is inside of a tunnel. Nor does it cut
// large packets in there, so that the senders' kernels do that.
func ConnectFaulty(a *Namespace, devA, addrsA string, b *Namespace, devB, addrsB string) {
	a.t.Helper()
	middle := New(a.t, "card")
	middle.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	Connect(a, devA, addrsA, middle, "end0", "")
	Connect(b, devB, addrsB, middle, "end1", "")
	a.Run("ip", "link", "set", "dev", devA, "gso_max_segs", "1")
	b.Run("ip", "link", "set", "dev", devB, "gso_max_segs", "1")
	var ends [2]*os.File
	middle.Do(func() {
		for i, dev := range []string{"end0", "end1"} {
			f, err := packets(dev)
			if err != nil {
				a.t.Errorf("open %s of the card: %v", dev, err)
				return
			}
			ends[i] = f
		}
	})
	if ends[1] == nil {
		a.t.FailNow()
	}
	var copying sync.WaitGroup
	copying.Go(func() { copyFrames(ends[0], ends[1]) })
	copying.Go(func() { copyFrames(ends[1], ends[0]) })
	a.t.Cleanup(func() {
		ends[0].Close()
		ends[1].Close()
		copying.Wait()
	})
}

// packets opens the frames that come in at a device of the calling thread's namespace, and its way out.
func packets(dev string) (*os.File, error) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), dev)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: link.Index}),
	)
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// cardHeader is the size of struct virtio_net_hdr, which is before each frame: what the sender left to the card.
const cardHeader = 10

// needsChecksum is VIRTIO_NET_HDR_F_NEEDS_CSUM of linux/virtio_net.h.
const needsChecksum = 1

func copyFrames(from, to *os.File) {
	packet := make([]byte, cardHeader+1<<16)
	for {
		n, err := from.Read(packet)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil || n < cardHeader:
			continue // one that cannot be told, or the device was down for a moment
		}
		fillOuter(packet[:n])
		clear(packet[:cardHeader])
		_, _ = to.Write(packet[:n]) // what is too long for it is lost
	}
}

// fillOuter fills the checksum in where the sender left that to the card, unless it is inside of a tunnel.
func fillOuter(packet []byte) {
	flags, start, offset := packet[0], int(binary.NativeEndian.Uint16(packet[6:])), int(binary.NativeEndian.Uint16(packet[8:]))
	frame := packet[cardHeader:]
	const ethernet, ipv4, ipv6 = 14, 20, 40
	if flags&needsChecksum == 0 || start > ethernet+ipv6 || start+offset+2 > len(frame) ||
		start > ethernet+ipv4 && frame[12] == 0x08 {
		return
	}
	sum := uint32(0)
	for i := start; i < len(frame); i += 2 {
		word := uint32(frame[i]) << 8
		if i+1 < len(frame) {
			word |= uint32(frame[i+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum = ^sum & 0xffff; sum == 0 {
		sum = 0xffff // UDP: 0 would be none
	}
	binary.BigEndian.PutUint16(frame[start+offset:], uint16(sum))
}
