package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

// ensureBridge makes the bridge, or finds it, and gives it the gateway addresses. On a node with
// pods that is two reads: one of the device and one of its addresses for each family.
func ensureBridge(s *nl.Socket, conf bridgeConf, mtu int, gateways []netip.Prefix, env subnetEnv, dir state.Dir) (nl.Device, error) {
	br, ok, err := s.Device(conf.Bridge)
	if err != nil {
		return br, err
	}
	if !ok {
		if br, err = addBridge(s, conf, mtu, gateways); err != nil {
			return br, err
		}
	}
	switch {
	case br.Kind != "bridge":
		return br, exit.Errorf(exit.BadConfig, "device %q is a %s, no bridge: set delegate.bridge to another name", br.Name, br.Kind)
	case !br.Up, conf.Promisc && !br.Promisc:
		if !br.Up {
			if err := skipDAD(br.Name, conf); err != nil {
				return br, err
			}
		}
		if err := s.Do(nl.SetBridge(nl.Bridge{Name: br.Name, Promisc: conf.Promisc})); err != nil {
			return br, err
		}
	}
	if br.MTU != mtu {
		if err := fitMTU(s, br, mtu); err != nil {
			return br, err
		}
	}
	if !conf.gateway() {
		return br, dropStale(s, br, env, dir)
	}
	for _, gw := range gateways {
		if err := ensureGateway(s, &br, conf, gw); err != nil {
			return br, err
		}
	}
	return br, dropStale(s, br, env, dir)
}

// addBridge makes the bridge. Its MAC comes from the gateway's address, so that pods' neighbour
// entries stay right when it is made again.
func addBridge(s *nl.Socket, conf bridgeConf, mtu int, gateways []netip.Prefix) (nl.Device, error) {
	b := nl.Bridge{Name: conf.Bridge, MAC: macOf(gateways[0].Addr()), MTU: mtu, Alias: nl.Mark, Promisc: conf.Promisc}
	if err := s.Do(nl.AddBridge(b)); err != nil {
		return nl.Device{}, err
	}
	// A router advertisement from a pod must not reach the node (CVE-2020-10749).
	if err := setOptional("net/ipv6/conf/"+b.Name+"/accept_ra", "0"); err != nil {
		return nl.Device{}, err
	}
	if err := skipDAD(b.Name, conf); err != nil {
		return nl.Device{}, err
	}
	if err := s.Do(nl.SetBridge(b)); err != nil {
		return nl.Device{}, err
	}
	br, ok, err := s.Device(conf.Bridge)
	if err == nil && !ok {
		err = exit.Errorf(exit.TryAgain, "bridge %q went away as soon as it was made", conf.Bridge)
	}
	return br, err
}

// skipDAD keeps a bridge that is still down from probing for its IPv6 addresses, link-local ones too:
// while those are tentative, the node asks for no neighbour, and the first pod gets nothing for 2 s.
func skipDAD(name string, conf bridgeConf) error {
	if conf.EnableDAD {
		return nil
	}
	return setOptional("net/ipv6/conf/"+name+"/accept_dad", "0")
}

// enableIPv6 lets a device that is to have an IPv6 address have one, as the reference plugins do, also where new devices have none.
// A write that changes nothing would take the kernel's lock of all devices.
func enableIPv6(name string) error {
	name = "net/ipv6/conf/" + name + "/disable_ipv6"
	if have, err := sysctl.Get(name); err == nil && have == "0" {
		return nil
	}
	return setOptional(name, "0")
}

// fitMTU lowers the bridge's MTU at once, and raises it only while no pod with the smaller one is
// attached: the bridge drops what is larger than a port takes.
func fitMTU(s *nl.Socket, br nl.Device, mtu int) error {
	if mtu > br.MTU {
		ports, err := s.Ports(br.Index)
		if err != nil || len(ports) > 0 {
			return err
		}
	}
	return s.Do(nl.SetMTU(br.Index, br.Name, mtu))
}

// ensureGateway gives the bridge an address. Another that it carries is replaced, but not under the feet of running pods: on our own
// bridge the gateway of a subnet that the node had before then stays beside the new one, see dropStale; on others' the pod has to wait.
func ensureGateway(s *nl.Socket, br *nl.Device, conf bridgeConf, gw netip.Prefix) error {
	v6 := gw.Addr().Is6()
	have, err := s.Addrs(br.Index, v6)
	if err != nil {
		return err
	}
	var stale []netip.Prefix
	for _, a := range have {
		if a.Prefix == gw {
			return nil
		}
		if !v6 || a.Prefix.Overlaps(gw) { // several IPv6 addresses are common
			stale = append(stale, a.Prefix)
		}
	}
	if len(stale) > 0 && !conf.ForceAddress {
		ports, err := s.Ports(br.Index)
		if err != nil {
			return err
		}
		switch {
		case len(ports) == 0:
		case br.Alias == nl.Mark:
			stale = nil
		default:
			return exit.WithHint(
				exit.Errorf(exit.TryAgain, "bridge %q has the address %s, and %d pods use it; this node's subnet now wants %s", br.Name, stale[0], len(ports), gw),
				"drain the node, so that the pods of the old subnet end; or set delegate.forceAddress")
		}
	}
	var changes []nl.Change
	for _, p := range stale {
		changes = append(changes, dropAddr(*br, p))
	}
	if v6 {
		if err := enableIPv6(br.Name); err != nil {
			return err
		}
	}
	changes = append(changes, nl.AddrChange{Verb: nl.Replace, Prefix: gw, Link: br.Index, Dev: br.Name})
	if mac, err := nl.ParseMAC(br.MAC); err == nil {
		changes = append(changes, nl.SetMAC(br.Index, br.Name, mac)) // pinned, also that of a bridge found
	}
	return s.Do(changes...)
}

// forward lets the kernel pass packets on between devices. masq-sync sets this too; a plugin used
// without it needs it all the same.
func forward(s *nl.Socket, families []state.Family) error {
	for _, f := range families {
		name := "net/ipv4/ip_forward"
		if f == state.IPv6 {
			name = "net/ipv6/conf/all/forwarding"
		}
		if have, err := sysctl.Get(name); err != nil || have != "0" {
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		if f == state.IPv6 {
			if err := keepLearned(s); err != nil {
				return err
			}
		}
		if err := sysctl.Set(name, "1"); err != nil {
			return err
		}
	}
	return nil
}

// keepLearned has the devices listen to router advertisements on whose default routes came so: the kernel drops those when it
// starts to forward, unless told otherwise.
func keepLearned(s *nl.Socket) error {
	learned := map[int]bool{}
	if err := s.Routes(unix.RTPROT_RA, func(r nl.Route) { learned[r.Link] = learned[r.Link] || r.Dst.Bits() == 0 && r.Dst.Addr().Is6() }); err != nil {
		return err
	}
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	links, err := conn.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := "net/ipv6/conf/" + l.Name + "/accept_ra"
		if have, err := sysctl.Get(name); learned[l.Index] && err == nil && have == "1" {
			if err := setOptional(name, "2"); err != nil {
				return err
			}
		}
	}
	return nil
}

// setOptional sets a parameter that is missing where the kernel has no IPv6, and that a container's
// read-only /proc/sys may refuse: nothing fails for its sake.
func setOptional(name, value string) error {
	err := sysctl.Set(name, value)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || isReadOnly(err) {
		return nil
	}
	return err
}

// macOf derives a MAC from an address, with the prefix 0a:58 that CNI plugins have used for this.
// Whoever still knows the neighbour of an address that is given to a new pod, knows it right.
func macOf(a netip.Addr) nl.MAC {
	b := a.AsSlice()
	b = b[len(b)-4:]
	return nl.MAC{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// aliasOf is the alias of a pod's host end; GC knows the network's own by it.
func aliasOf(network string, h holder) string {
	return fmt.Sprintf("%s %s %s %s", nl.Mark, network, h.Container, h.Interface)
}
