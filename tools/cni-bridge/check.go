package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// damaged is the code of what CHECK finds (the specification leaves 100 and up to plugins).
const damaged = 101

func damage(format string, args ...any) error {
	return types.NewError(damaged, fmt.Sprintf(format, args...), "delete the pod, so that it is made anew")
}

// check compares what the ADD returned with what is there: reservation, endpoint, bridge, host end,
// pod's end, addresses and routes.
func check(c *call) error {
	if c.conf.Policy {
		if why := c.uncovered(); why != "" {
			return types.NewError(damaged, "no policy covers "+c.podName()+": "+why, "see towpath status")
		}
	}
	if !c.conf.native() {
		return delegateCheck(c)
	}
	if c.conf.PrevResult == nil {
		return &state.KeyError{Key: "prevResult", Err: fmt.Errorf("missing: CHECK compares with it")}
	}
	raw, err := create.Create(c.conf.CNIVersion, c.conf.PrevResult)
	if err != nil {
		return &state.KeyError{Key: "prevResult", Err: err}
	}
	want, err := current.NewResultFromResult(raw)
	if err == nil && (slices.Contains(want.IPs, nil) || slices.Contains(want.Interfaces, nil)) {
		err = fmt.Errorf("null among the addresses or interfaces")
	}
	if err != nil {
		return &state.KeyError{Key: "prevResult", Err: err}
	}
	if err := c.checkReservation(want); err != nil {
		return err
	}
	netns, err := c.enterable()
	if err != nil {
		return err
	}
	defer netns.Close() //nolint:errcheck // nothing is buffered
	var inside nl.Device
	if err := netns.Do(func() (err error) { inside, err = c.checkPod(want); return err }); err != nil {
		return err
	}
	return c.checkHost(want, inside)
}

func (c *call) checkReservation(want *current.Result) error {
	s, err := c.open()
	if err != nil {
		return err
	}
	a, err := s.lookUp(c.holder, unix.LOCK_EX)
	if err != nil {
		return err
	}
	var held []netip.Addr
	if a != nil {
		defer a.close()
		if err := s.locked(func() error { held = a.addresses(); return nil }); err != nil {
			return err
		}
	}
	for _, p := range wantAddrs(want) {
		if !slices.Contains(held, p.Addr()) {
			return damage("address %s is not reserved for this container: %s", p.Addr(), s.path(p.Addr()))
		}
	}
	if !exists(c.endpointPath()) {
		return damage("endpoint %s is missing", c.endpointPath())
	}
	return nil
}

// checkPod runs inside the pod's namespace.
func (c *call) checkPod(want *current.Result) (nl.Device, error) {
	s, err := nl.OpenSocket()
	if err != nil {
		return nl.Device{}, err
	}
	defer s.Close() //nolint:errcheck // nothing is buffered
	dev, ok, err := s.Device(c.Interface)
	switch {
	case err != nil:
		return dev, err
	case !ok:
		return dev, damage("device %q is missing in the pod", c.Interface)
	case dev.Kind != "veth":
		return dev, damage("device %q in the pod is a %s", c.Interface, dev.Kind)
	case !dev.Up:
		return dev, damage("device %q in the pod is down", c.Interface)
	}
	if i := wantInterface(want, c.Interface, true); i != nil && i.Mac != "" && i.Mac != dev.MAC {
		return dev, damage("device %q in the pod has the MAC %s, not %s", c.Interface, dev.MAC, i.Mac)
	}
	if i := wantInterface(want, c.Interface, true); i != nil && i.Mtu != 0 && i.Mtu != dev.MTU {
		return dev, damage("device %q in the pod has the MTU %d, not %d", c.Interface, dev.MTU, i.Mtu)
	}
	for _, p := range wantAddrs(want) {
		have, err := s.Addrs(dev.Index, p.Addr().Is6())
		if err != nil {
			return dev, err
		}
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix == p }) {
			return dev, damage("device %q in the pod lacks the address %s", c.Interface, p)
		}
	}
	return dev, checkRoutes(s, dev, want)
}

func checkRoutes(s *nl.Socket, dev nl.Device, want *current.Result) error {
	have := map[netip.Prefix][]netip.Addr{}
	err := s.Routes(0, func(r nl.Route) {
		if r.Link == dev.Index {
			have[r.Dst] = append(have[r.Dst], r.Gateway)
		}
	})
	if err != nil {
		return err
	}
	for _, r := range want.Routes {
		dst, ok := prefixOfNet(r.Dst)
		if !ok || r.Table != nil && *r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		gws, found := have[dst.Masked()]
		if gw, ok := netip.AddrFromSlice(r.GW); found && ok {
			found = slices.Contains(gws, gw.Unmap())
		}
		if !found {
			return damage("the pod lacks its route to %s", dst)
		}
	}
	return nil
}

// checkHost looks at the bridge and the host end.
func (c *call) checkHost(want *current.Result, inside nl.Device) error {
	s, err := nl.OpenSocket()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing is buffered
	conf := c.conf.bridge
	br, ok, err := s.Device(conf.Bridge)
	switch {
	case err != nil:
		return err
	case !ok:
		return damage("bridge %q is missing", conf.Bridge)
	case br.Kind != "bridge":
		return damage("device %q is a %s, no bridge", conf.Bridge, br.Kind)
	case !br.Up:
		return damage("bridge %q is down", conf.Bridge)
	}
	if err := checkGateways(s, br, conf, want); err != nil {
		return err
	}
	name := vethName(c.holder)
	veth, ok, err := s.Device(name)
	if err == nil && !ok { // made by the reference plugin before a takeover: its name is in the result
		for _, i := range want.Interfaces {
			if i.Sandbox == "" && i.Name != conf.Bridge && !ok && err == nil {
				name = i.Name
				veth, ok, err = s.Device(name)
			}
		}
	}
	switch {
	case err != nil:
		return err
	case !ok:
		return damage("host end %q is missing", name)
	case veth.Kind != "veth" || veth.Peer != inside.Index || inside.Peer != veth.Index:
		return damage("host end %q is not the other end of the pod's %q", name, c.Interface)
	case veth.MTU != inside.MTU: // not every version's results tell it, but the ends were made with the same
		return damage("device %q in the pod has the MTU %d, its host end %d", c.Interface, inside.MTU, veth.MTU)
	case veth.Master != br.Index:
		return damage("host end %q is no port of bridge %q", name, br.Name)
	case !veth.Up:
		return damage("host end %q is down", name)
	case veth.Hairpin != conf.Hairpin:
		return damage("host end %q has hairpin %t, not %t", name, veth.Hairpin, conf.Hairpin)
	}
	return nil
}

func checkGateways(s *nl.Socket, br nl.Device, conf bridgeConf, want *current.Result) error {
	if !conf.gateway() {
		return nil
	}
	for _, ip := range want.IPs {
		gw, ok := netip.AddrFromSlice(ip.Gateway)
		if !ok {
			continue
		}
		gw = gw.Unmap()
		have, err := s.Addrs(br.Index, gw.Is6())
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix.Addr() == gw }) {
			return damage("bridge %q lacks the gateway address %s", br.Name, gw)
		}
	}
	return nil
}

func wantAddrs(want *current.Result) []netip.Prefix {
	var all []netip.Prefix
	for _, ip := range want.IPs {
		if p, ok := prefixOfNet(ip.Address); ok {
			all = append(all, p)
		}
	}
	return all
}

func wantInterface(want *current.Result, name string, inside bool) *current.Interface {
	for _, i := range want.Interfaces {
		if i.Name == name && (i.Sandbox != "") == inside {
			return i
		}
	}
	return nil
}
