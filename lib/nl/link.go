package nl

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

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
	return Link{
		Index: a.Index, Name: a.Name, Kind: l.Type(), MTU: a.MTU, MAC: a.HardwareAddr.String(), Alias: a.Alias,
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

// Addr is an address of a device.
type Addr struct {
	Prefix netip.Prefix // address and length, not masked: 192.168.0.11/24
	Scope  int          // 0 global, 253 link, 254 host
	Link   int          // index
	// Deprecated, tentative or failed IPv6 addresses are not to be used as a source.
	Unusable bool
}

// Addrs lists the addresses of the device with the given index, or of all for 0.
func (c *Conn) Addrs(index int) ([]Addr, error) {
	raw, err := dump("list addresses", func() ([]netlink.Addr, error) { return c.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var addrs []Addr
	for _, a := range raw {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || index != 0 && a.LinkIndex != index {
			continue
		}
		ip = ip.Unmap()
		ones, _ := a.Mask.Size()
		addrs = append(addrs, Addr{
			Prefix: netip.PrefixFrom(ip, ones), Scope: a.Scope, Link: a.LinkIndex,
			Unusable: a.Flags&(ifaFTentative|ifaFDeprecated|ifaFDadFailed) != 0,
		})
	}
	return addrs, nil
}

// IFA_F_* of linux/if_addr.h.
const (
	ifaFDadFailed  = 0x08
	ifaFDeprecated = 0x20
	ifaFTentative  = 0x40
)
