package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// add attaches a container. Every step is undone when a later one fails; what a killed process leaves
// is found by its index file, made first and removed last.
func add(c *call) error {
	env, err := c.subnet()
	if err != nil {
		return err
	}
	if !c.conf.native() {
		return delegateAdd(c, env)
	}
	netns, err := c.enterable()
	if err != nil {
		return err
	}
	defer netns.Close() //nolint:errcheck // nothing is buffered
	a, err := newAddition(c, env, netns)
	if err != nil {
		return err
	}
	defer a.socket.Close() //nolint:errcheck // nothing is buffered
	defer a.attached.close()
	result, err := a.do()
	if err != nil {
		return errors.Join(err, a.undo())
	}
	return types.PrintResult(result, c.conf.CNIVersion)
}

// subnet is subnet.env, without which there is nothing to give.
func (c *call) subnet() (subnetEnv, error) {
	env, err := loadSubnetEnv(c.conf.SubnetFile)
	if errors.Is(err, fs.ErrNotExist) {
		return env, exit.WithHint(
			&exit.Error{Code: exit.TryAgain, Err: fmt.Errorf("%s is missing: subnet-lease and cni-bridge conf have not run on this node", c.conf.SubnetFile)},
			"see towpath status")
	}
	if err == nil {
		err = c.conf.fits(env)
	}
	return env, err
}

// enterable opens the pod's namespace, which must not be the node's.
func (c *call) enterable() (*nl.Netns, error) {
	netns, err := nl.OpenNetns(c.netns)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	}
	own, err := nl.OwnNetns()
	if err == nil {
		defer own.Close() //nolint:errcheck // nothing is buffered
		if own.Same(netns) {
			err = types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS %q is the node's own namespace", c.netns), "")
		}
	}
	if err != nil {
		netns.Close() //nolint:errcheck // nothing is buffered
		return nil, err
	}
	return netns, nil
}

// addition is an ADD under way.
type addition struct {
	*call
	env      subnetEnv
	sets     []spanSet
	asked    []netip.Addr
	netns    *nl.Netns
	socket   *nl.Socket
	store    *store
	attached *attachment
}

func newAddition(c *call, env subnetEnv, netns *nl.Netns) (*addition, error) {
	a := &addition{call: c, env: env, netns: netns}
	var err error
	if a.sets, err = spanSets(env, c.conf.ipam.Ranges); err != nil {
		return nil, err
	}
	if a.asked, err = askedAddrs(c.conf.podIPs, a.sets); err != nil {
		return nil, err
	}
	if a.store, err = c.open(); err != nil {
		return nil, err
	}
	if a.socket, err = nl.OpenSocket(); err != nil {
		return nil, err
	}
	if a.attached, err = a.store.attach(c.holder); err != nil {
		a.socket.Close() //nolint:errcheck // nothing is buffered
		return nil, err
	}
	return a, nil
}

func (a *addition) do() (*current.Result, error) {
	grants, err := a.attached.reserve(a.sets, a.asked, a.call.netns, a.dead)
	if err != nil {
		return nil, err
	}
	p := pod{
		holder: a.holder, network: a.conf.Name, conf: a.conf.bridge, netns: a.netns, mtu: a.mtu(), closed: a.conf.Policy,
		mac: macOf(grants[0].Addr), grants: grants, routes: a.routes(grants),
	}
	if a.conf.podMAC != "" {
		if p.mac, err = nl.ParseMAC(a.conf.podMAC); err != nil {
			return nil, err
		}
	}
	// Early, so that policy is rendered while the devices are made.
	if err := a.saveEndpoint(grants, p.mac); err != nil {
		return nil, err
	}
	var gateways []netip.Prefix
	var families []state.Family
	for _, g := range grants {
		gateways = append(gateways, netip.PrefixFrom(g.Span.Gateway, g.Address.Bits()))
		families = append(families, state.FamilyOf(g.Addr))
	}
	br, err := ensureBridge(a.socket, p.conf, p.mtu, gateways, a.env, state.Dir(a.conf.RunDir))
	if err != nil {
		return nil, err
	}
	hostMAC, err := p.plugIn(a.socket, br)
	if err != nil {
		return nil, err
	}
	connect := func() error { return nil }
	if a.conf.Policy {
		connect = func() error {
			if err := a.awaitPolicy(); err != nil {
				return err
			}
			return p.connect(a.socket)
		}
	}
	if err := p.furnish(connect); err != nil {
		return nil, err
	}
	for _, name := range []string{vethName(p.holder), br.Name} {
		if err := works(a.socket, name); err != nil {
			return nil, err
		}
	}
	if p.conf.gateway() {
		if err := forward(a.socket, families); err != nil {
			return nil, err
		}
	}
	return a.result(p, br, hostMAC)
}

// undo takes back what do has made. What cannot be taken back keeps its index file, for DEL or GC.
func (a *addition) undo() error {
	if err := unplug(a.socket, a.holder, ""); err != nil {
		return err
	}
	if _, err := state.Remove(a.endpointPath()); err != nil {
		return err
	}
	return a.attached.releaseAll()
}

func (a *addition) mtu() int {
	if a.conf.bridge.MTU != 0 {
		return a.conf.bridge.MTU
	}
	return a.env.MTU
}

// routes are the configured ones, the cluster's networks, and the default where the bridge is it.
func (a *addition) routes(grants []grant) []types.Route {
	routes := append([]types.Route{}, a.conf.ipam.Routes...)
	for _, n := range a.env.networks() {
		routes = append(routes, types.Route{Dst: netOf(n)})
	}
	if !a.conf.bridge.IsDefault {
		return routes
	}
	for _, g := range grants {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Addr.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if !hasGatewayTo(routes, all) {
			routes = append(routes, types.Route{Dst: netOf(all), GW: g.Span.Gateway.AsSlice()})
		}
	}
	return routes
}

func hasGatewayTo(routes []types.Route, dst netip.Prefix) bool {
	for _, r := range routes {
		if p, ok := prefixOfNet(r.Dst); ok && p == dst && r.GW != nil {
			return true
		}
	}
	return false
}

func (a *addition) result(p pod, br nl.Device, hostMAC nl.MAC) (*current.Result, error) {
	result := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: br.Name, Mac: br.MAC, Mtu: br.MTU},
			{Name: vethName(p.holder), Mac: hostMAC.String(), Mtu: p.mtu},
			{Name: p.Interface, Mac: p.mac.String(), Mtu: p.mtu, Sandbox: a.call.netns},
		},
		DNS: a.conf.DNS,
	}
	for _, g := range p.grants {
		n := netOf(g.Address)
		result.IPs = append(result.IPs, &current.IPConfig{Interface: current.Int(2), Address: n, Gateway: g.Span.Gateway.AsSlice()})
	}
	for _, r := range p.routes {
		result.Routes = append(result.Routes, r.Copy())
	}
	if a.conf.ipam.ResolvConf == "" || !a.conf.DNS.IsEmpty() {
		return result, nil
	}
	var err error
	result.DNS, err = loadResolvConf(a.conf.ipam.ResolvConf)
	return result, err
}

// netOf keeps the host bits, as results have them.
func netOf(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOfNet(n net.IPNet) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	if ip = ip.Unmap(); ip.BitLen() != bits {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(ip, ones), true
}
