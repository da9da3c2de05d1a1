package main

import (
	"context"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
)

// watched is what the last pass looked at.
type watched struct {
	uplink string
	index  int // of the device
	public string
}

func (s *step) remember(in state.BackendInput, have setup.Kernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = watched{in.Interface.Name, have.Links[deviceName].Index, in.PublicIP.IPv4.String()}
}

// events tells whatever happens to our device, to the one below, and to the addresses they count on.
func (s *step) events(ctx context.Context) (<-chan string, error) {
	return nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, func(e nl.Event) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		w := s.watched
		switch {
		case e.What == nl.LinkEvent && (e.Link.Name == deviceName || e.Link.Name == w.uplink || e.Link.Index == w.index),
			e.What == nl.AddrEvent && (e.Addr.Link == w.index || e.Addr.Prefix.Addr().String() == w.public):
			return e.String()
		}
		return ""
	})
}
