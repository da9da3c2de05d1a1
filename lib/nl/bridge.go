package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Device is a Link with what concerns bridges, their ports and veth pairs.
type Device struct {
	Link
	Peer     int  // index of a veth's other end, in that end's namespace
	Works    bool // it has its carrier, and the kernel has seen to that: before, it drops what is sent
	Promisc  bool
	Hairpin  bool // of a port of a bridge
	Isolated bool // of a port of a bridge
}

// Bridge is a bridge to make.
type Bridge struct {
	Name  string
	MAC   MAC // given: the kernel keeps it; else it would follow the ports as they come and go
	MTU   int // bytes
	Alias string
	// Promisc sets the device promiscuous, which some use in place of hairpin ports.
	Promisc bool
}

// AddBridge makes a bridge without an IPv6 link-local address of its own choice being probed for,
// and leaves it down. One of that name that is there already is left as it is.
func AddBridge(br Bridge) Change {
	b := appendAttrText(appendLink(nil, 0, 0, 0), unix.IFLA_IFNAME, br.Name)
	b = appendAttr(b, unix.IFLA_ADDRESS, br.MAC[:])
	b = appendAttrUint32(b, unix.IFLA_MTU, uint32(br.MTU))
	b = appendAttr(b, unix.IFLA_LINKINFO, appendAttrText(nil, infoKind, "bridge"))
	return request{
		text: fmt.Sprintf("ip link add %s address %s mtu %d type bridge", br.Name, br.MAC, br.MTU),
		kind: unix.RTM_NEWLINK, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b, already: []unix.Errno{unix.EEXIST},
	}
}

// SetBridge marks a bridge with its alias, sets it promiscuous or not, and up.
func SetBridge(br Bridge) Change {
	flags := uint32(unix.IFF_UP)
	if br.Promisc {
		flags |= unix.IFF_PROMISC
	}
	b := appendAttrText(appendLink(nil, 0, flags, unix.IFF_UP|unix.IFF_PROMISC), unix.IFLA_IFNAME, br.Name)
	if br.Alias != "" {
		b = appendAttr(b, unix.IFLA_IFALIAS, []byte(br.Alias))
	}
	text := fmt.Sprintf("ip link set %s up promisc %s", br.Name, onOff(br.Promisc))
	if br.Alias != "" {
		text += fmt.Sprintf(" alias %q", br.Alias)
	}
	return request{text: text, kind: unix.RTM_NEWLINK, body: b}
}

// SetMAC sets a device's MAC; setting a bridge's to what it is pins it.
func SetMAC(index int, name string, mac MAC) Change {
	return request{
		text: fmt.Sprintf("ip link set %s address %s", name, mac),
		kind: unix.RTM_NEWLINK, body: appendAttr(appendLink(nil, index, 0, 0), unix.IFLA_ADDRESS, mac[:]),
	}
}

// SetMTU sets a device's MTU, bytes.
func SetMTU(index int, name string, mtu int) Change {
	return request{
		text: fmt.Sprintf("ip link set %s mtu %d", name, mtu),
		kind: unix.RTM_NEWLINK, body: appendAttrUint32(appendLink(nil, index, 0, 0), unix.IFLA_MTU, uint32(mtu)),
	}
}

// Device reads one device by name, without its counters; ok is false when there is none.
func (s *Socket) Device(name string) (d Device, ok bool, err error) {
	var refusal error
	err = s.exchange(1, func(b []byte, _ int, seq uint32) []byte {
		b, start := begin(b, unix.RTM_GETLINK, unix.NLM_F_ACK, seq)
		b = appendAttrUint32(appendLink(b, 0, 0, 0), unix.IFLA_EXT_MASK, extFilterNoStats)
		return finish(appendAttrText(b, unix.IFLA_IFNAME, name), start)
	}, func(_ int, h header, b []byte) {
		if h.kind == unix.RTM_NEWLINK {
			d, ok = parseDevice(b)
		}
	}, func(_ int, errno unix.Errno, _ string) {
		if errno != 0 && errno != unix.ENODEV {
			refusal = errno
		}
	}, nil)
	return d, ok, kernelError("read link "+name, errors.Join(err, refusal))
}

// Ports lists the ports of the bridge with the given index.
func (s *Socket) Ports(bridge int) ([]Device, error) {
	body := appendAttrUint32(appendLink(nil, 0, 0, 0), unix.IFLA_EXT_MASK, extFilterNoStats)
	body = appendAttrUint32(body, unix.IFLA_MASTER, uint32(bridge))
	var ports []Device
	seen := map[int]bool{} // an interrupted list is repeated
	err := s.dump("list ports", unix.RTM_GETLINK, body, func(h header, b []byte) error {
		if d, ok := parseDevice(b); ok && h.kind == unix.RTM_NEWLINK && d.Master == bridge && !seen[d.Index] {
			seen[d.Index] = true
			ports = append(ports, d)
		}
		return nil
	})
	return ports, err
}

// Addrs lists the addresses of one device, of one family, without link-local ones.
func (s *Socket) Addrs(index int, v6 bool) ([]Addr, error) {
	family := byte(unix.AF_INET)
	if v6 {
		family = unix.AF_INET6
	}
	body := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0}, uint32(index))
	var addrs []Addr
	err := s.dump("list addresses", unix.RTM_GETADDR, body, func(h header, b []byte) error {
		if h.kind != unix.RTM_NEWADDR {
			return nil
		}
		a, ok, err := parseAddr(b)
		if ok && a.Link == index && !a.Prefix.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, a)
		}
		return err
	})
	if v6 && err != nil && noFamily(err) {
		return nil, nil
	}
	return addrs, err
}

// parseDevice reads the payload of RTM_NEWLINK; ok is false when it is too short or malformed.
func parseDevice(b []byte) (d Device, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return Device{}, false
	}
	d.Index = int(uint32Of(b[4:]))
	flags := uint32Of(b[8:])
	d.Up, d.Promisc, d.Kind = flags&unix.IFF_UP != 0, flags&unix.IFF_PROMISC != 0, "device"
	err := attrs(b[unix.SizeofIfInfomsg:], func(attr uint16, v []byte) {
		switch attr {
		case unix.IFLA_IFNAME:
			d.Name = unix.ByteSliceToString(v)
		case unix.IFLA_IFALIAS:
			d.Alias = unix.ByteSliceToString(v)
		case unix.IFLA_MTU:
			d.MTU = int(uint32Of(v))
		case unix.IFLA_MASTER:
			d.Master = int(uint32Of(v))
		case unix.IFLA_LINK:
			d.Peer = int(uint32Of(v))
		case unix.IFLA_ADDRESS:
			d.MAC = net.HardwareAddr(v).String()
		case unix.IFLA_OPERSTATE:
			d.Works = len(v) == 1 && v[0] == operUp
			d.Lower = d.Works || len(v) == 1 && v[0] == operUnknown
		case unix.IFLA_LINKINFO:
			d.linkInfo(v)
		}
	})
	return d, err == nil && d.Index != 0
}

// linkInfo reads IFLA_LINKINFO; a malformed rest leaves the fields as they are.
func (d *Device) linkInfo(v []byte) {
	_ = attrs(v, func(attr uint16, v []byte) {
		switch attr {
		case infoKind:
			d.Kind = unix.ByteSliceToString(v)
		case infoSlaveData:
			_ = attrs(v, func(attr uint16, v []byte) {
				on := len(v) == 1 && v[0] != 0
				switch attr {
				case brportHairpin:
					d.Hairpin = on
				case brportIsolated:
					d.Isolated = on
				}
			})
		}
	})
}

// IF_OPER_* of linux/if.h.
const (
	operUnknown = 0
	operUp      = 6
)
