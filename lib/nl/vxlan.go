package nl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/plan"
)

// VXLAN is a VXLAN device as a value: the link, and what it is made with.
type VXLAN struct {
	Link
	VXLANSpec
}

// VXLANSpec is what a VXLAN device is made with. The kernel changes Parent, Local and Learning while traffic flows; the rest,
// and the family of Local, is for good. Devices that differ in VNI or Port can stand beside each other.
type VXLANSpec struct {
	VNI      int
	Port     int // UDP, of both ends
	Parent   int // index of the device below, 0: none
	Local    netip.Addr
	Learning bool
	GBP      bool // group-based policy extension
	// Other: it has what no field here says (a multicast group or remote, metadata mode, ARP proxy …).
	Other bool
}

// VXLANs lists every VXLAN device.
func (c *Conn) VXLANs() ([]VXLAN, error) {
	raw, err := dump("list links", c.h.LinkList)
	if err != nil {
		return nil, err
	}
	var devices []VXLAN
	for _, l := range raw {
		v, ok := l.(*netlink.Vxlan)
		if !ok {
			continue
		}
		local, _ := netip.AddrFromSlice(v.SrcAddr)
		devices = append(devices, VXLAN{Link: linkOf(v), VXLANSpec: VXLANSpec{
			VNI: v.VxlanId, Port: v.Port, Parent: v.VtepDevIndex, Local: local.Unmap(), Learning: v.Learning, GBP: v.GBP,
			Other: v.Group != nil || v.FlowBased || v.Proxy || v.RSC || v.L2miss || v.L3miss,
		}})
	}
	return devices, nil
}

// linkOp is an operation on the device that has the name when it is done.
func (c *Conn) linkOp(text, name string, do func(netlink.Link) error) plan.Op {
	return plan.Func{Text: text, Run: func(context.Context) error {
		l, err := dump("read link "+name, func() (netlink.Link, error) { return c.h.LinkByName(name) })
		if err != nil {
			return err
		}
		if err := do(l); err != nil {
			return refused(err)
		}
		return nil
	}}
}

// AddVXLAN makes the device with its MAC address and MTU, so that nobody else chooses them. parent is
// the name of v.Parent.
func (c *Conn) AddVXLAN(v VXLAN, parent string) plan.Op {
	text := fmt.Sprintf("ip link add %s address %s mtu %d type vxlan id %d dev %s local %s dstport %d",
		v.Name, v.MAC, v.MTU, v.VNI, parent, v.Local, v.Port)
	if !v.Learning {
		text += " nolearning"
	}
	if v.GBP {
		text += " gbp"
	}
	return plan.Func{Text: text, Run: func(context.Context) error {
		mac, err := net.ParseMAC(v.MAC)
		if err != nil {
			return fmt.Errorf("address %q: %w", v.MAC, err)
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = v.Name, mac, v.MTU
		if err := c.h.LinkAdd(&netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: v.VNI, VtepDevIndex: v.Parent, SrcAddr: v.Local.AsSlice(), Port: v.Port,
			Learning: v.Learning, GBP: v.GBP,
		}); err != nil {
			return refused(err)
		}
		return nil
	}}
}

// SetVXLAN changes what can be changed of a device while traffic flows: its uplink, whose name is parent, the outer source and learning.
func (c *Conn) SetVXLAN(is VXLAN, want VXLANSpec, parent string) plan.Op {
	text := "ip link set dev " + is.Name + " type vxlan"
	var data []byte
	if want.Parent != is.Parent {
		text += " dev " + parent
		data = appendAttrUint32(data, unix.IFLA_VXLAN_LINK, uint32(want.Parent))
	}
	if want.Local != is.Local {
		text += " local " + want.Local.String()
		attr := uint16(unix.IFLA_VXLAN_LOCAL)
		if want.Local.Is6() {
			attr = unix.IFLA_VXLAN_LOCAL6
		}
		data = appendAttr(data, attr, want.Local.AsSlice())
	}
	if want.Learning != is.Learning {
		text += map[bool]string{true: " learning", false: " nolearning"}[want.Learning]
		data = appendAttrBool(data, unix.IFLA_VXLAN_LEARNING, want.Learning)
	}
	return plan.Func{Text: text, Run: func(context.Context) error {
		s, err := OpenSocket()
		if err != nil {
			return err
		}
		info := appendAttr(appendAttrText(nil, infoKind, "vxlan"), infoData, data)
		err = s.Do(request{text: text, kind: unix.RTM_NEWLINK, body: appendAttr(appendLink(nil, is.Index, 0, 0), unix.IFLA_LINKINFO, info)})
		return errors.Join(err, s.Close())
	}}
}

// LinkName gives a device another name. Before Linux 6.2 one that is up is refused with EBUSY.
func (c *Conn) LinkName(name, next string) plan.Op {
	return c.linkOp(fmt.Sprintf("ip link set dev %s name %s", name, next), name, func(l netlink.Link) error {
		return c.h.LinkSetName(l, next)
	})
}

// LinkDel deletes a device.
func (c *Conn) LinkDel(name string) plan.Op {
	return c.linkOp("ip link del "+name, name, c.h.LinkDel)
}

// LinkUp sets a device up.
func (c *Conn) LinkUp(name string) plan.Op {
	return c.linkOp("ip link set dev "+name+" up", name, c.h.LinkSetUp)
}

// LinkMTU sets a device's MTU, bytes.
func (c *Conn) LinkMTU(name string, mtu int) plan.Op {
	return c.linkOp(fmt.Sprintf("ip link set dev %s mtu %d", name, mtu), name, func(l netlink.Link) error {
		return c.h.LinkSetMTU(l, mtu)
	})
}

// LinkMAC sets a device's MAC address.
func (c *Conn) LinkMAC(name, mac string) plan.Op {
	return c.linkOp(fmt.Sprintf("ip link set dev %s address %s", name, mac), name, func(l netlink.Link) error {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return err
		}
		return c.h.LinkSetHardwareAddr(l, hw)
	})
}

// LinkAlias sets a device's alias, the mark of who owns it.
func (c *Conn) LinkAlias(name, alias string) plan.Op {
	text := alias
	if text == "" {
		text = `""`
	}
	return c.linkOp(fmt.Sprintf("ip link set dev %s alias %s", name, text), name, func(l netlink.Link) error {
		return c.h.LinkSetAlias(l, alias)
	})
}

// AddrAdd gives a device an address; an IPv6 one without duplicate address detection.
func (c *Conn) AddrAdd(name string, prefix netip.Prefix) plan.Op {
	return c.linkOp("ip "+addrText("add", name, prefix), name, func(l netlink.Link) error {
		a := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		return c.h.AddrAdd(l, a)
	})
}

// AddrDel takes an address from a device.
func (c *Conn) AddrDel(name string, prefix netip.Prefix) plan.Op {
	return c.linkOp("ip "+addrText("del", name, prefix), name, func(l netlink.Link) error {
		return c.h.AddrDel(l, &netlink.Addr{IPNet: ipNet(prefix)})
	})
}

func addrText(verb, name string, prefix netip.Prefix) string {
	var b strings.Builder
	if prefix.Addr().Is6() {
		b.WriteString("-6 ")
	}
	fmt.Fprintf(&b, "addr %s %s dev %s", verb, prefix, name)
	if verb == "add" && prefix.Addr().Is6() {
		b.WriteString(" nodad")
	}
	return b.String()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
