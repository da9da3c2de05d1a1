package main

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
)

// observed is what the kernel holds.
type observed struct {
	setup.Kernel
	IPIPs map[string]nl.IPIP // the devices that are IPIP, by name
}

func (s *step) observe() (observed, error) {
	o := observed{IPIPs: map[string]nl.IPIP{}}
	devices, err := s.conn.IPIPs()
	if err != nil {
		return o, err
	}
	for _, d := range devices {
		o.IPIPs[d.Name] = d
	}
	o.Kernel, err = setup.Observe(s.conn)
	return o, err
}

// Down is tool.Step.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	ops := Diff(s.conn, nil, have)
	if s.takeOver {
		ops = append(ops, earlier(s.conn, have)...)
	}
	if s.handBack {
		ops = unmark(s.conn, have)
	}
	return append(ops, setup.Withdraw(s.run, backend)...), nil
}

// watched is what events are looked at for.
type watched struct {
	uplink  string
	indexes map[int]bool
}

func (s *step) remember(in state.BackendInput, have observed) {
	w := watched{uplink: in.Interface.Name, indexes: map[int]bool{}}
	for name, l := range have.Links {
		if name == w.uplink || name == deviceName || l.Alias == nl.Mark {
			w.indexes[l.Index] = true
		}
	}
	s.mu.Lock()
	s.watched = w
	s.mu.Unlock()
}

// Inputs is tool.Watched.
func (s *step) Inputs() []string { return []string{s.run.Backend(backend), s.run.Link()} }

// Events is tool.Watched.
func (s *step) Events(ctx context.Context) (<-chan string, error) {
	return nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, func(e nl.Event) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch w := s.watched; {
		case e.What == nl.LinkEvent && (e.Link.Name == w.uplink || e.Link.Name == deviceName || w.indexes[e.Link.Index]),
			e.What == nl.AddrEvent && w.indexes[e.Addr.Link]:
			return fmt.Sprint(e)
		}
		return ""
	})
}
