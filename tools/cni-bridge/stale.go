package main

import (
	"context"
	"net/netip"

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

// staleGateways are the addresses to take from our bridge, and how many pods may be using them.
func staleGateways(s *nl.Socket, br nl.Device, env subnetEnv) (stale []netip.Prefix, pods int, err error) {
	if br.Kind != "bridge" || br.Alias != mark {
		return nil, 0, nil
	}
	for _, v6 := range []bool{false, true} {
		have, err := s.Addrs(br.Index, v6)
		if err != nil {
			return nil, 0, err
		}
		for _, a := range have {
			if env.left(a.Prefix) {
				stale = append(stale, a.Prefix)
			}
		}
	}
	if len(stale) == 0 {
		return nil, 0, nil
	}
	ports, err := s.Ports(br.Index)
	return stale, len(ports), err
}

func dropAddr(br nl.Device, p netip.Prefix) nl.AddrChange {
	return nl.AddrChange{Verb: nl.Delete, Prefix: p, Link: br.Index, Dev: br.Name}
}

// dropStale takes from our bridge the gateways of a subnet, or a family, that the node no longer has,
// unless pods are attached, which may use them.
func dropStale(s *nl.Socket, br nl.Device, env subnetEnv) error {
	stale, pods, err := staleGateways(s, br, env)
	if err != nil || pods > 0 || len(stale) == 0 {
		return err
	}
	var changes []nl.Change
	for _, p := range stale {
		changes = append(changes, dropAddr(br, p))
	}
	return s.Do(changes...)
}

// staleOps are the same as operations of conf: the bridge may be idle for long, and no ADD comes.
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
	stale, pods, err := staleGateways(s, br, env)
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	for _, p := range stale {
		switch {
		case pods == 0:
			ops = append(ops, plan.Func{Text: dropAddr(br, p).String(), Run: func(context.Context) error { return dropIdle(br, p) }})
		case c.fresh(br.Name + " " + p.String()):
			c.log.Warn("the bridge keeps an address of a subnet that this node no longer has: pods are attached; drain the node",
				"dev", br.Name, "address", p, "pods", pods)
		}
	}
	return ops, nil
}

// dropIdle looks at the ports again: a pod may have come since the plan. It then stays, and so does
// the address.
func dropIdle(br nl.Device, p netip.Prefix) error {
	s, err := nl.OpenSocket()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing is buffered
	ports, err := s.Ports(br.Index)
	if err != nil || len(ports) > 0 {
		return err
	}
	return s.Do(dropAddr(br, p))
}
