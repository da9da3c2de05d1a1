package nl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NFTObject names what a transaction of nftables touched. Chain is empty where it was no chain and no
// rule but the table itself, a set, a map or their elements.
type NFTObject struct {
	Family string // ip, ip6, inet, arp, bridge, netdev
	Table  string
	Chain  string
}

// NFTChange is one committed transaction of nftables, whoever made it. It is a hint what to look at
// again, never the new state.
type NFTChange struct {
	// Generation is the ruleset's generation id after the transaction. Transactions count it up by
	// one, so a gap means that something was missed.
	Generation uint32
	Process    string // the short name of the program that made it
	Port       uint32 // of the socket it came from, alone in its namespace at any time; by default the process id
	Objects    map[NFTObject]struct{}
	// Lost says that the kernel dropped notifications: everything may have changed.
	Lost bool
}

// WatchNFT reports every change of the ruleset in the network namespace of the calling thread until
// ctx ends. The channel is never closed; a receiver that is slow is told so by Lost.
func WatchNFT(ctx context.Context) (<-chan NFTChange, error) { return WatchNFTWith(ctx, receiveBuffer) }

// WatchNFTWith is WatchNFT with a queue in the kernel of so many bytes, for one who makes transactions of many thousands
// of objects and wants to see each of them.
func WatchNFTWith(ctx context.Context, buffer int) (<-chan NFTChange, error) {
	out := make(chan NFTChange)
	send := func(c NFTChange) {
		select {
		case out <- c:
		case <-ctx.Done():
		}
	}
	var open NFTChange // the transaction whose end has not been seen
	err := listen(ctx, unix.NETLINK_NETFILTER, 1<<(unix.NFNLGRP_NFTABLES-1), buffer, func(datagram []byte, lost bool) {
		if lost {
			open = NFTChange{}
			send(NFTChange{Lost: true})
			return
		}
		for _, c := range parseNFT(datagram, &open) {
			send(c)
		}
	})
	if err != nil {
		return nil, kernelError("watch nftables", err)
	}
	return out, nil
}

// WatchForwarding reports every change of an IPv4 or IPv6 forwarding switch (and of the other
// settings in net/*/conf that the kernel announces) in the namespace of the calling thread until ctx
// ends. Hints that are not received are merged into one.
func WatchForwarding(ctx context.Context) (<-chan struct{}, error) {
	out := make(chan struct{}, 1)
	groups := uint32(1<<(unix.RTNLGRP_IPV4_NETCONF-1) | 1<<(unix.RTNLGRP_IPV6_NETCONF-1))
	err := listen(ctx, unix.NETLINK_ROUTE, groups, receiveBuffer, func([]byte, bool) {
		select {
		case out <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, kernelError("watch forwarding", err)
	}
	return out, nil
}

// receiveBuffer is what the kernel queues for a listener, bytes.
const receiveBuffer = 1 << 20

// listen calls handle with every datagram of the groups, on one goroutine, until ctx ends. lost: the
// kernel's queue overflowed, or a datagram was larger than the buffer.
func listen(ctx context.Context, protocol int, groups uint32, buffer int, handle func(datagram []byte, lost bool)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		return err
	}
	// More than the default, so that a large ruleset's load is no overflow; without the right to it
	// an overflow costs one more look.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	return receive(ctx, fd, handle)
}

// receive is the second half of listen: it takes a non-blocking netlink socket over.
func receive(ctx context.Context, fd int, handle func(datagram []byte, lost bool)) error {
	socket := os.NewFile(uintptr(fd), "netlink")
	raw, err := socket.SyscallConn()
	if err != nil {
		socket.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	go func() {
		defer stop()
		buf := make([]byte, 1<<16)
		for {
			var n, flags int
			var from unix.Sockaddr
			var failed error
			err := raw.Read(func(fd uintptr) bool {
				n, _, flags, from, failed = unix.Recvmsg(int(fd), buf, nil, 0)
				return !errors.Is(failed, unix.EAGAIN) && !errors.Is(failed, unix.EINTR)
			})
			sender, _ := from.(*unix.SockaddrNetlink)
			switch {
			case err != nil: // closed
				return
			case failed != nil, flags&unix.MSG_TRUNC != 0:
				handle(nil, true)
			case sender != nil && sender.Pid == 0: // only the kernel is believed
				handle(buf[:n], false)
			}
		}
	}()
	return nil
}

// parseNFT reads the messages of a datagram into open and returns the transactions that ended in it.
// The kernel sends a transaction's objects first and its new generation last.
func parseNFT(datagram []byte, open *NFTChange) []NFTChange {
	var done []NFTChange
	for len(datagram) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(datagram))
		if size < unix.NLMSG_HDRLEN || size > len(datagram) {
			break
		}
		kind := binary.NativeEndian.Uint16(datagram[4:])
		port := binary.NativeEndian.Uint32(datagram[12:])
		body := datagram[unix.NLMSG_HDRLEN:size]
		datagram = datagram[min(align(size), len(datagram)):]
		if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(body) < 4 {
			continue
		}
		family, attrs := body[0], body[4:] // struct nfgenmsg
		if kind&0xff == unix.NFT_MSG_NEWGEN {
			if id := attribute(attrs, unix.NFTA_GEN_ID); len(id) == 4 {
				open.Generation = binary.BigEndian.Uint32(id)
			}
			open.Process = unix.ByteSliceToString(attribute(attrs, unix.NFTA_GEN_PROC_NAME))
			open.Port = port
			done = append(done, *open)
			*open = NFTChange{}
			continue
		}
		// Every object's first attribute is its table.
		o := NFTObject{Family: nftFamilyName(family), Table: unix.ByteSliceToString(attribute(attrs, unix.NFTA_TABLE_NAME))}
		switch kind & 0xff {
		case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
			o.Chain = unix.ByteSliceToString(attribute(attrs, unix.NFTA_CHAIN_NAME))
		case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
			o.Chain = unix.ByteSliceToString(attribute(attrs, unix.NFTA_RULE_CHAIN))
		}
		if open.Objects == nil {
			open.Objects = map[NFTObject]struct{}{}
		}
		open.Objects[o] = struct{}{}
	}
	return done
}

// attribute finds the first netlink attribute of a kind; nil when there is none.
func attribute(attrs []byte, kind uint16) []byte {
	for len(attrs) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < unix.SizeofNlAttr || size > len(attrs) {
			return nil
		}
		if binary.NativeEndian.Uint16(attrs[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return attrs[unix.SizeofNlAttr:size]
		}
		attrs = attrs[min(align(size), len(attrs)):]
	}
	return nil
}

var nftFamilies = map[string]byte{
	"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "inet": unix.NFPROTO_INET, "arp": unix.NFPROTO_ARP,
	"bridge": unix.NFPROTO_BRIDGE, "netdev": unix.NFPROTO_NETDEV,
}

func nftFamilyName(number byte) string {
	for name, n := range nftFamilies {
		if n == number {
			return name
		}
	}
	return fmt.Sprintf("family%d", number)
}
