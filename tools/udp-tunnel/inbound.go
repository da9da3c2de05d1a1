package main

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	datagrams = 8  // that are received at once, each of which may be many packets
	slots     = 64 // packets that are given to the device at once
	headroom  = 10 // struct virtio_net_hdr, which the tun package puts before a packet
)

// inbound carries packets from the peers to the device, after a look whether they may come from there. It allocates nothing
// for a packet.
type inbound struct {
	table    *table
	counters *counters
	first    uint32 // of this node's subnet
	bits     int

	msgs     []mmsghdr
	iovs     []unix.Iovec
	names    []unix.RawSockaddrInet4
	controls []byte
	bufs     [][]byte // of datagrams
	received int
	failed   error
	try      func(uintptr) bool

	slots [][]byte // headroom and a packet each; the tun package joins packets of a stream in the first one's
	ready [][]byte // of slots
}

func newInbound(t *table, c *counters, first uint32, bits int) *inbound {
	in := &inbound{table: t, counters: c, first: first, bits: bits}
	in.msgs, in.iovs, in.names = make([]mmsghdr, datagrams), make([]unix.Iovec, datagrams), make([]unix.RawSockaddrInet4, datagrams)
	in.controls = make([]byte, datagrams*controlSize)
	all := make([]byte, (datagrams+slots)<<16+slots*headroom)
	for i := range datagrams {
		in.bufs = append(in.bufs, all[i<<16:(i+1)<<16])
		in.iovs[i].Base = &in.bufs[i][0]
		in.iovs[i].SetLen(1 << 16)
	}
	all = all[datagrams<<16:]
	const size = 1<<16 + headroom
	for i := range slots {
		in.slots = append(in.slots, all[i*size:(i+1)*size:(i+1)*size])
	}
	in.ready = make([][]byte, 0, slots)
	in.try = func(fd uintptr) bool {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.msgs[0])), datagrams, unix.MSG_DONTWAIT, 0, 0)
		in.received, in.failed = 0, nil
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno == unix.EINTR:
		case errno != 0:
			in.failed = errno
		default:
			in.received = int(n)
		}
		return true
	}
	return in
}

// carry works until the device or the socket is closed, or a deadline of the socket passes.
func (in *inbound) carry(from syscall.RawConn, dev tun.Device) error {
	for {
		for i := range in.msgs {
			h := &in.msgs[i].hdr
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&in.names[i])), unix.SizeofSockaddrInet4
			h.Iov = &in.iovs[i]
			h.SetIovlen(1)
			h.Control = &in.controls[i*controlSize]
			h.SetControllen(controlSize)
		}
		if err := from.Read(in.try); err != nil {
			return err
		}
		if in.failed != nil && !errors.Is(in.failed, unix.ECONNREFUSED) {
			return os.NewSyscallError("recvmmsg", in.failed)
		}
		for i := range in.received {
			m := &in.msgs[i]
			segment := segmentOf(in.controls[i*controlSize:][:m.hdr.Controllen])
			if err := in.datagram(binary.BigEndian.Uint32(in.names[i].Addr[:]), in.bufs[i][:m.size], segment, dev); err != nil {
				return err
			}
		}
		if err := in.flush(dev); err != nil {
			return err
		}
	}
}

// datagram takes what came from a node's address: a packet, or several of one size, the last of which may be smaller.
func (in *inbound) datagram(from uint32, b []byte, segment int, dev tun.Device) error {
	if segment <= 0 {
		segment = max(len(b), 1)
	}
	in.table.mu.RLock()
	defer in.table.mu.RUnlock()
	for {
		one := b[:min(segment, len(b))]
		b = b[len(one):]
		p, v := in.judge(from, one)
		if v != accepted {
			in.counters.count(v, 1)
		} else {
			slot := in.slots[len(in.ready)]
			in.ready = append(in.ready, slot[:headroom+copy(slot[headroom:], one[:p.size])])
		}
		if len(in.ready) == slots {
			if err := in.flush(dev); err != nil {
				return err
			}
		}
		if len(b) == 0 {
			return nil
		}
	}
}

func (in *inbound) judge(from uint32, b []byte) (packet, verdict) {
	p, ok := parse(b)
	if !ok {
		return p, malformed
	}
	if v := in.table.from(from, p.src); v != accepted {
		return p, v
	}
	if p.dst&mask(in.bits) != in.first {
		return p, misdirected
	}
	return p, accepted
}

// flush gives the device what is ready.
func (in *inbound) flush(dev tun.Device) error {
	if len(in.ready) == 0 {
		return nil
	}
	_, err := dev.Write(in.ready, headroom)
	switch {
	case err == nil:
		in.counters.in.Add(uint64(len(in.ready)))
	case errors.Is(err, os.ErrClosed):
		return err
	default: // it is down, or what came is no packet: the tun package tries each
		in.counters.count(undelivered, uint64(len(in.ready)))
	}
	in.ready = in.ready[:0]
	return nil
}
