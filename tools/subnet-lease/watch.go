package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
)

// gcPercent lets the heap grow by less than Go's 100 before it is collected: a program on every node is to be small, and
// what the API server sends is many times what is kept of it.
const gcPercent = 35

// Watch keeps everything current. A change of another node's record costs one read and one write; any
// other news is answered by a full pass, which reads only what is new.
func (s *step) Watch(ctx context.Context, ready func()) error {
	s.following = true
	if s.served != nil && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// Every subscription stands before the first pass, so that nothing falls between.
	hints, err := s.store.Watch(ctx)
	if err != nil {
		return err
	}
	var conf <-chan Hint
	if s.confMap != nil {
		conf = s.confMap.Watch(ctx)
	}
	files, err := watch.New(ctx, watch.Options{Files: s.watched(), Period: tool.Period})
	if err != nil {
		return err
	}
	kernel, err := nl.UplinkHints(ctx, func() string { name, _ := s.uplink.Load().(string); return name })
	if err != nil {
		return err
	}
	var retry tool.Backoff
	standing := false
	reason := "start"
	var nodes []string // what to look at; none: everything
	routes := false    // look at routes.json alone
	for {
		var err error
		if routes {
			err = s.settleCondition(ctx, reason)
		} else {
			err = s.pass(ctx, nodes, reason)
		}
		var clock <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
			clock = time.After(s.sleep(time.Now()))
			if !standing {
				standing = true
				ready()
			}
			s.env.Status("%s", s.status(time.Now()))
		case !standing && s.served == nil && exit.Of(err).AwaitsChange(): // with a server, the change may come from there
			return err
		default:
			delay := retry.Next()
			clock = time.After(delay)
			s.env.Log.Log(ctx, keep.Level(err), "cannot apply", "err", err, "hint", hintText(err), "retry", delay.Round(time.Millisecond))
			s.env.Status(state.Failing+"%v", err)
		}
		s.tellAway()
		failed := err != nil
		nodes, routes = nil, false
		select {
		case <-ctx.Done():
			return nil
		case c := <-files:
			reason = c.String()
			routes = !failed && !c.All && len(c.Paths) == 1 && c.Has(s.env.RunDir.Routes()) // each peer that joins writes it
		case reason = <-kernel:
		case <-clock:
			reason = "clock"
		case <-conf:
			reason = "configuration"
		case h := <-hints:
			reason = "store"
			if !h.All && !failed { // after a failure memory and files may differ
				nodes = h.Nodes
			}
		}
	}
}

// watched are the files whose change is a reason for a pass.
func (s *step) watched() []string {
	files := append(s.outputs(), s.env.RunDir.Link(), s.env.RunDir.PeersSynced())
	if !state.FromServer(s.netConf) {
		files = append(files, s.netConf)
	}
	if s.kube != nil && s.setUnavailable {
		files = append(files, s.env.RunDir.Routes())
	}
	return files
}

// pass looks at some nodes' records again, or at everything.
func (s *step) pass(ctx context.Context, nodes []string, reason string) error {
	done := s.done(reason)
	if len(nodes) > 0 {
		ops, whole, err := s.follow(ctx, nodes, time.Now())
		if err != nil {
			return err
		}
		if err := plan.Do(ctx, ops, done); err != nil || !whole {
			return err
		}
	}
	s.listing = nil
	return tool.Settle(ctx, s.Plan, done)
}

// done logs what was changed.
func (s *step) done(reason string) func(plan.Op) {
	return func(op plan.Op) { s.env.Log.Info("changed", "op", op.String(), "reason", reason) }
}

// follow reads the records of some nodes again. whole: this node's own was changed by somebody, so
// everything has to be looked at.
func (s *step) follow(ctx context.Context, nodes []string, now time.Time) (ops []plan.Op, whole bool, err error) {
	decided := map[string]bool{}
	for _, node := range nodes {
		e, err := s.store.Get(ctx, node)
		if err != nil {
			return ops, false, err
		}
		if node == s.node {
			// With the API, what people set of the node may have changed, which is no part of the record.
			whole = s.kube != nil || e.Record == nil || !e.Record.equal(&s.own) || !e.Record.Expires.Equal(s.own.Expires)
			continue
		}
		for _, touched := range s.peers.put(node, e) {
			decided[touched] = true
		}
	}
	for node := range decided {
		if ops, err = s.peerOp(ops, node, now); err != nil {
			return ops, whole, err
		}
	}
	s.warnOfTwins(ctx)
	return ops, whole, nil
}

// sleep is how long nothing expires and nothing has to be renewed.
func (s *step) sleep(now time.Time) time.Duration {
	next := s.peers.nextExpiry(now)
	if !s.own.Reserved() {
		if renew := s.own.Expires.Add(-s.margin); next.IsZero() || renew.Before(next) {
			next = renew
		}
	}
	if s.contest.waits(now) && (next.IsZero() || s.contest.until.Before(next)) {
		next = s.contest.until
	}
	if due := s.conditionDue(); !due.IsZero() && now.Before(due) && (next.IsZero() || due.Before(next)) {
		next = due
	}
	if next.IsZero() {
		return tool.Period
	}
	return max(next.Sub(now), time.Millisecond)
}
