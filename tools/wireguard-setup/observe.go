package main

import (
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

// observed is what the kernel and the WireGuard devices hold, and what this program said last.
type observed struct {
	setup.Kernel
	IPv6    bool                 // devices have accept_ra, which can be set
	RAs     map[string]bool      // devices of ours that take router advertisements and could be kept from it
	NoIPv6  map[string]bool      // devices of ours that have IPv6 switched off and could have it, and sysctl.Anew
	Devices map[string]wireguard // those that answer
	Last    state.Link           // link.json, if it can be read
	HasLast bool
}

func (s *step) observe() (observed, error) {
	o := observed{RAs: map[string]bool{}, NoIPv6: map[string]bool{}, Devices: map[string]wireguard{}}
	var err error
	if o.Kernel, err = setup.Observe(s.conn); err != nil {
		return o, err
	}
	if _, err := sysctl.Get(sysctl.AcceptRA("all")); err == nil {
		o.IPv6 = !sysctl.ReadOnly(sysctl.AcceptRA("all"))
	}
	if o.NoIPv6[sysctl.Anew], err = sysctl.Not0(sysctl.DisableIPv6(sysctl.Anew)); err != nil {
		return o, err
	}
	for _, name := range []string{deviceName, deviceNameV6} {
		if _, ok := o.Links[name]; !ok {
			continue // what answers to the name is in another network namespace
		}
		if o.RAs[name], err = sysctl.Not0(sysctl.AcceptRA(name)); err != nil {
			return o, err
		}
		if o.NoIPv6[name], err = sysctl.Not0(sysctl.DisableIPv6(name)); err != nil {
			return o, err
		}
		if c := s.carriers[name]; c != nil && !c.alive() {
			continue
		}
		w, ok, err := s.control.device(name)
		if err != nil {
			return o, err
		}
		if !ok {
			continue
		}
		for key, h := range w.Peers {
			h.Asked = s.have.Devices[name].Peers[key].Asked
			w.Peers[key] = h
		}
		o.Devices[name] = w
	}
	// It is this program's own output: a broken one is written anew, not mourned.
	if last, err := state.Load[state.Link](s.env.RunDir.Link()); err == nil {
		o.Last, o.HasLast = last, true
	}
	return o, nil
}
