package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
)

// watcher is the watch verb: each peer's commands run by themselves, so that one that fails or hangs delays no other.
type watcher struct {
	*step
	ready func() // nil once called
	head  head
	peers *peers
	have  map[string]*state.ExtensionPeer
	stood bool // the start-up commands have run, and head is good

	again   tool.Backoff // of what concerns this node itself
	due     time.Time    // of the next look at everything; zero: none is due
	pending map[string]bool
	busy    map[string]bool // whether its last try failed
	failed  map[string]*failure
	results chan result
	told    map[string]string // node: why it is left out
}

// failure is a peer whose commands fail. It waits by itself.
type failure struct {
	backoff tool.Backoff
	due     time.Time
	removal int // how often it could not be taken back
	err     error
}

// result is a peer's commands that have ended.
type result struct {
	op  *peerOp
	err error
}

// maxRemovals is how often it is tried to take back what was run for a peer that has gone.
const maxRemovals = 3

func (s *step) follow(ctx context.Context, ready func()) error {
	w := &watcher{
		step: s, ready: ready, peers: newPeers(s.run), pending: map[string]bool{}, busy: map[string]bool{}, failed: map[string]*failure{},
		results: make(chan result), told: map[string]string{},
	}
	changes, err := watch.New(ctx, watch.Options{
		Files: append(s.uplink.Inputs(), s.run.Lease()), Dirs: []string{s.run.Peers()}, Period: tool.Period,
	})
	if err != nil {
		return err
	}
	events, err := s.uplink.Events(ctx)
	if err != nil {
		return err
	}
	w.due = time.Now()
	for ctx.Err() == nil {
		if err := w.look(ctx); err != nil {
			return err
		}
		w.start(ctx)
		w.say()
		timer := time.NewTimer(time.Until(w.next()))
		select {
		case <-ctx.Done():
		case c := <-changes:
			w.read(c)
		case <-events:
			w.due = time.Now()
		case r := <-w.results:
			w.ended(r)
		case <-timer.C:
		}
		timer.Stop()
	}
	for len(w.busy) > 0 { // each ends within its grace
		w.ended(<-w.results)
	}
	return nil
}

// read takes in the files that changed.
func (w *watcher) read(c watch.Change) {
	if c.All || c.Has(w.run.Lease()) || c.Has(w.run.Link()) || c.Has(w.run.Backend(backend)) || c.Has(w.run.Peers()) || c.Has(w.run.PeersSynced()) {
		w.due = time.Now()
		return
	}
	w.peers.readSynced()
	for path := range c.Paths {
		if node, ok := state.NodeOfPeer(path); ok && path == w.run.Peer(node) {
			w.peers.read(node)
			w.pending[node] = true
			delete(w.failed, node)
		}
	}
}

// look reads everything when it is due, runs the start-up commands where they are to be run, and writes link.json. Only what
// cannot get better by itself ends the program, and only at its start.
func (w *watcher) look(ctx context.Context) error {
	if w.due.IsZero() || time.Now().Before(w.due) {
		return nil
	}
	err := w.everything(ctx)
	if errors.Is(err, errBusy) {
		w.due = time.Time{} // a result comes first
		return nil
	}
	w.due = time.Time{}
	if err == nil {
		w.again.Reset()
		return nil
	}
	if ctx.Err() != nil {
		return nil
	}
	if w.ready != nil && exit.Of(err).AwaitsChange() {
		return err
	}
	delay := w.again.Next()
	w.due = time.Now().Add(delay)
	if w.ready == nil || !errors.Is(err, fs.ErrNotExist) {
		w.env.Log.Log(ctx, keep.Level(err), "cannot apply", "err", err, "retry", delay.Round(time.Millisecond))
	}
	w.env.Status(state.Failing+"%v", err)
	return nil
}

// errBusy: commands for peers still run, and they are not to be run over.
var errBusy = errors.New("commands are running")

func (w *watcher) everything(ctx context.Context) error {
	h, err := w.readHead()
	if err != nil {
		return err
	}
	var r records
	if w.have == nil {
		if r, err = w.readRecords(); err != nil {
			return err
		}
	} else {
		startup, err := state.Load[state.ExtensionStartup](w.run.ExtensionStartup())
		if r.peers = w.have; err == nil && w.here(startup) {
			r.startup = &startup
		}
	}
	again := r.startup == nil || !stands(*r.startup, w.startup(h))
	if again {
		w.stood = false // no more commands for peers until it stands
	}
	if again && len(w.busy) > 0 {
		return errBusy
	}
	ops, err := w.ownOps(h, &r)
	if err != nil {
		return err
	}
	if err := plan.Do(ctx, ops, func(op plan.Op) { w.env.Log.Info("changed", "op", op.String()) }); err != nil {
		if again {
			w.have = nil // as far as it came
		}
		return err
	}
	w.head, w.have, w.stood = h, r.peers, true
	if err := w.peers.readAll(); err != nil {
		return err
	}
	for _, node := range w.peers.nodes(r) {
		w.pending[node] = true
	}
	if w.ready != nil {
		w.ready()
		w.ready = nil
	}
	return nil
}

// start runs the commands of the peers that need them. Those that failed last time have places of their own, so that they
// keep none from the others.
func (w *watcher) start(ctx context.Context) {
	if !w.stood || !w.due.IsZero() && !time.Now().Before(w.due) {
		return
	}
	first, retries := 0, 0
	for _, failed := range w.busy {
		if failed {
			retries++
		} else {
			first++
		}
	}
	now := time.Now()
	for node := range w.pending {
		if first >= w.jobs && len(w.failed) == 0 {
			break
		}
		if _, busy := w.busy[node]; busy {
			continue
		}
		f := w.failed[node]
		switch {
		case f == nil && first >= w.jobs, f != nil && (f.due.After(now) || retries >= w.jobs):
			continue
		}
		delete(w.pending, node)
		w.tell(node)
		op := w.peerOp(node, w.have[node], w.peers.want(w.head, node, w.have[node]))
		if op == nil {
			delete(w.failed, node)
			continue
		}
		if f == nil {
			first++
		} else {
			op.forget = f.removal+1 >= maxRemovals
			retries++
		}
		w.busy[node] = f != nil
		go func() { w.results <- result{op, op.Do(ctx)} }()
	}
}

// ended takes in what became of a peer.
func (w *watcher) ended(r result) {
	node := r.op.node
	delete(w.busy, node)
	w.pending[node] = true // what was read meanwhile may ask for something else
	if record, err := state.Load[state.ExtensionPeer](w.run.ExtensionPeer(node)); err == nil {
		w.have[node] = &record
	} else {
		delete(w.have, node)
	}
	if len(w.busy) == 0 && !w.stood {
		w.due = time.Now()
	}
	if r.err == nil {
		delete(w.failed, node)
		w.env.Log.Info("changed", "op", r.op.String(), "node", node)
		return
	}
	f := w.failed[node]
	if f == nil {
		f = &failure{}
		w.failed[node] = f
	}
	if r.op.want == nil {
		f.removal++
	}
	delay := f.backoff.Next()
	f.err, f.due = r.err, time.Now().Add(delay)
	w.env.Log.Error("cannot lead packets", "node", node, "err", r.err, "retry", delay.Round(time.Millisecond))
}

// next is when something is to be done without word of a change.
func (w *watcher) next() time.Time {
	next := time.Now().Add(tool.Period)
	if !w.due.IsZero() && w.due.Before(next) {
		next = w.due
	}
	for node, f := range w.failed {
		if _, busy := w.busy[node]; !busy && w.pending[node] && f.due.Before(next) {
			next = f.due
		}
	}
	return next
}

// tell logs a peer that is newly left out.
func (w *watcher) tell(node string) {
	why := w.peers.leftOut(w.head, node)
	if why != "" && w.told[node] != why {
		w.env.Log.Warn("left out", "node", node, "reason", why)
	}
	if w.told[node] = why; why == "" {
		delete(w.told, node)
	}
}

// say tells the supervisor how things are.
func (w *watcher) say() {
	if !w.stood {
		return
	}
	status := fmt.Sprintf("%d peers, %d failing, %d left out", len(w.have), len(w.failed), len(w.told))
	for node, f := range w.failed {
		status += fmt.Sprintf("; %s: %v", node, f.err)
		break
	}
	if !w.peers.synced {
		status = "no usable peers/.synced: nothing is removed; " + status
	}
	w.env.Status("%s", status)
}
