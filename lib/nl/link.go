package nl

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mark is the alias of the devices that towpath owns: only these are ever deleted.
const Mark = "towpath"

// Link is a network device as a value.
type Link struct {
	Index  int
	Name   string
	Kind   string // vxlan, bridge, veth …; "device" for hardware
	MTU    int    // bytes
	MAC    string // aa:bb:cc:dd:ee:ff, empty where the device has none
	Alias  string
	Up     bool // administratively up
	Lower  bool // its carrier is up
	Master int  // index of the bridge it is a port of, 0: none
	Flags  net.Flags
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	kind := l.Type()
	if kind == "tuntap" { // the kernel's own name, which its events have, is another
		kind = "tun"
	}
	return Link{
		Index: a.Index, Name: a.Name, Kind: kind, MTU: a.MTU, MAC: a.HardwareAddr.String(), Alias: a.Alias,
		Up: a.Flags&net.FlagUp != 0, Lower: a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown,
		Master: a.MasterIndex, Flags: a.Flags,
	}
}

// Links lists every device.
func (c *Conn) Links() ([]Link, error) {
	raw, err := dump("list links", c.h.LinkList)
	if err != nil {
		return nil, err
	}
	links := make([]Link, len(raw))
	for i, l := range raw {
		links[i] = linkOf(l)
	}
	return links, nil
}

// Link finds a device by name; ok is false when there is none.
func (c *Conn) Link(name string) (link Link, ok bool, err error) {
	l, err := dump("read link "+name, func() (netlink.Link, error) { return c.h.LinkByName(name) })
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return Link{}, false, nil
	}
	if err != nil {
		return Link{}, false, err
	}
	return linkOf(l), true, nil
}

// Received is how many packets have come in over the device with the given index.
func (c *Conn) Received(index int) (packets uint64, err error) {
	l, err := dump("read link", func() (netlink.Link, error) { return c.h.LinkByIndex(index) })
	if err != nil {
		return 0, err
	}
	if s := l.Attrs().Statistics; s != nil {
		packets = s.RxPackets
	}
	return packets, nil
}

// Addr is an address of a device.
type Addr struct {
	Prefix netip.Prefix // address and length, not masked: 192.168.0.11/24
	Scope  int          // 0 global, 253 link, 254 host
	Link   int          // index
	// Deprecated, tentative or failed IPv6 addresses are not to be used as a source.
	Unusable bool
}

// Global says that the address is not the kernel's own for the link or the host: IPv6 devices give themselves link-local ones.
func (a Addr) Global() bool { return a.Scope < unix.RT_SCOPE_LINK }

// Addrs lists the addresses of the device with the given index, or of all for 0.
func (c *Conn) Addrs(index int) ([]Addr, error) {
	all, err := c.addrs()
	if err != nil {
		return nil, err
	}
	var addrs []Addr
	for _, a := range all {
		if index == 0 || a.Link == index {
			addrs = append(addrs, a.Addr)
		}
	}
	return addrs, nil
}

func (c *Conn) addrs() ([]UplinkAddr, error) {
	raw, err := dump("list addresses", func() ([]netlink.Addr, error) { return c.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var addrs []UplinkAddr
	for _, a := range raw {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			ones, _ := a.Mask.Size()
			addrs = append(addrs, UplinkAddr{Addr: Addr{
				Prefix: netip.PrefixFrom(ip.Unmap(), ones), Scope: a.Scope, Link: a.LinkIndex,
				Unusable: a.Flags&(ifaFTentative|ifaFDeprecated|ifaFDadFailed) != 0,
			}, Secondary: a.Flags&ifaFSecondary != 0})
		}
	}
	return addrs, nil
}

// IFA_F_* of linux/if_addr.h.
const (
	ifaFDadFailed  = 0x08
	ifaFDeprecated = 0x20
	ifaFTentative  = 0x40
)
