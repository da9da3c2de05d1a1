package nl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// FDB is an entry of a VXLAN device's forwarding database: the node behind a MAC address.
type FDB struct {
	FDBKey
	Dst netip.Addr // of the outer packet
	// Permanent: a program made it; the kernel neither learned it nor ages it. It stays when the
	// device is set down.
	Permanent bool
	// Other: it carries what no field here says (another port, VNI or device, a nexthop group, or it is
	// "static" where ours is "permanent").
	Other bool
}

// FDBKey names what an FDB entry is for. A unicast MAC has one entry; the all-zero MAC may have many.
type FDBKey struct {
	Link int // index of the device
	MAC  MAC
}

// parseFDB reads the payload of RTM_NEWNEIGH or RTM_DELNEIGH of family AF_BRIDGE. ok is false for
// other families, and for entries of bridges and of their ports.
func parseFDB(b []byte) (e FDB, ok bool, err error) {
	if len(b) < sizeofNdmsg {
		return FDB{}, false, errShort
	}
	if b[0] != unix.AF_BRIDGE || b[10]&unix.NTF_SELF == 0 {
		return FDB{}, false, nil
	}
	e.Link = int(binary.NativeEndian.Uint32(b[4:]))
	e.Permanent = binary.NativeEndian.Uint16(b[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0
	e.Other = e.Permanent && binary.NativeEndian.Uint16(b[8:])&unix.NUD_PERMANENT == 0
	mac := false
	err = attrs(b[sizeofNdmsg:], func(attr uint16, v []byte) {
		switch attr {
		case unix.NDA_LLADDR:
			if mac = len(v) == len(e.MAC); mac {
				e.MAC = MAC(v)
			}
		case unix.NDA_DST:
			e.Dst = addrOf(v)
		case unix.NDA_PORT, unix.NDA_VNI, unix.NDA_IFINDEX, ndaNHID, unix.NDA_MASTER:
			e.Other = true
		}
	})
	return e, err == nil && mac, err
}

// FDBChange is one change of an FDB entry; what it makes is permanent.
type FDBChange struct {
	Verb Verb
	FDB  FDB
	Dev  string // name of the device, for the text
}

// String is the bridge(8) command that does the same.
func (c FDBChange) String() string {
	text := fmt.Sprintf("bridge fdb %s %s dev %s", c.Verb, c.FDB.MAC, c.Dev)
	if c.FDB.Dst.IsValid() {
		text += fmt.Sprintf(" dst %s", c.FDB.Dst)
	}
	if c.Verb == Delete {
		return text + " self"
	}
	return text + " self permanent"
}

func (c FDBChange) encode(b []byte, seq uint32) []byte {
	kind := uint16(unix.RTM_NEWNEIGH)
	if c.Verb == Delete {
		kind = unix.RTM_DELNEIGH
	}
	b, start := begin(b, kind, c.Verb.flags(), seq)
	b = appendNdmsg(b, unix.AF_BRIDGE, c.FDB.Link, unix.NUD_PERMANENT, unix.NTF_SELF)
	b = appendAttr(b, unix.NDA_LLADDR, c.FDB.MAC[:])
	if c.FDB.Dst.IsValid() {
		b = appendAttrAddr(b, unix.NDA_DST, c.FDB.Dst)
	}
	return finish(b, start)
}

func (c FDBChange) done(errno unix.Errno) bool {
	return c.Verb == Delete && (errno == unix.ENOENT || errno == unix.ENODEV)
}

// FDB calls f for every entry of a VXLAN device's forwarding database.
func (s *Socket) FDB(link int, f func(FDB)) error {
	body := appendNdmsg(nil, unix.AF_BRIDGE, link, 0, 0)
	return s.dump("list fdb", unix.RTM_GETNEIGH, body, func(h header, b []byte) error {
		if h.kind != unix.RTM_NEWNEIGH {
			return nil
		}
		e, ok, err := parseFDB(b)
		if ok && e.Link == link {
			f(e)
		}
		return err
	})
}

const ndaNHID = 13 // NDA_NH_ID of linux/neighbour.h
