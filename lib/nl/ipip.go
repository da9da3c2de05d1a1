package nl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// IPIP is a device that carries IPv4 in IPv4, as a value: the link, and what cannot be changed without making it anew.
type IPIP struct {
	Link
	IPIPSpec
}

// IPIPSpec is what an IPIP device is made with. The gateway of the route says where a packet goes.
type IPIPSpec struct {
	Local netip.Addr
	// Other: it has what no field here says (a remote address, a device below, an inner protocol that is not IPv4,
	// encapsulation in UDP, metadata mode, a TTL or TOS of its own).
	Other bool
}

// IPIPs lists every IPIP device.
func (c *Conn) IPIPs() ([]IPIP, error) {
	raw, err := dump("list links", c.h.LinkList)
	if err != nil {
		return nil, err
	}
	var devices []IPIP
	for _, l := range raw {
		if t, ok := l.(*netlink.Iptun); ok {
			devices = append(devices, ipipOf(t))
		}
	}
	return devices, nil
}

func ipipOf(t *netlink.Iptun) IPIP {
	local, _ := netip.AddrFromSlice(t.Local)
	remote, _ := netip.AddrFromSlice(t.Remote)
	if local = local.Unmap(); local.IsUnspecified() {
		local = netip.Addr{}
	}
	// Proto 0 is any, which is how flannel makes it.
	known := (!remote.IsValid() || remote.IsUnspecified()) && t.Link == 0 && !t.FlowBased && t.EncapType == 0 && t.Ttl == 0 && t.Tos == 0 &&
		(t.Proto == 0 || t.Proto == unix.IPPROTO_IPIP)
	return IPIP{Link: linkOf(t), IPIPSpec: IPIPSpec{Local: local, Other: !known}}
}

// AddIPIP makes the device with its MTU.
func (c *Conn) AddIPIP(d IPIP) plan.Op {
	text := fmt.Sprintf("ip link add %s mtu %d type ipip mode ipip local %s", d.Name, d.MTU, d.Local)
	return plan.Func{Text: text, Run: func(context.Context) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = d.Name, d.MTU
		err := c.h.LinkAdd(&netlink.Iptun{LinkAttrs: attrs, Local: d.Local.AsSlice(), PMtuDisc: 1, Proto: unix.IPPROTO_IPIP})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EOPNOTSUPP):
			return exit.WithHint(exit.Errorf(exit.Refused, "this kernel has no IPIP devices: %w", err),
				"modprobe ipip, on a kernel that has the module, or choose another back end in net-conf.json: vxlan, host-gw, or udp, which needs a TUN only")
		}
		return refused(err)
	}}
}
