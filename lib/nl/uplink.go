package nl

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/state"
)

// Uplinks is what the interface that carries traffic between nodes is chosen from.
type Uplinks struct {
	Links []Link
	Addrs []UplinkAddr
	// Default is the indices of the devices of the main table's default routes, best metric first.
	Default map[state.Family][]int
	// Reach is the index of the device by which the address asked for is reached, 0: none.
	Reach int
}

// UplinkAddr is an address of a device. Secondary: on IPv4 not the first of its network, on IPv6 a
// temporary (privacy) address, which the kernel replaces every day.
type UplinkAddr struct {
	Addr
	Secondary bool
}

// ifaFSecondary is IFA_F_SECONDARY and IFA_F_TEMPORARY of linux/if_addr.h.
const ifaFSecondary = 0x01

// ReadUplinks reads the devices, addresses and default routes of the network namespace of the calling
// thread, and the way to an address, if it is a valid one.
func ReadUplinks(reach netip.Addr) (Uplinks, error) {
	u := Uplinks{Default: map[state.Family][]int{}}
	c, err := Open()
	if err != nil {
		return u, err
	}
	defer c.Close()
	if u.Links, err = c.Links(); err != nil {
		return u, err
	}
	if u.Addrs, err = c.addrs(); err != nil {
		return u, err
	}
	return u, u.routes(reach)
}

func (u *Uplinks) routes(reach netip.Addr) error {
	s, err := OpenSocket()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing was written
	var defaults []Route
	if err := s.Routes(0, func(r Route) {
		if r.Dst.Bits() == 0 && r.Link != 0 {
			defaults = append(defaults, r)
		}
	}); err != nil {
		return err
	}
	slices.SortStableFunc(defaults, func(a, b Route) int { return cmp.Compare(a.Metric, b.Metric) })
	for _, r := range defaults {
		f := state.FamilyOf(r.Dst.Addr())
		u.Default[f] = append(u.Default[f], r.Link)
	}
	if !reach.IsValid() {
		return nil
	}
	paths, err := s.Paths([]netip.Addr{reach})
	if err == nil {
		u.Reach = paths[0].Link
	}
	return err
}

// UplinkHints tells when Uplinks may have changed: an address of global scope, a default route, or the
// device that current names (any device while it returns ""). It works until ctx ends.
func UplinkHints(ctx context.Context, current func() string) (<-chan string, error) {
	return Hints(ctx, WatchLinks|WatchAddrs|WatchRoutes, func(e Event) string {
		switch e.What {
		case LinkEvent:
			if name := current(); name != "" && name != e.Link.Name {
				return ""
			}
		case AddrEvent:
			if e.Addr.Scope != 0 {
				return ""
			}
		case RouteEvent:
			if e.Route.Dst.Bits() != 0 {
				return ""
			}
		}
		return e.String()
	})
}
