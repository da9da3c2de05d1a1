package nl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Veth is a pair of devices: one end here, as a port of a bridge, the other in another namespace.
type Veth struct {
	Name   string
	MAC    MAC
	MTU    int // bytes, of both ends
	Bridge int // index of the bridge

	Peer    string
	PeerMAC MAC
	Netns   *Netns // where Peer is
}

// AddVeth makes the pair, already enslaved, both ends where they belong and still down: moving an
// end to its namespace afterwards would cost a grace period of the kernel (milliseconds).
func AddVeth(v Veth) Change {
	peer := appendLink(nil, 0, 0, 0)
	peer = appendAttrText(peer, unix.IFLA_IFNAME, v.Peer)
	peer = appendAttrUint32(peer, unix.IFLA_MTU, uint32(v.MTU))
	peer = appendAttr(peer, unix.IFLA_ADDRESS, v.PeerMAC[:])
	peer = appendAttrUint32(peer, unix.IFLA_NET_NS_FD, uint32(v.Netns.Fd()))

	b := appendLink(nil, 0, 0, 0)
	b = appendAttrText(b, unix.IFLA_IFNAME, v.Name)
	b = appendAttrUint32(b, unix.IFLA_MTU, uint32(v.MTU))
	b = appendAttr(b, unix.IFLA_ADDRESS, v.MAC[:])
	b = appendAttrUint32(b, unix.IFLA_MASTER, uint32(v.Bridge))
	b = appendAttr(b, unix.IFLA_LINKINFO, appendAttr(appendAttrText(nil, infoKind, "veth"),
		infoData, appendAttr(nil, vethInfoPeer, peer)))
	return request{
		text: fmt.Sprintf("ip link add %s address %s mtu %d type veth peer name %s address %s", v.Name, v.MAC, v.MTU, v.Peer, v.PeerMAC),
		kind: unix.RTM_NEWLINK, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b,
	}
}

// NoLinkLocal keeps the kernel from giving a device that is still down an IPv6 link-local address. A
// port of a bridge needs none; 4,000 ports without it save as many multicast joins and probes. A
// kernel without IPv6 refuses, which is as good.
func NoLinkLocal(name string) Change {
	b := appendAttrText(appendLink(nil, 0, 0, 0), unix.IFLA_IFNAME, name)
	b = appendAttr(b, unix.IFLA_AF_SPEC, appendAttr(nil, unix.AF_INET6, appendAttr(nil, inet6AddrGenMode, []byte{addrGenModeNone})))
	return request{
		text: "ip link set " + name + " addrgenmode none",
		kind: unix.RTM_NEWLINK, body: b, already: []unix.Errno{unix.EAFNOSUPPORT, unix.EINVAL},
	}
}

// Port is what a port of a bridge is set to.
type Port struct {
	Hairpin  bool
	Isolated bool
	Alias    string // cut at 255 bytes
	Down     bool   // left as it is, which is down when it has just been made
}

// SetPort sets a port of a bridge by name, and sets it up.
func SetPort(name string, p Port) Change {
	up, state := uint32(unix.IFF_UP), " up"
	if p.Down {
		up, state = 0, ""
	}
	b := appendAttrText(appendLink(nil, 0, up, up), unix.IFLA_IFNAME, name)
	b = appendAttr(b, unix.IFLA_IFALIAS, []byte(p.Alias[:min(len(p.Alias), aliasMax)]))
	slave := appendAttrBool(appendAttrBool(nil, brportHairpin, p.Hairpin), brportIsolated, p.Isolated)
	b = appendAttr(b, unix.IFLA_LINKINFO, appendAttr(appendAttrText(nil, infoSlaveKind, "bridge"), infoSlaveData, slave))
	return request{
		text: fmt.Sprintf("ip link set %s%s alias %q type bridge_slave hairpin %s isolated %s", name, state, p.Alias, onOff(p.Hairpin), onOff(p.Isolated)),
		kind: unix.RTM_NEWLINK, body: b,
	}
}

// SetUp sets a device up.
func SetUp(index int, name string) Change {
	return request{text: "ip link set " + name + " up", kind: unix.RTM_NEWLINK, body: appendLink(nil, index, unix.IFF_UP, unix.IFF_UP)}
}

// DeleteLink deletes a device by name; one that is not there counts as deleted.
func DeleteLink(name string) Change {
	return request{
		text: "ip link del " + name, kind: unix.RTM_DELLINK, already: []unix.Errno{unix.ENODEV},
		body: appendAttrText(appendLink(nil, 0, 0, 0), unix.IFLA_IFNAME, name),
	}
}

// AddrChange adds or deletes an address of a device. An IPv6 address is added without duplicate
// address detection unless DAD is set: one that this machine has allocated has no duplicate, and a
// device whose addresses are tentative cannot send for a second.
type AddrChange struct {
	Verb   Verb // Replace is Add, without the failure where the address is there
	Prefix netip.Prefix
	Link   int    // index of the device
	Dev    string // its name, for the text
	DAD    bool
}

// String is the ip(8) command that does the same.
func (c AddrChange) String() string {
	text := fmt.Sprintf("ip addr %s %s dev %s", c.Verb, c.Prefix, c.Dev)
	if c.Verb != Delete && c.Prefix.Addr().Is6() && !c.DAD {
		text += " nodad"
	}
	return text
}

func (c AddrChange) encode(b []byte, seq uint32) []byte {
	kind := uint16(unix.RTM_NEWADDR)
	if c.Verb == Delete {
		kind = unix.RTM_DELADDR
	}
	var flags byte
	if c.Verb != Delete && c.Prefix.Addr().Is6() && !c.DAD {
		flags = ifaFNoDAD
	}
	b, start := begin(b, kind, c.Verb.flags(), seq)
	b = append(b, familyOf(c.Prefix.Addr()), byte(c.Prefix.Bits()), flags, unix.RT_SCOPE_UNIVERSE)
	b = binary.NativeEndian.AppendUint32(b, uint32(c.Link))
	b = appendAttrAddr(b, unix.IFA_LOCAL, c.Prefix.Addr())
	b = appendAttrAddr(b, unix.IFA_ADDRESS, c.Prefix.Addr())
	if c.Prefix.Addr().Is4() && c.Prefix.Bits() < 31 && c.Verb != Delete {
		b = appendAttrAddr(b, unix.IFA_BROADCAST, Last(c.Prefix))
	}
	return finish(b, start)
}

func (c AddrChange) done(errno unix.Errno) bool {
	return c.Verb == Delete && errno == unix.EADDRNOTAVAIL || c.Verb == Replace && errno == unix.EEXIST
}

// Last is the last address of a prefix: of an IPv4 one, the broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return addrOf(b)
}

// PathChange is a route with what a container's configuration may ask for beside a Route's fields.
type PathChange struct {
	RouteChange
	Table       int // 0: main
	Scope       int // -1: what the gateway implies
	MTU, AdvMSS int // bytes, 0: none
}

// encode rewrites the route's message, whose header has a fixed place.
func (c PathChange) encode(b []byte, seq uint32) []byte {
	start := len(b)
	b = c.RouteChange.encode(b, seq)
	rtmsg := b[start+unix.SizeofNlMsghdr:]
	if c.Scope >= 0 {
		rtmsg[6] = byte(c.Scope)
	}
	if c.Table != 0 {
		rtmsg[4] = unix.RT_TABLE_UNSPEC
		b = appendAttrUint32(b, unix.RTA_TABLE, uint32(c.Table))
	}
	if c.MTU != 0 || c.AdvMSS != 0 {
		var metrics []byte
		if c.MTU != 0 {
			metrics = appendAttrUint32(metrics, unix.RTAX_MTU, uint32(c.MTU))
		}
		if c.AdvMSS != 0 {
			metrics = appendAttrUint32(metrics, unix.RTAX_ADVMSS, uint32(c.AdvMSS))
		}
		b = appendAttr(b, unix.RTA_METRICS, metrics)
	}
	return finish(b, start)
}
