package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Protocol numbers of routes, of linux/rtnetlink.h and our own.
const (
	ProtocolBoot    = unix.RTPROT_BOOT // what a route gets whose maker says nothing, as flannel's
	ProtocolTowpath = 116              // the mark of towpath's routes
)

// MetricIPv6 is the metric that the kernel gives an IPv6 route made without one; an IPv4 route gets 0.
const MetricIPv6 = 1024

// Route is a route of the main table.
type Route struct {
	Dst      netip.Prefix // masked
	Gateway  netip.Addr   // invalid: none
	Link     int          // index of the device
	Metric   uint32
	OnLink   bool
	Protocol uint8
	// Other: it carries what no field here says (several next hops, a preferred source, an MTU, a
	// type other than unicast …), so it is no route of ours as we made it.
	Other bool
}

// parseRoute reads the payload of RTM_NEWROUTE or RTM_DELROUTE. ok is false for what is not an entry
// of the main table (cached routes, other tables, multicast).
func parseRoute(b []byte) (r Route, ok bool, err error) {
	if len(b) < unix.SizeofRtMsg {
		return Route{}, false, errShort
	}
	family, bits, tos, table, kind := b[0], int(b[1]), b[3], uint32(b[4]), b[7]
	r.Protocol = b[5]
	flags := binary.NativeEndian.Uint32(b[8:])
	var zero netip.Addr
	switch family {
	case unix.AF_INET:
		zero = netip.IPv4Unspecified()
	case unix.AF_INET6:
		zero = netip.IPv6Unspecified()
	default:
		return Route{}, false, nil
	}
	dst := zero
	r.OnLink = flags&unix.RTNH_F_ONLINK != 0
	r.Other = tos != 0 || b[2] != 0 || kind != unix.RTN_UNICAST
	err = attrs(b[unix.SizeofRtMsg:], func(attr uint16, v []byte) {
		switch attr {
		case unix.RTA_TABLE:
			table = uint32Of(v)
		case unix.RTA_DST:
			dst = addrOf(v)
		case unix.RTA_GATEWAY:
			r.Gateway = addrOf(v)
		case unix.RTA_OIF:
			r.Link = int(uint32Of(v))
		case unix.RTA_PRIORITY:
			r.Metric = uint32Of(v)
		case unix.RTA_CACHEINFO, unix.RTA_PREF: // always there with IPv6
		default: // several next hops, a nexthop object, another family's gateway, metrics …
			r.Other = true
		}
	})
	if err != nil {
		return Route{}, false, err
	}
	if table != unix.RT_TABLE_MAIN || flags&unix.RTM_F_CLONED != 0 {
		return Route{}, false, nil
	}
	r.Dst = netip.PrefixFrom(dst, bits).Masked()
	return r, r.Dst.IsValid() && dst.Is4() == zero.Is4(), nil
}

// RouteChange is one change of a route.
type RouteChange struct {
	Verb  Verb // Add fails where another route of that destination and metric is; Replace takes its place
	Route Route
	Dev   string // name of the device, for the text
}

// String is the ip(8) command that does the same.
func (c RouteChange) String() string {
	var b strings.Builder
	b.WriteString("ip ")
	if c.Route.Dst.Addr().Is6() {
		b.WriteString("-6 ")
	}
	fmt.Fprintf(&b, "route %s %s", c.Verb, c.Route.Dst)
	if c.Route.Gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", c.Route.Gateway)
	}
	if c.Dev != "" {
		fmt.Fprintf(&b, " dev %s", c.Dev)
	}
	if c.Route.OnLink {
		b.WriteString(" onlink")
	}
	fmt.Fprintf(&b, " proto %d", c.Route.Protocol)
	if c.Route.Metric != 0 && (c.Route.Dst.Addr().Is4() || c.Route.Metric != MetricIPv6) {
		fmt.Fprintf(&b, " metric %d", c.Route.Metric)
	}
	return b.String()
}

func (c RouteChange) encode(b []byte, seq uint32) []byte {
	r := c.Route
	kind, flags, scope, class := uint16(unix.RTM_NEWROUTE), c.Verb.flags(), byte(unix.RT_SCOPE_UNIVERSE), byte(unix.RTN_UNICAST)
	switch {
	case c.Verb == Delete:
		kind, scope, class = unix.RTM_DELROUTE, unix.RT_SCOPE_NOWHERE, unix.RTN_UNSPEC
	case !r.Gateway.IsValid():
		scope = unix.RT_SCOPE_LINK
	}
	b, start := begin(b, kind, flags, seq)
	b = append(b, familyOf(r.Dst.Addr()), byte(r.Dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, r.Protocol, scope, class)
	var nexthop uint32
	if r.OnLink && c.Verb != Delete {
		nexthop = unix.RTNH_F_ONLINK
	}
	b = binary.NativeEndian.AppendUint32(b, nexthop)
	b = appendAttrAddr(b, unix.RTA_DST, r.Dst.Addr())
	if r.Gateway.IsValid() {
		b = appendAttrAddr(b, unix.RTA_GATEWAY, r.Gateway)
	}
	if r.Link != 0 {
		b = appendAttrUint32(b, unix.RTA_OIF, uint32(r.Link))
	}
	if r.Metric != 0 {
		b = appendAttrUint32(b, unix.RTA_PRIORITY, r.Metric)
	}
	return finish(b, start)
}

func (c RouteChange) done(errno unix.Errno) bool {
	return c.Verb == Delete && (errno == unix.ESRCH || errno == unix.ENODEV)
}

// Routes calls f for every route of the main table, of both families. proto 0 is every protocol; with
// another the kernel does the choosing.
func (s *Socket) Routes(proto uint8, f func(Route)) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		body := make([]byte, unix.SizeofRtMsg)
		body[0], body[4], body[5] = family, unix.RT_TABLE_MAIN, proto
		err := s.dump("list routes", unix.RTM_GETROUTE, body, func(h header, b []byte) error {
			if h.kind != unix.RTM_NEWROUTE {
				return nil
			}
			r, ok, err := parseRoute(b)
			if ok && (proto == 0 || r.Protocol == proto) {
				f(r)
			}
			return err
		})
		if err != nil && (family != unix.AF_INET6 || !noFamily(err)) {
			return err
		}
	}
	return nil
}

// noFamily says that the kernel has no IPv6, or no main table of it yet.
func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT)
}

// Path is the way the kernel would send a packet.
type Path struct {
	Link    int        // index of the device, 0: no way
	Gateway netip.Addr // invalid: the destination is on the device's own link
}

// Paths asks for the way to each address, many in one write; an address without a way gets the zero
// Path.
func (s *Socket) Paths(addrs []netip.Addr) ([]Path, error) {
	paths := make([]Path, len(addrs))
	err := s.exchange(len(addrs), func(b []byte, i int, seq uint32) []byte {
		b, start := begin(b, unix.RTM_GETROUTE, unix.NLM_F_ACK, seq)
		b = append(b, familyOf(addrs[i]), byte(addrs[i].BitLen()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		return finish(appendAttrAddr(b, unix.RTA_DST, addrs[i]), start)
	}, func(i int, h header, b []byte) {
		if h.kind != unix.RTM_NEWROUTE || len(b) < unix.SizeofRtMsg || b[7] != unix.RTN_UNICAST {
			return
		}
		_ = attrs(b[unix.SizeofRtMsg:], func(attr uint16, v []byte) { // broken: no way
			switch attr {
			case unix.RTA_GATEWAY, unix.RTA_VIA:
				paths[i].Gateway = addrOf(v)
			case unix.RTA_OIF:
				paths[i].Link = int(uint32Of(v))
			}
		})
	}, func(int, unix.Errno, string) {}, nil)
	return paths, err
}
