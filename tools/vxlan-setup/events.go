package main

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

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
		if w.names[name] || l.Alias == nl.Mark {
			w.indexes[l.Index] = true
		}
	}
	s.mu.Lock()
	s.watched = w
	s.mu.Unlock()
}

// Inputs is tool.Watched.
func (s *step) Inputs() []string {
	return []string{s.run.Backend(backend), s.run.Link(), s.run.Checksum()}
}

// Events is tool.Watched: whatever happens to our devices, to the one below, and to the addresses they
// count on; and what the prober finds, which works from here on where it is asked to.
func (s *step) Events(ctx context.Context) (<-chan string, error) {
	hints, err := nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, func(e nl.Event) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case e.What == nl.LinkEvent && (s.watched.names[e.Link.Name] || s.watched.indexes[e.Link.Index] || e.Link.Alias == nl.Mark),
			e.What == nl.AddrEvent && (s.watched.indexes[e.Addr.Link] || s.watched.addrs[e.Addr.Prefix.Addr().String()]):
			return fmt.Sprint(e)
		}
		return ""
	})
	if err != nil || s.mode != auto {
		return hints, err
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.probing.Go(func() { s.prober.watch(ctx) })
	events := make(chan string)
	s.probing.Go(func() {
		for {
			var hint string
			select {
			case <-ctx.Done():
				return
			case hint = <-hints:
			case hint = <-s.prober.hints:
			}
			select {
			case <-ctx.Done():
				return
			case events <- hint:
			}
		}
	})
	return events, nil
}

// Status is tool.Stater.
func (s *step) Status() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "ok" + s.remark
}
