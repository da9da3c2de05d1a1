package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// NFTBatch is a transaction of nftables in the kernel's own form. The zero value is empty.
type NFTBatch struct {
	b     []byte
	kinds []uint16
	start int // of the message that is being written
	over  bool
}

// Begin starts a message: one of NFT_MSG_*, with netlink flags beside NLM_F_REQUEST, about an object of a family.
func (b *NFTBatch) Begin(kind int, flags uint16, family string) {
	b.finish()
	if len(b.kinds) == 0 {
		b.frame(unix.NFNL_MSG_BATCH_BEGIN)
	}
	b.b, b.start = begin(b.b, uint16(unix.NFNL_SUBSYS_NFTABLES<<8|kind), flags, 0)
	b.b = append(b.b, nftFamilies[family], unix.NFNETLINK_V0, 0, 0)
	b.kinds = append(b.kinds, uint16(kind))
}

// Grow makes room for so many bytes.
func (b *NFTBatch) Grow(n int) { b.b = slices.Grow(b.b, n) }

// frame adds the message that begins or ends a transaction.
func (b *NFTBatch) frame(kind uint16) {
	var start int
	b.b, start = begin(b.b, kind, 0, 0)
	b.b = append(b.b, unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES)
	finish(b.b, start)
}

// Text adds an attribute that is a string.
func (b *NFTBatch) Text(kind uint16, s string) {
	b.b = binary.NativeEndian.AppendUint16(b.b, uint16(unix.SizeofNlAttr+len(s)+1))
	b.b = binary.NativeEndian.AppendUint16(b.b, kind)
	b.b = append(b.b, s...)
	b.b = append(b.b, make([]byte, align(len(s)+1)-len(s))...)
}

// Bytes adds an attribute as it is.
func (b *NFTBatch) Bytes(kind uint16, value []byte) { b.b = appendAttr(b.b, kind, value) }

// Uint32 adds a number, in the byte order of nftables.
func (b *NFTBatch) Uint32(kind uint16, v uint32) {
	b.b = appendAttr(b.b, kind, binary.BigEndian.AppendUint32(nil, v))
}

// Uint64 adds a number, in the byte order of nftables.
func (b *NFTBatch) Uint64(kind uint16, v uint64) {
	b.b = appendAttr(b.b, kind, binary.BigEndian.AppendUint64(nil, v))
}

// Nest adds an attribute made of those that f adds. One of more than 65,535 bytes makes Commit fail.
func (b *NFTBatch) Nest(kind uint16, f func()) {
	start := len(b.b)
	b.b = append(b.b, 0, 0, 0, 0)
	f()
	b.over = b.over || len(b.b)-start > math.MaxUint16
	binary.NativeEndian.PutUint16(b.b[start:], uint16(len(b.b)-start))
	binary.NativeEndian.PutUint16(b.b[start+2:], kind|unix.NLA_F_NESTED)
}

// Len is the size of the message that is being written, bytes. A nested attribute holds 65,535 at most.
func (b *NFTBatch) Len() int { return len(b.b) - b.start }

// Messages is how many messages were begun.
func (b *NFTBatch) Messages() int { return len(b.kinds) }

func (b *NFTBatch) finish() {
	if len(b.kinds) > 0 {
		finish(b.b, b.start)
	}
}

// NFTRefused is a transaction that the kernel did not take; nothing of it took effect.
type NFTRefused struct {
	Message int // the first at fault, from 0; -1: none in particular, as when the whole makes a loop
	Err     error
}

func (e *NFTRefused) Error() string { return e.Err.Error() }
func (e *NFTRefused) Unwrap() error { return e.Err }

// NFTConn is a socket that reads and writes nftables, in the network namespace of the thread that opened it. It is
// for one goroutine at a time.
type NFTConn struct {
	fd   int
	port uint32
	seq  uint32
	buf  []byte
}

// OpenNFT opens one.
func OpenNFT() (*NFTConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, kernelError("open nftables socket", err)
	}
	c := &NFTConn{fd: fd, buf: make([]byte, 1<<16)}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			if own, ok := sa.(*unix.SockaddrNetlink); ok {
				c.port = own.Pid
			}
		}
	}
	if err == nil {
		timeout := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		return nil, kernelError("open nftables socket", err)
	}
	return c, nil
}

// Close closes the socket.
func (c *NFTConn) Close() error { return unix.Close(c.fd) }

// Port is what NFTChange.Port is of transactions that are committed here.
func (c *NFTConn) Port() uint32 { return c.port }

// Commit gives the batch to the kernel, which takes all of it or nothing (*NFTRefused). It is of no use afterwards.
func (c *NFTConn) Commit(b *NFTBatch) error {
	if b.over {
		return kernelError("write nftables", &NFTRefused{-1, unix.EMSGSIZE})
	}
	if len(b.kinds) == 0 {
		return nil
	}
	b.finish()
	// Errors come for each message, an acknowledgement for the last alone: it says that all was taken.
	flags := b.b[b.start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	c.seq++ // of the message that begins the transaction
	first := c.seq + 1
	for at, seq := 0, c.seq; at < len(b.b); at += align(int(binary.NativeEndian.Uint32(b.b[at:]))) {
		binary.NativeEndian.PutUint32(b.b[at+8:], seq)
		c.seq, seq = seq, seq+1
	}
	b.frame(unix.NFNL_MSG_BATCH_END)
	if n := len(b.b); n > 1<<17 { // a transaction is copied into one buffer of the kernel
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, n+n/2)
	}
	if err := unix.Sendto(c.fd, b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return kernelError("write nftables", &NFTRefused{-1, err})
	}
	var failed *NFTRefused
	for {
		more, err := c.receive(func(h header, payload []byte) bool {
			if h.kind != unix.NLMSG_ERROR || len(payload) < 4 || int32(h.seq-first) < -1 {
				return true
			}
			if errno := -int32(binary.NativeEndian.Uint32(payload)); errno != 0 && failed == nil {
				failed = &NFTRefused{int(int32(h.seq - first)), unix.Errno(errno)}
			}
			return h.seq != c.seq
		})
		switch {
		case failed != nil:
			c.discard()
			return kernelError("write nftables", failed)
		case err != nil:
			return kernelError("write nftables", &NFTRefused{-1, err})
		case !more:
			return nil
		}
	}
}

// RuleHandles are the handles of a chain's rules, in their order; none for a chain that is not there.
func (c *NFTConn) RuleHandles(family, table, chain string) ([]uint64, error) {
	c.seq++
	out, start := begin(nil, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, c.seq)
	out = append(out, nftFamilies[family], unix.NFNETLINK_V0, 0, 0)
	out = appendAttr(out, unix.NFTA_RULE_TABLE, append([]byte(table), 0))
	out = appendAttr(out, unix.NFTA_RULE_CHAIN, append([]byte(chain), 0))
	what := fmt.Sprintf("read rules of nftables chain %s %s %s", family, table, chain)
	if err := unix.Sendto(c.fd, finish(out, start), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, kernelError(what, err)
	}
	var handles []uint64
	var failed error
	for more := true; more; {
		var err error
		more, err = c.receive(func(h header, payload []byte) bool {
			switch {
			case h.seq != c.seq:
			case h.kind == unix.NLMSG_DONE || h.kind == unix.NLMSG_ERROR:
				if len(payload) >= 4 {
					if errno := -int32(binary.NativeEndian.Uint32(payload)); errno != 0 {
						failed = unix.Errno(errno)
					}
				}
				return false
			case len(payload) >= 4:
				if h.flags&unix.NLM_F_DUMP_INTR != 0 {
					failed = unix.EINTR
				}
				if handle := attribute(payload[4:], unix.NFTA_RULE_HANDLE); len(handle) == 8 {
					handles = append(handles, binary.BigEndian.Uint64(handle))
				}
			}
			return true
		})
		if err != nil {
			return nil, kernelError(what, err)
		}
	}
	if failed != nil {
		return nil, kernelError(what, failed)
	}
	return handles, nil
}

// receive reads a datagram and calls f for its messages until f returns false; more says that it did not.
func (c *NFTConn) receive(f func(h header, payload []byte) bool) (more bool, err error) {
	n := 0
	for {
		n, _, err = unix.Recvfrom(c.fd, c.buf, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return false, err
	}
	more = true
	err = messages(c.buf[:n], func(h header, payload []byte) bool {
		more = f(h, payload)
		return more
	})
	return more, err
}

// discard reads what is left of a transaction's errors.
func (c *NFTConn) discard() {
	for {
		if _, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}
