package nl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Groups says of what the kernel is to tell.
type Groups uint32

// The groups; combine them with |.
const (
	WatchLinks  Groups = 1 << (unix.RTNLGRP_LINK - 1)
	WatchAddrs  Groups = 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
	WatchRoutes Groups = 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)
	WatchNeighs Groups = 1 << (unix.RTNLGRP_NEIGH - 1) // neighbours and FDB entries
)

// What an Event is about.
type What uint8

// The kinds of events. Everything: events were lost, whatever was known must be read again.
const (
	Everything What = iota
	LinkEvent
	AddrEvent
	RouteEvent
	NeighEvent
	FDBEvent
)

// Event is one change that the kernel tells of. Only the field that What names is set.
type Event struct {
	What     What
	Gone     bool // it was removed; else it is new or changed
	Replaced bool // a route: it took the place of the one with its destination and metric
	Link     Link
	Addr     Addr
	Route    Route
	Neigh    Neigh
	FDB      FDB
}

// String is a reason for the log.
func (e Event) String() string {
	verb := "changed"
	if e.Gone {
		verb = "deleted"
	}
	switch e.What {
	case LinkEvent:
		return fmt.Sprintf("link %s %s", e.Link.Name, verb)
	case AddrEvent:
		return fmt.Sprintf("address %s %s", e.Addr.Prefix, verb)
	case RouteEvent:
		return fmt.Sprintf("route %s %s", e.Route.Dst, verb)
	case NeighEvent:
		return fmt.Sprintf("neighbour %s %s", e.Neigh.IP, verb)
	case FDBEvent:
		return fmt.Sprintf("fdb %s %s", e.FDB.MAC, verb)
	}
	return "kernel events lost"
}

// Events is a subscription. Note that the kernel does not tell of IPv4 routes that go away because
// their device was set down or deleted: after such a link event they must be read again.
type Events struct {
	file  *os.File
	raw   syscall.RawConn
	ready chan struct{}
	buf   []byte
}

// Subscribe opens a subscription in the network namespace of the calling thread; Close ends it. The
// kernel tells of a change before it acknowledges the request that made it, so a Drain after a change
// of one's own sees it.
func Subscribe(groups Groups) (*Events, error) {
	fd, err := openRoute(uint32(groups), 8<<20)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	e := &Events{file: os.NewFile(uintptr(fd), "netlink"), ready: make(chan struct{}), buf: make([]byte, 64<<10)}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return e, nil
}

// Ready returns a channel on which a value comes whenever Drain may have something to tell, until ctx
// ends. It may be called once.
func (e *Events) Ready(ctx context.Context) <-chan struct{} {
	go func() {
		var peek [1]byte
		for {
			err := e.raw.Read(func(fd uintptr) bool {
				_, _, err := unix.Recvfrom(int(fd), peek[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
				return !errors.Is(err, unix.EAGAIN) // data, or an error such as ENOBUFS that Drain takes
			})
			if err != nil { // closed
				return
			}
			select {
			case e.ready <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return e.ready
}

// Drain calls f for every event that has come, without waiting. Lost events are an event, Everything.
func (e *Events) Drain(f func(Event)) error {
	var failed error
	err := e.raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), e.buf, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.ENOBUFS):
				f(Event{What: Everything})
				continue
			case err != nil:
				failed = fmt.Errorf("read kernel events: %w", err)
				return
			}
			if messages(e.buf[:n], func(h header, b []byte) bool {
				if event, ok := parseEvent(h, b); ok {
					f(event)
				}
				return true
			}) != nil {
				f(Event{What: Everything})
			}
		}
	})
	return errors.Join(failed, err)
}

// Close ends the subscription.
func (e *Events) Close() error { return e.file.Close() }

func parseEvent(h header, b []byte) (Event, bool) {
	e := Event{}
	var ok bool
	var err error
	switch h.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		e.What, e.Gone = LinkEvent, h.kind == unix.RTM_DELLINK
		// A bridge tells of its ports in messages of family AF_BRIDGE, also when a port leaves it:
		// the link itself stays.
		if ok = len(b) >= unix.SizeofIfInfomsg && b[0] == unix.AF_UNSPEC; ok {
			var l netlink.Link
			if l, err = netlink.LinkDeserialize(nil, b); err == nil {
				e.Link = linkOf(l)
			}
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		e.What, e.Gone = AddrEvent, h.kind == unix.RTM_DELADDR
		e.Addr, ok, err = parseAddr(b)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		e.What, e.Gone = RouteEvent, h.kind == unix.RTM_DELROUTE
		e.Replaced = h.flags&unix.NLM_F_REPLACE != 0
		e.Route, ok, err = parseRoute(b)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		e.What, e.Gone = NeighEvent, h.kind == unix.RTM_DELNEIGH
		if len(b) > 0 && b[0] == unix.AF_BRIDGE {
			e.What = FDBEvent
			e.FDB, ok, err = parseFDB(b)
		} else {
			e.Neigh, ok, err = parseNeigh(b)
		}
	}
	if err != nil {
		return Event{What: Everything}, true
	}
	return e, ok
}

func parseAddr(b []byte) (a Addr, ok bool, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return Addr{}, false, errShort
	}
	if b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return Addr{}, false, nil
	}
	bits, flags := int(b[1]), uint32(b[2])
	a.Scope, a.Link = int(b[3]), int(uint32Of(b[4:]))
	ip, local := a.Prefix.Addr(), a.Prefix.Addr()
	err = attrs(b[unix.SizeofIfAddrmsg:], func(attr uint16, v []byte) {
		switch attr {
		case unix.IFA_ADDRESS:
			ip = addrOf(v)
		case unix.IFA_LOCAL: // differs from IFA_ADDRESS, the other end, on point-to-point links
			local = addrOf(v)
		case unix.IFA_FLAGS:
			flags = uint32Of(v)
		}
	})
	if local.IsValid() {
		ip = local
	}
	a.Prefix = netip.PrefixFrom(ip, bits)
	a.Unusable = flags&(ifaFTentative|ifaFDeprecated|ifaFDadFailed) != 0
	return a, err == nil && a.Prefix.IsValid(), err
}

// Hints is a subscription for programs that read the kernel again on any change: reason turns an event
// into what the log says of it, or into "" for an event of no interest. Hints that come before the
// last was received are merged with it. It is called on a goroutine of its own, and ends with ctx.
func Hints(ctx context.Context, groups Groups, reason func(Event) string) (<-chan string, error) {
	e, err := Subscribe(groups)
	if err != nil {
		return nil, err
	}
	hints := make(chan string, 1)
	go func() {
		defer e.Close() //nolint:errcheck // nothing is written to it
		ready := e.Ready(ctx)
		for {
			select {
			case <-ctx.Done():
				return
			case <-ready:
			}
			err := e.Drain(func(event Event) {
				text := event.String()
				if event.What != Everything {
					text = reason(event)
				}
				if text == "" {
					return
				}
				select {
				case hints <- text:
				default: // one is waiting: its receiver reads everything
				}
			})
			if err != nil {
				return // closed
			}
		}
	}()
	return hints, nil
}
