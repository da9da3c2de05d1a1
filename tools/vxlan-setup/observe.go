package main

import (
	"context"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

// observed is what the kernel holds, and what this program said last.
type observed struct {
	setup.Kernel
	VXLANs  map[string]nl.VXLAN // the devices that are VXLAN, by name
	IPv6    bool                // the kernel has IPv6, so that devices have accept_ra, which can be set
	RAs     map[string]bool     // VXLAN devices that take router advertisements and could be kept from it
	NoIPv6  map[string]bool     // VXLAN devices that have IPv6 switched off and could have it, and sysctl.Anew
	Last    state.Link          // link.json, if it can be read
	HasLast bool

	Offloads map[string]offload // of VXLAN devices: on or off; not there where the kernel does not say
	Found    state.Checksum     // checksum.json, if it can be read
}

func (s *step) observe() (observed, error) {
	o := observed{VXLANs: map[string]nl.VXLAN{}, RAs: map[string]bool{}, NoIPv6: map[string]bool{}, Offloads: map[string]offload{}}
	devices, err := s.conn.VXLANs()
	if err != nil {
		return o, err
	}
	if o.Kernel, err = setup.Observe(s.conn); err != nil {
		return o, err
	}
	// Where the parameters are read-only nothing can be done about them, and pods matter more: see Open's warning.
	if _, err := sysctl.Get(sysctl.AcceptRA("all")); err == nil {
		o.IPv6 = !sysctl.ReadOnly(sysctl.AcceptRA("all"))
	}
	if o.NoIPv6[sysctl.Anew], err = sysctl.Not0(sysctl.DisableIPv6(sysctl.Anew)); err != nil {
		return o, err
	}
	for _, d := range devices {
		o.VXLANs[d.Name] = d
		if o.RAs[d.Name], err = sysctl.Not0(sysctl.AcceptRA(d.Name)); err != nil {
			return o, err
		}
		if o.NoIPv6[d.Name], err = sysctl.Not0(sysctl.DisableIPv6(d.Name)); err != nil {
			return o, err
		}
		if is, err := nl.TxChecksum(d.Name); err == nil { // what keeps it from being set is said then
			o.Offloads[d.Name] = map[bool]offload{true: on, false: off}[is]
		}
	}
	// It is this program's own output: a broken one is written anew, not mourned.
	if last, err := state.Load[state.Link](s.run.Link()); err == nil {
		o.Last, o.HasLast = last, true
	}
	if found, err := state.Load[state.Checksum](s.run.Checksum()); err == nil {
		o.Found = found
	}
	return o, nil
}

// publish appends the write of link.json. It happens only when every device has the MAC address that
// the file names: systemd's MACAddressPolicy, for one, changes it after the device appeared.
func (s *step) publish(ops []plan.Op, want []device, link state.Link) ([]plan.Op, error) {
	op, err := state.WriteOp(s.run.Link(), link)
	if err != nil || op == nil {
		return ops, err
	}
	return append(ops, plan.Func{Text: op.String(), File: s.run.Link(), Write: op.Do, Run: func(ctx context.Context) error {
		for _, w := range want {
			have, ok, err := s.conn.Link(w.Name)
			if err != nil {
				return err
			}
			if !ok || have.MAC != w.MAC {
				return exit.Errorf(exit.TryAgain, "device %q has address %q, not %q", w.Name, have.MAC, w.MAC)
			}
		}
		return op.Do(ctx)
	}}), nil
}

// Down is tool.Step: every device with our mark, and link.json where it is a VXLAN one. A device that is handed back
// stays as it is, less the mark: without it no program of ours touches it, nor what leads over it.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	ops := remove(s.conn, have)
	if s.takeOver {
		ops = append(ops, earlier(s.conn, have)...)
	}
	if s.handBack {
		ops = unmark(s.conn, have)
	}
	if op := state.RemoveOp(s.run.Checksum()); op != nil {
		ops = append(ops, op)
	}
	return append(ops, setup.Withdraw(s.run, backend)...), nil
}
