package main

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// frames is how many packets one read from the device can be cut into: a TCP stream's 64 KiB with a small segment size.
const frames = 128

// outbound carries packets from the device to the peers. One read gives a packet, or what the kernel would have made many
// packets of, cut up by the tun package; what goes to one peer leaves in as few messages as the kernel allows. It allocates
// nothing for a packet.
type outbound struct {
	table    *table
	counters *counters
	errands  *errands
	port     uint16
	segments bool // the kernel cuts up for us (UDP_SEGMENT)

	bufs  [][]byte
	sizes []int
	runs  []run
	fd    int

	msgs     []mmsghdr
	iovs     []unix.Iovec
	names    []unix.RawSockaddrInet4
	controls []byte
	sent     int // of msgs
	failed   error
	try      func(uintptr) bool
}

// run is consecutive packets that go to one peer in one message.
type run struct {
	peer        uint32
	first, last int // of bufs; last is the one behind
}

func newOutbound(t *table, c *counters, e *errands, port uint16) *outbound {
	o := &outbound{table: t, counters: c, errands: e, port: port, segments: true}
	all := make([]byte, frames<<16) // memory that is not touched costs nothing
	for i := range frames {
		o.bufs = append(o.bufs, all[i<<16:(i+1)<<16:(i+1)<<16])
	}
	o.sizes = make([]int, frames)
	o.runs = make([]run, 0, frames)
	o.msgs, o.iovs, o.names = make([]mmsghdr, frames), make([]unix.Iovec, frames), make([]unix.RawSockaddrInet4, frames)
	o.controls = make([]byte, frames*controlSize)
	o.try = func(fd uintptr) bool {
		o.fd = int(fd)
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&o.msgs[o.sent])), uintptr(len(o.runs)-o.sent), unix.MSG_DONTWAIT, 0, 0)
		o.failed = nil
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno == unix.EINTR:
		case errno != 0:
			o.failed = errno
		default:
			o.sent += int(n)
		}
		return true
	}
	return o
}

// carry works until the device or the socket is closed, or a deadline of the device's file passes.
func (o *outbound) carry(dev tun.Device, to syscall.RawConn) error {
	for {
		n, err := dev.Read(o.bufs, o.sizes, 0)
		var broken *fs.PathError
		switch {
		case errors.Is(err, os.ErrClosed), errors.As(err, &broken):
			return err
		case err != nil: // not to be cut up, or into more than fits
			o.counters.count(malformed, 1)
		}
		o.sort(n)
		for len(o.runs) > 0 {
			if err := o.send(to); err != nil {
				return err
			}
		}
	}
}

// sort makes runs of the packets that were read.
func (o *outbound) sort(n int) {
	o.runs = o.runs[:0]
	o.table.mu.RLock()
	defer o.table.mu.RUnlock()
	bytes := 0
	for i := range n {
		b := o.bufs[i][:o.sizes[i]]
		p, ok := parse(b)
		if !ok {
			o.counters.count(malformed, 1) // the kernel's own IPv6, mostly
			continue
		}
		to := o.table.find(p.dst)
		if to == nil || to.away {
			o.counters.count(noPeer, 1)
			o.errands.unreachable(b, icmpNet, 0)
			continue
		}
		if last := len(o.runs) - 1; last >= 0 && o.segments {
			r := &o.runs[last]
			size := o.sizes[r.first]
			if r.peer == to.addr && r.last == i && o.sizes[i-1] == size && len(b) <= size && i-r.first < maxSegments && bytes+len(b) <= maxDatagram {
				r.last++
				bytes += len(b)
				continue
			}
		}
		o.runs = append(o.runs, run{to.addr, i, i + 1})
		bytes = len(b)
	}
}

// send sends the runs, and leaves those that are to be tried in another way.
func (o *outbound) send(to syscall.RawConn) error {
	for i, r := range o.runs {
		m := &o.msgs[i]
		*m = mmsghdr{}
		for j := r.first; j < r.last; j++ {
			o.iovs[j].Base = &o.bufs[j][0]
			o.iovs[j].SetLen(o.sizes[j])
		}
		o.names[i] = sockaddr(r.peer, o.port)
		m.hdr.Name, m.hdr.Namelen = (*byte)(unsafe.Pointer(&o.names[i])), unix.SizeofSockaddrInet4
		m.hdr.Iov = &o.iovs[r.first]
		m.hdr.SetIovlen(r.last - r.first)
		if r.last-r.first > 1 {
			c := o.controls[i*controlSize : (i+1)*controlSize]
			control(c, o.sizes[r.first])
			m.hdr.Control = &c[0]
			m.hdr.SetControllen(unix.CmsgSpace(2))
		}
	}
	o.sent = 0
	for o.sent < len(o.runs) {
		if err := to.Write(o.try); err != nil {
			return err // closed
		}
		if o.failed == nil {
			continue
		}
		r := o.runs[o.sent]
		if r.last-r.first == 1 {
			o.refused(r)
			o.sent++
			continue
		}
		if errors.Is(o.failed, unix.EIO) { // the uplink takes no checksums from the kernel
			o.segments = false
		}
		o.single(o.sent)
		return nil
	}
	for _, r := range o.runs {
		o.counters.out.Add(uint64(r.last - r.first))
	}
	o.runs = o.runs[:0]
	return nil
}

// single makes runs of one packet of the run at i, which cannot be sent as a whole, and drops those that are sent.
func (o *outbound) single(i int) {
	for _, r := range o.runs[:i] {
		o.counters.out.Add(uint64(r.last - r.first))
	}
	whole := o.runs[i]
	rest := append([]run(nil), o.runs[i+1:]...) // rare
	o.runs = o.runs[:0]
	for j := whole.first; j < whole.last; j++ {
		o.runs = append(o.runs, run{whole.peer, j, j + 1})
	}
	o.runs = append(o.runs, rest...)
}

// refused looks at a packet that the kernel did not take. One that is too big for the way is its sender's to make smaller, or, where
// that allows it, cut up: the UDP packet is, and the peer's kernel puts it together.
func (o *outbound) refused(r run) {
	b := o.bufs[r.first][:o.sizes[r.first]]
	o.counters.out.Add(^uint64(0)) // send counts all runs
	switch {
	case !errors.Is(o.failed, unix.EMSGSIZE):
		o.counters.count(unsent, 1)
	case dontFragment(b):
		o.counters.count(tooBig, 1)
		if mtu, err := pathMTU(r.peer, o.port); err == nil && mtu > overhead {
			o.errands.unreachable(b, icmpFragNeeded, mtu-overhead)
		}
	case o.fragmented(r) != nil:
		o.counters.count(unsent, 1)
	default:
		o.counters.out.Add(1)
	}
}

func (o *outbound) fragmented(r run) error {
	if err := unix.SetsockoptInt(o.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT); err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: int(o.port)}
	binary.BigEndian.PutUint32(to.Addr[:], r.peer)
	err := unix.Sendto(o.fd, o.bufs[r.first][:o.sizes[r.first]], unix.MSG_DONTWAIT, to)
	return errors.Join(err, unix.SetsockoptInt(o.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO))
}
