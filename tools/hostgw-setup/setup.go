package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

const backend = "host-gw"

// decide reads the input, looks at the interface and says what link.json has to hold.
func (s *step) decide() (state.Link, error) {
	path := s.run.Backend(backend)
	in, err := state.Load[state.BackendInput](path)
	if errors.Is(err, fs.ErrNotExist) {
		return state.Link{}, exit.WithHint(err, "subnet-lease writes it while the backend is host-gw; --run-dir says where")
	}
	if err != nil {
		return state.Link{}, err
	}
	uplink, ok, err := s.conn.Link(in.Interface.Name)
	if err != nil {
		return state.Link{}, err
	}
	var addrs []nl.Addr
	if ok {
		if addrs, err = s.conn.Addrs(uplink.Index); err != nil {
			return state.Link{}, err
		}
	}
	s.mu.Lock()
	s.uplink, s.index = in.Interface.Name, uplink.Index
	s.mu.Unlock()
	return linkOf(path, in, uplink, ok, addrs)
}

// linkOf is pure: what the interface is like decides.
func linkOf(path string, in state.BackendInput, uplink nl.Link, exists bool, addrs []nl.Addr) (state.Link, error) {
	name := in.Interface.Name
	switch {
	case in.Backend.Type != backend:
		return state.Link{}, &state.Error{Path: path, Key: "backend.type", Err: errors.New("not " + backend)}
	case !exists:
		return state.Link{}, exit.WithHint(exit.Errorf(exit.TryAgain, "interface %q: no such device", name),
			"subnet-lease chose it: --iface there names another")
	case !uplink.Up:
		return state.Link{}, exit.WithHint(exit.Errorf(exit.TryAgain, "interface %q: it is down", name), "ip link set dev %s up", name)
	}
	link := state.Link{
		Version: state.Version, Uplink: name, MTU: uplink.MTU,
		Publish: state.Published{Type: backend},
	}
	for _, f := range state.Families {
		if !in.Subnet.Has(f) {
			continue
		}
		public := in.PublicIP.Of(f)
		if !public.IsValid() {
			return state.Link{}, &state.Error{Path: path, Key: "publicIP." + string(f), Err: errors.New("missing, but the subnet has such a part")}
		}
		if !own(addrs, public) {
			return state.Link{}, exit.WithHint(exit.Errorf(exit.BadConfig, "public address %s: %q does not have it", public, name),
				"host-gw routes straight to it: give --public-ip an address of that interface, choose another with --iface, or use vxlan across NAT")
		}
		link.Device.Set(f, state.Device{Name: name, MTU: uplink.MTU})
		if f == state.IPv6 {
			link.Publish.DataV6 = json.RawMessage("null")
		} else {
			link.Publish.Data = json.RawMessage("null")
		}
	}
	return link, nil
}

// Down is tool.Step: only link.json is ours, and only while it is of this backend.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	if last, err := state.Load[state.Link](s.run.Link()); err == nil && last.Publish.Type != backend {
		return nil, nil
	}
	if op := state.RemoveOp(s.run.Link()); op != nil {
		return []plan.Op{op}, nil
	}
	return nil, nil
}

// Inputs is tool.Watched.
func (s *step) Inputs() []string { return []string{s.run.Backend(backend), s.run.Link()} }

// Events is tool.Watched.
func (s *step) Events(ctx context.Context) (<-chan string, error) {
	return nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, func(e nl.Event) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.What == nl.LinkEvent && e.Link.Name == s.uplink || e.What == nl.AddrEvent && e.Addr.Link == s.index {
			return e.String()
		}
		return ""
	})
}

func own(addrs []nl.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(have nl.Addr) bool { return have.Prefix.Addr() == a })
}
