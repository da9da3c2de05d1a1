package main

import (
	"context"

	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
)

// Watch is tool.Watcher: the common loop for the device, and beside it the peers, whose changes need no pass of it.
func (s *step) Watch(ctx context.Context, ready func()) error {
	inputs := append([]string{s.run.Backend(backend), s.run.Link()}, s.env.Supervisor()...)
	files, err := watch.New(ctx, watch.Options{Files: inputs, Dirs: []string{s.run.Peers()}, Period: tool.Period})
	if err != nil {
		return err
	}
	events, err := s.events(ctx)
	if err != nil {
		return err
	}
	s.tunnel = newTunnel(s.env, s.conn)
	peers := newPeerFiles(s.run, s.tunnel.table, s.env.Log)
	peers.take(watch.Change{All: true})
	go pace(ctx)
	reasons := make(chan string, 1)
	go func() {
		for {
			reason := ""
			select {
			case <-ctx.Done():
				return
			case c := <-files:
				peers.take(c)
				for _, path := range inputs {
					if c.Has(path) {
						reason = c.String()
					}
				}
			case reason = <-events:
			case reason = <-s.tunnel.broken:
			}
			if reason == "" {
				continue
			}
			select {
			case reasons <- reason:
			default: // one is waiting: the pass after it sees everything
			}
		}
	}()
	return keep.Loop(ctx, s.Plan, s.env.Log, ready, nil, reasons, s.tunnel.String)
}
