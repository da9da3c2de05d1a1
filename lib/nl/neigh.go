package nl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Neigh is an entry of a device's neighbour table (ARP, NDP).
type Neigh struct {
	NeighKey
	MAC MAC
	// Permanent: an administrator or a program made it; the kernel never ages it.
	Permanent bool
}

// NeighKey is what there is one neighbour of.
type NeighKey struct {
	Link int // index of the device
	IP   netip.Addr
}

// parseNeigh reads the payload of RTM_NEWNEIGH or RTM_DELNEIGH. ok is false for proxy entries and for
// other families than IPv4 and IPv6.
func parseNeigh(b []byte) (n Neigh, ok bool, err error) {
	if len(b) < sizeofNdmsg {
		return Neigh{}, false, errShort
	}
	if b[0] != unix.AF_INET && b[0] != unix.AF_INET6 || b[10]&unix.NTF_PROXY != 0 {
		return Neigh{}, false, nil
	}
	n.Link = int(binary.NativeEndian.Uint32(b[4:]))
	n.Permanent = binary.NativeEndian.Uint16(b[8:])&unix.NUD_PERMANENT != 0
	err = attrs(b[sizeofNdmsg:], func(attr uint16, v []byte) {
		switch {
		case attr == unix.NDA_DST:
			n.IP = addrOf(v)
		case attr == unix.NDA_LLADDR && len(v) == len(n.MAC):
			n.MAC = MAC(v)
		}
	})
	return n, err == nil && n.IP.IsValid(), err
}

const sizeofNdmsg = 12

// NeighChange is one change of a neighbour; what it makes is permanent.
type NeighChange struct {
	Verb  Verb
	Neigh Neigh
	Dev   string // name of the device, for the text
}

// String is the ip(8) command that does the same.
func (c NeighChange) String() string {
	if c.Verb == Delete {
		return fmt.Sprintf("ip neigh del %s dev %s", c.Neigh.IP, c.Dev)
	}
	return fmt.Sprintf("ip neigh %s %s lladdr %s dev %s nud permanent", c.Verb, c.Neigh.IP, c.Neigh.MAC, c.Dev)
}

func (c NeighChange) encode(b []byte, seq uint32) []byte {
	kind, state := uint16(unix.RTM_NEWNEIGH), uint16(unix.NUD_PERMANENT)
	if c.Verb == Delete {
		kind, state = unix.RTM_DELNEIGH, 0
	}
	b, start := begin(b, kind, c.Verb.flags(), seq)
	b = appendNdmsg(b, familyOf(c.Neigh.IP), c.Neigh.Link, state, 0)
	b = appendAttrAddr(b, unix.NDA_DST, c.Neigh.IP)
	if c.Verb != Delete {
		b = appendAttr(b, unix.NDA_LLADDR, c.Neigh.MAC[:])
	}
	return finish(b, start)
}

func (c NeighChange) done(errno unix.Errno) bool {
	return c.Verb == Delete && (errno == unix.ENOENT || errno == unix.ENODEV || errno == unix.ENXIO)
}

// Neighs calls f for every neighbour of a device, of both families.
func (s *Socket) Neighs(link int, f func(Neigh)) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		body := appendAttrUint32(appendNdmsg(nil, family, 0, 0, 0), unix.NDA_IFINDEX, uint32(link))
		err := s.dump("list neighbours", unix.RTM_GETNEIGH, body, func(h header, b []byte) error {
			if h.kind != unix.RTM_NEWNEIGH {
				return nil
			}
			n, ok, err := parseNeigh(b)
			if ok && n.Link == link {
				f(n)
			}
			return err
		})
		if err != nil && (family != unix.AF_INET6 || !noFamily(err)) {
			return err
		}
	}
	return nil
}
