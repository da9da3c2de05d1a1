package nl

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/plan"
)

// HasWireGuard says whether the kernel has WireGuard. Asking loads its module where there is one.
func HasWireGuard() (bool, error) {
	_, err := dump("look for WireGuard", func() (*netlink.GenlFamily, error) { return netlink.GenlFamilyGet("wireguard") })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// AddWireGuard makes a WireGuard device of the kernel's.
func (c *Conn) AddWireGuard(name string, mtu int) plan.Op {
	return plan.Func{Text: fmt.Sprintf("ip link add %s mtu %d type wireguard", name, mtu), Run: func(context.Context) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, mtu
		if err := c.h.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}); err != nil {
			return refused(err)
		}
		return nil
	}}
}
