package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

// observed is what the kernel holds, and what this program said last.
type observed struct {
	Links   map[string]nl.Link  // every device, by name
	VXLANs  map[string]nl.VXLAN // those that are VXLAN
	Addrs   map[int][]nl.Addr   // by index of the device
	IPv6    bool                // the kernel has IPv6, so that devices have accept_ra
	RAs     map[string]bool     // VXLAN devices that take router advertisements
	Last    state.Link          // link.json, if it can be read
	HasLast bool
}

func (s *step) observe() (observed, error) {
	o := observed{Links: map[string]nl.Link{}, VXLANs: map[string]nl.VXLAN{}, Addrs: map[int][]nl.Addr{}, RAs: map[string]bool{}}
	links, err := s.conn.Links()
	if err != nil {
		return o, err
	}
	for _, l := range links {
		o.Links[l.Name] = l
	}
	devices, err := s.conn.VXLANs()
	if err != nil {
		return o, err
	}
	addrs, err := s.conn.Addrs(0)
	if err != nil {
		return o, err
	}
	for _, a := range addrs {
		o.Addrs[a.Link] = append(o.Addrs[a.Link], a)
	}
	if _, err := sysctl.Get("net/ipv6/conf/all/accept_ra"); err == nil {
		o.IPv6 = true
	}
	for _, d := range devices {
		o.VXLANs[d.Name] = d
		ra, err := sysctl.Get(acceptRA(d.Name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return o, err
		}
		o.RAs[d.Name] = err == nil && ra != "0"
	}
	// It is this program's own output: a broken one is written anew, not mourned.
	if last, err := state.Load[state.Link](s.run.Link()); err == nil {
		o.Last, o.HasLast = last, true
	}
	return o, nil
}

func acceptRA(device string) string { return filepath.Join("net/ipv6/conf", device, "accept_ra") }

func inputError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return exit.WithHint(err, "subnet-lease writes it while the backend is vxlan; --run-dir says where")
	}
	return err
}

// publish appends the write of link.json. It happens only when every device has the MAC address that
// the file names: systemd's MACAddressPolicy, for one, changes it after the device appeared.
func (s *step) publish(ops []plan.Op, want []device, link state.Link) ([]plan.Op, error) {
	op, err := state.WriteOp(s.run.Link(), link)
	if err != nil || op == nil {
		return ops, err
	}
	return append(ops, plan.Func{Text: op.String(), Run: func(ctx context.Context) error {
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

// Down is tool.Step: every device with our mark, and link.json where it is a VXLAN one.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	ops := Diff(s.conn, nil, have)
	if have.HasLast && have.Last.Publish.Type != backend {
		return ops, nil // another backend's by now
	}
	if op := state.RemoveOp(s.run.Link()); op != nil {
		ops = append(ops, op)
	}
	return ops, nil
}

// watched is what the last pass looked at.
type watched struct {
	names   map[string]bool
	indexes map[int]bool
	addrs   map[string]bool
}

func (s *step) remember(input state.BackendInput, want []device, have observed) {
	w := watched{names: map[string]bool{input.Interface.Name: true}, indexes: map[int]bool{}, addrs: map[string]bool{}}
	for _, d := range want {
		w.names[d.Name] = true
	}
	for _, f := range state.Families {
		w.addrs[input.PublicIP.Of(f).String()] = true
	}
	for name, l := range have.Links {
		if w.names[name] || l.Alias == mark {
			w.indexes[l.Index] = true
		}
	}
	s.mu.Lock()
	s.watched = w
	s.mu.Unlock()
}

// Inputs is tool.Watched.
func (s *step) Inputs() []string { return []string{s.run.Backend(backend), s.run.Link()} }

// Events is tool.Watched: whatever happens to our devices, to the one below, and to the addresses they
// count on.
func (s *step) Events(ctx context.Context) (<-chan string, error) {
	return nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, func(e nl.Event) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case e.What == nl.LinkEvent && (s.watched.names[e.Link.Name] || s.watched.indexes[e.Link.Index] || e.Link.Alias == mark),
			e.What == nl.AddrEvent && (s.watched.indexes[e.Addr.Link] || s.watched.addrs[e.Addr.Prefix.Addr().String()]):
			return fmt.Sprint(e)
		}
		return ""
	})
}
