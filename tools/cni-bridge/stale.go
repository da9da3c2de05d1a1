package main

import (
	"context"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// left says whether an address of our bridge is the gateway of a subnet that the node no longer has:
// its connected route would hide the peer that has that subnet now. What somebody else may have put
// there is not taken for one: a gateway is in the cluster's networks, or the first of its subnet.
func (e subnetEnv) left(p netip.Prefix) bool {
	subnet := e.Subnet.Of(state.FamilyOf(p.Addr()))
	if subnet.IsValid() && subnet.Bits() <= p.Bits() && subnet.Contains(p.Addr()) {
		return false
	}
	for _, n := range e.networks() {
		if n.Contains(p.Addr()) {
			return true
		}
	}
	return p.Masked().Addr().Next() == p.Addr()
}

// staleGateways are the addresses to take from our bridge, each with whether a pod may be using it.
func staleGateways(s *nl.Socket, br nl.Device, env subnetEnv, dir state.Dir) (stale map[netip.Prefix]bool, err error) {
	if br.Kind != "bridge" || br.Alias != nl.Mark {
		return nil, nil
	}
	stale = map[netip.Prefix]bool{}
	for _, v6 := range []bool{false, true} {
		have, err := s.Addrs(br.Index, v6)
		if err != nil {
			return nil, err
		}
		for _, a := range have {
			if env.left(a.Prefix) {
				stale[a.Prefix] = false
			}
		}
	}
	if len(stale) == 0 {
		return nil, nil
	}
	ports, err := s.Ports(br.Index)
	if err != nil || len(ports) == 0 {
		return stale, err
	}
	pods, err := attached(dir)
	for p := range stale {
		stale[p] = slices.ContainsFunc(ports, func(port nl.Device) bool { return pods.uses(port.Name, p, env) })
	}
	return stale, err
}

// attachedPods are the pods' addresses by the host's end.
type attachedPods map[string]state.Pair[netip.Addr]

func attached(dir state.Dir) (attachedPods, error) {
	names, err := readNames(dir.Endpoints())
	pods := attachedPods{}
	for _, name := range names {
		if e, err := state.Load[state.Endpoint](filepath.Join(dir.Endpoints(), name)); err == nil {
			pods[e.HostVeth] = e.IP
		}
	}
	return pods, err
}

// uses says whether what is behind a port may need a gateway that is not of the node's subnet. Nobody knows of what has no endpoint.
func (a attachedPods) uses(port string, gateway netip.Prefix, env subnetEnv) bool {
	f := state.FamilyOf(gateway.Addr())
	ips, known := a[port]
	ip := ips.Of(f)
	return !known || ip.IsValid() && gateway.Contains(ip) && !env.Subnet.Of(f).Contains(ip)
}

func dropAddr(br nl.Device, p netip.Prefix) nl.AddrChange {
	return nl.AddrChange{Verb: nl.Delete, Prefix: p, Link: br.Index, Dev: br.Name}
}

// dropStale takes from our bridge the gateways of a subnet, or a family, that the node no longer has,
// once no pod that may use them is attached.
func dropStale(s *nl.Socket, br nl.Device, env subnetEnv, dir state.Dir) error {
	stale, err := staleGateways(s, br, env, dir)
	if err != nil {
		return err
	}
	var changes []nl.Change
	for p, used := range stale {
		if !used {
			changes = append(changes, dropAddr(br, p))
		}
	}
	return s.Do(changes...)
}

// staleOps are the same as operations of conf: no ADD may come for long.
func (c *conf) staleOps(env subnetEnv) ([]plan.Op, error) {
	s, err := nl.OpenSocket()
	if err != nil {
		return nil, err
	}
	defer s.Close() //nolint:errcheck // nothing is buffered
	br, ok, err := s.Device(bridgeOf(c.cniConf))
	if err != nil || !ok {
		return nil, err
	}
	stale, err := staleGateways(s, br, env, c.dir)
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	for _, p := range slices.SortedFunc(maps.Keys(stale), netip.Prefix.Compare) {
		switch {
		case !stale[p]:
			ops = append(ops, plan.Func{Text: dropAddr(br, p).String(), Run: func(context.Context) error { return c.dropUnused(br, p, env) }})
		case c.fresh(br.Name + " " + p.String()):
			c.log.Warn("the bridge keeps an address of a subnet that this node no longer has: pods of that are attached; remake them",
				"dev", br.Name, "address", p)
		}
	}
	return ops, nil
}

// dropUnused looks at the pods again: one may have come since the plan. It then stays, and so does
// the address.
func (c *conf) dropUnused(br nl.Device, p netip.Prefix, env subnetEnv) error {
	s, err := nl.OpenSocket()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing is buffered
	stale, err := staleGateways(s, br, env, c.dir)
	if used, there := stale[p]; err != nil || used || !there {
		return err
	}
	return s.Do(dropAddr(br, p))
}
