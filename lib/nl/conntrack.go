package nl

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Tuple is one direction of a flow, as conntrack keeps it.
type Tuple struct {
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16 // of protocols that have ports (and the keys of GRE)
	ICMPType         uint8  // of ICMP and ICMPv6
	ICMPCode         uint8
	ICMPID           uint16
	Zone             uint16 // where the zone counts for this direction only; else it is the Flow's
}

// Flow is an entry of conntrack.
type Flow struct {
	Orig  Tuple // as the first packet came in, before any translation
	Reply Tuple // as answers come in: its Src is the destination after DNAT, its Dst the source after SNAT
	Mark  uint32
	Zone  uint16 // of both directions
	// Master is the Orig of the flow that this one was expected by (FTP data: the control connection);
	// its Src is not valid where there is none.
	Master Tuple
}

// Conntrack is a socket to the table of flows. It is safe for one goroutine at a time.
type Conntrack struct {
	s Socket
	// filter says whether addresses are better looked for by dumps that the kernel filters, two for each,
	// than by one of everything that is filtered here.
	filter func(addresses int) bool
}

// OpenConntrack opens a socket in the network namespace of the calling thread.
func OpenConntrack() (*Conntrack, error) {
	const what = "open conntrack"
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, kernelError(what, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		return nil, kernelError(what, err)
	}
	timeout := unix.NsecToTimeval(int64(10 * time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	for _, option := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	c := &Conntrack{s: Socket{fd: fd, seq: 1, in: make([]byte, 64<<10)}}
	c.filter = c.worthFiltering
	return c, nil
}

// Close closes the socket.
func (c *Conntrack) Close() error { return c.s.Close() }

// Apply makes the changes in order; see Socket.Apply.
func (c *Conntrack) Apply(changes []Change) []error { return c.s.Apply(changes, nil) }

// Flows calls f once for every flow of which one of the addresses is the source, or the destination
// after DNAT: Orig.Src or Reply.Src. For few IPv4 addresses in a large table the kernel filters (Linux 5.8 and later; an
// older one ignores the question's filter and sends everything, which comes to the same), so that the
// cost beyond a walk over the table is that of the flows found. IPv6 flows are all sent and filtered
// here: the kernel's filter has the comparison of IPv6 addresses inverted (ctnetlink_filter_match_tuple,
// seen in 6.18). An entry that is made meanwhile may be missing.
func (c *Conntrack) Flows(of []netip.Addr, f func(Flow)) error {
	var wanted [2]map[netip.Addr]struct{} // IPv4, IPv6
	for _, a := range of {
		i := 0
		if a = a.Unmap(); a.Is6() {
			i = 1
		}
		if wanted[i] == nil {
			wanted[i] = make(map[netip.Addr]struct{}, len(of))
		}
		wanted[i][a] = struct{}{}
	}
	for i, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		var err error
		switch {
		case len(wanted[i]) == 0:
		case family == unix.AF_INET && c.filter(len(wanted[i])):
			err = c.filtered(wanted[i], f)
			if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
				err = c.all(family, wanted[i], f) // a kernel that refuses the first question, so nothing is given twice
			}
		default:
			err = c.all(family, wanted[i], f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// all lists everything of a family and filters here.
func (c *Conntrack) all(family uint8, wanted map[netip.Addr]struct{}, f func(Flow)) error {
	return c.dump([]byte{family, unix.NFNETLINK_V0, 0, 0}, func(orig, reply netip.Addr) bool {
		_, o := wanted[orig]
		_, r := wanted[reply]
		return o || r
	}, f)
}

// worthFiltering: to send one flow costs the kernel about as much as to walk over 29 buckets of its table,
// full or empty (BenchmarkFlows), and a filtered dump is a walk. There are about as many buckets as
// flows may be.
func (c *Conntrack) worthFiltering(addresses int) bool {
	flows, most, err := c.count()
	return err == nil && (2*addresses-1)*most < 29*flows
}

// count is how many flows there are, and how many there may be.
func (c *Conntrack) count() (flows, most int, err error) {
	err = c.s.exchange(1, func(b []byte, _ int, seq uint32) []byte {
		b, start := begin(b, unix.NFNL_SUBSYS_CTNETLINK<<8|ctGetStats, unix.NLM_F_ACK, seq)
		return finish(append(b, unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0), start)
	}, func(_ int, _ header, b []byte) {
		if len(b) >= 4 {
			flows, most = int(beUint32(attribute(b[4:], ctaStatsEntries))), int(beUint32(attribute(b[4:], ctaStatsMax)))
		}
	}, func(_ int, errno unix.Errno, _ string) {
		if errno != 0 {
			err = errno
		}
	}, nil)
	return flows, most, err
}

// filtered asks twice for each address: for flows from it, and for flows to it.
func (c *Conntrack) filtered(wanted map[netip.Addr]struct{}, f func(Flow)) error {
	for a := range wanted {
		from := func(orig, _ netip.Addr) bool { return orig == a }
		if err := c.dump(filterRequest(a, ctaTupleOrig, ctaFilterOrigFlags), from, f); err != nil {
			return err
		}
		to := func(orig, reply netip.Addr) bool {
			_, already := wanted[orig] // it is, or was, in the answer about that address
			return reply == a && !already
		}
		if err := c.dump(filterRequest(a, ctaTupleReply, ctaFilterReplyFlags), to, f); err != nil {
			return err
		}
	}
	return nil
}

// Marked calls f for every flow that has all of bits in its mark.
func (c *Conntrack) Marked(bits uint32, f func(Flow)) error {
	body := appendAttr([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, ctaMark, be32(bits))
	body = appendAttr(body, ctaMarkMask, be32(bits))
	return c.dump(body, func(netip.Addr, netip.Addr) bool { return true }, func(flow Flow) {
		if flow.Mark&bits == bits {
			f(flow)
		}
	})
}

func (c *Conntrack) dump(body []byte, match func(orig, reply netip.Addr) bool, f func(Flow)) error {
	return c.s.dump("list flows", unix.NFNL_SUBSYS_CTNETLINK<<8|ctGet, body, func(_ header, b []byte) error {
		flow, ok, err := parseFlow(b, match)
		if ok && err == nil {
			f(flow)
		}
		return err
	})
}

// Flow is the entry whose original direction is t; ok is false where there is none.
func (c *Conntrack) Flow(t Tuple, zone uint16) (flow Flow, ok bool, err error) {
	all := func(netip.Addr, netip.Addr) bool { return true }
	err = c.s.exchange(1, func(b []byte, _ int, seq uint32) []byte {
		b, start := begin(b, unix.NFNL_SUBSYS_CTNETLINK<<8|ctGet, unix.NLM_F_ACK, seq)
		b = append(b, familyOf(t.Src), unix.NFNETLINK_V0, 0, 0)
		return finish(appendZone(appendTuple(b, ctaTupleOrig, t), ctaZone, zone), start)
	}, func(_ int, _ header, b []byte) {
		flow, ok, err = parseFlow(b, all)
	}, func(_ int, errno unix.Errno, _ string) {
		if errno != 0 && errno != unix.ENOENT {
			err = errno
		}
	}, nil)
	return flow, ok && err == nil, kernelError("read a flow", err)
}

// filterRequest asks for the flows with source a, an IPv4 address, in one direction.
func filterRequest(a netip.Addr, tuple, flags uint16) []byte {
	ip := appendAttr(nil, ctaTupleIP|unix.NLA_F_NESTED, appendAttrAddr(nil, ctaIPv4Src, a))
	b := appendAttr([]byte{familyOf(a), unix.NFNETLINK_V0, 0, 0}, tuple|unix.NLA_F_NESTED, ip)
	return appendAttr(b, ctaFilter|unix.NLA_F_NESTED, appendAttrUint32(nil, flags, ctaFilterIPSrc))
}
