package main

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
)

type publicKey = wgtypes.Key

// Watch is tool.Watcher. One peer's file that changes costs one read and one setting; any other news is answered by a look
// at everything.
func (s *step) Watch(ctx context.Context, ready func()) error {
	run := s.env.RunDir
	changes, err := watch.New(ctx, watch.Options{
		Files: append([]string{run.Backend(backend), run.Link(), s.key.path}, keep.Supervisor()...), Dirs: []string{run.Peers()}, Period: tool.Period,
	})
	if err != nil {
		return err
	}
	events, err := nl.Hints(ctx, nl.WatchLinks|nl.WatchAddrs, s.concerns)
	if err != nil {
		return err
	}
	var retry tool.Backoff
	stands, reason := false, "start"
	var nodes []string // whose files alone changed; none: look at everything
	for {
		err := s.pass(ctx, nodes, reason)
		s.serve()
		heard := events
		var clock, calm <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
			s.tidy()
			if !stands {
				stands = true
				ready()
			}
			clock = s.tell()
		case !stands && exit.Of(err).AwaitsChange():
			return err
		default:
			delay := retry.Next()
			clock = time.After(delay)
			heard, calm = nil, keep.Calm(delay)
			s.env.Log.Log(ctx, keep.Level(err), "cannot apply", "err", err, "retry", delay.Round(time.Millisecond))
			s.env.Status(state.Failing+"%v", err)
		}
		nodes = nil
		for waiting := true; waiting; {
			waiting = false
			select {
			case <-ctx.Done():
				return nil
			case c := <-changes:
				reason = c.String()
				if err == nil {
					nodes = s.peersAlone(c)
				}
			case reason = <-heard:
			case reason = <-s.dead:
			case <-clock:
				reason = "clock"
			case <-calm:
				heard, calm, waiting = events, nil, true
			}
		}
	}
}

// peersAlone are the nodes whose files are all that changed; nil: something else did.
func (s *step) peersAlone(c watch.Change) []string {
	var nodes []string
	for path := range c.Paths {
		node, ok := state.NodeOfPeer(path)
		if !ok || path != s.env.RunDir.Peer(node) {
			return nil
		}
		nodes = append(nodes, node)
	}
	if c.All {
		return nil
	}
	return nodes
}

func (s *step) pass(ctx context.Context, nodes []string, reason string) error {
	done := func(op plan.Op) { s.env.Log.Info("changed", "op", op.String(), "reason", reason) }
	if len(nodes) == 0 {
		return tool.Settle(ctx, s.Plan, done)
	}
	for _, node := range nodes {
		s.files.read(node)
	}
	return plan.Do(ctx, s.peerOps(), done)
}

// tell says in one line how it is, logs what is new about peers that are left out or do not answer, and returns when to look
// again at those that may not.
func (s *step) tell() <-chan time.Time {
	leftOut := maps.Clone(s.leftOut)
	wait := s.silent.look(time.Now(), s.want, s.have, leftOut)
	for _, node := range slices.Sorted(maps.Keys(leftOut)) {
		if s.silent.told[node] != leftOut[node] {
			s.env.Log.Warn("peer without a tunnel", "node", node, "because", leftOut[node])
		}
	}
	for node := range s.silent.told {
		if leftOut[node] == "" {
			s.env.Log.Info("peer has its tunnel", "node", node)
		}
	}
	if !reflect.DeepEqual(s.silent.told, leftOut) {
		s.silent.told = leftOut
	}
	s.env.Status("%s", s.status(leftOut))
	if wait <= 0 {
		return nil
	}
	return time.After(wait)
}

// most is how many peers a line of status names.
const most = 3

func (s *step) status(leftOut map[string]string) string {
	nodes := map[string]bool{}
	for _, w := range s.want {
		for _, p := range w.Peers {
			nodes[p.Node] = true
		}
	}
	text := "ok: the kernel's WireGuard"
	if s.userspace {
		text = "ok: userspace WireGuard, in this process"
	}
	text += fmt.Sprintf(", %d peers", len(nodes))
	var parts []string
	for _, node := range slices.Sorted(maps.Keys(leftOut)) {
		if len(parts) == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(leftOut)-most))
			break
		}
		parts = append(parts, node+": "+leftOut[node])
	}
	if len(parts) > 0 {
		text += "; without a tunnel: " + strings.Join(parts, "; ")
	}
	return text
}
