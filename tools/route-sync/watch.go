package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
)

// settleFiles is how long changes of files are gathered: a rename is one event, so there is little to
// wait for.
const settleFiles = 200 * time.Microsecond

// watcher is the watch verb: an engine kept up to date by events instead of being made anew.
type watcher struct {
	*step
	e      *engine
	events *nl.Events
	ready  func() // nil once called

	pending *keys     // what the kernel told of since it was looked at last
	dirty   bool      // devices changed, or events were lost: entries must be listed anew
	started bool      // a first pass over everything was made
	asked   time.Time // when lease.json or link.json asked for something else since

	head    error // why lease.json or link.json cannot be used; what was read before is kept to
	waiting map[string]*patience
	report  reporter
}

// cause is why entries are changed.
type cause string

const (
	causeStart  cause = "start"
	causeInput  cause = "input"
	causeDrift  cause = "drift"
	causePeriod cause = "period"
	causeRetry  cause = "retry"
)

// follow keeps the kernel as the files say until ctx ends.
func (s *step) follow(ctx context.Context, ready func()) error {
	run := s.env.RunDir
	changes, err := watch.New(ctx, watch.Options{
		Files: []string{run.Lease(), run.Link(), run.Routes()}, Dirs: []string{run.Peers()}, Period: tool.Period, Settle: settleFiles,
	})
	if err != nil {
		return err
	}
	events, err := nl.Subscribe(nl.WatchLinks | nl.WatchAddrs | nl.WatchRoutes | nl.WatchNeighs)
	if err != nil {
		return err
	}
	defer events.Close() //nolint:errcheck // nothing is written to it
	w := &watcher{step: s, e: s.newEngine(), events: events, ready: ready, pending: newKeys(), waiting: map[string]*patience{}}
	var start tool.Backoff
	told := events.Ready(ctx)
	for {
		if !w.started {
			if err := w.all(causeStart); err != nil {
				if exit.Of(err).AwaitsChange() {
					return err
				}
				delay := start.Next()
				w.waiting[""] = &patience{due: time.Now().Add(delay)}
				if !errors.Is(err, fs.ErrNotExist) {
					s.env.Log.Warn("cannot start yet", "err", err, "retry", delay.Round(time.Millisecond))
				}
				s.env.Status("waiting: %v", err)
			}
		}
		w.retire(ctx)
		w.say()
		timer := time.NewTimer(w.next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case c := <-changes:
			err = w.read(c)
		case <-told:
			err = w.hear()
		case <-timer.C:
			err = w.retry()
		}
		timer.Stop()
		if err != nil {
			s.env.Log.Error("cannot look at everything", "err", err)
			w.dirty = true
			w.wait("")
		}
	}
}

// all reads every file and every entry, and brings one in line with the other.
func (w *watcher) all(why cause) error {
	if _, err := w.files(); err != nil {
		return err
	}
	return w.observe(why)
}

// files reads every file that changed, and says whether one did. While it runs, the program keeps to
// the last good lease.json and link.json.
func (w *watcher) files() (changed bool, err error) {
	f := &w.e.files
	lease, link, synced := f.lease, f.link, f.synced
	w.report.stale = w.report.stale || w.head != nil
	before := w.head
	if w.head = f.readHead(); w.head != nil {
		if !w.started {
			return false, w.head
		}
		if before == nil || before.Error() != w.head.Error() { // each event reads again, and there may be many
			w.env.Log.Error("keeping to what was read before", "err", w.head)
		}
		w.report.stale = true
	}
	peers, err := f.readPeers()
	node := !reflect.DeepEqual(lease, f.lease) || !reflect.DeepEqual(link, f.link)
	if node && w.started {
		w.asked = time.Now()
	}
	return node || len(peers) > 0 || synced != f.synced, err
}

// aftermath is how long after a change of lease.json or link.json the other programs bring the devices
// in line with it, which takes entries away.
const aftermath = 5 * time.Second

// drift is why entries that are not as they were are put back: nobody meddled where this node changes.
func (w *watcher) drift() cause {
	if !w.asked.IsZero() && time.Since(w.asked) < aftermath {
		return causeInput
	}
	return causeDrift
}

// again lists everything anew because devices changed. The files may have changed with them, and what
// they newly ask for is not called drift.
func (w *watcher) again() error {
	changed, err := w.files()
	switch {
	case err != nil:
		return err
	case changed:
		return w.observe(causeInput)
	}
	return w.observe(w.drift())
}

// period looks at everything again, and does something only where something is not as it was.
func (w *watcher) period() error {
	changed, err := w.files()
	if err != nil {
		return err
	}
	if err := w.drain(); err != nil {
		return err
	}
	if !w.pending.empty() {
		if err := w.hear(); err != nil {
			return err
		}
	}
	if !changed && !w.dirty && len(w.e.failed) == 0 {
		same, err := w.e.verify(w.conn, w.socket)
		if same || err != nil {
			return err
		}
	}
	if changed {
		return w.observe(causeInput)
	}
	return w.observe(causePeriod)
}

// observe lists the kernel's entries anew.
func (w *watcher) observe(why cause) error {
	if err := w.drain(); err != nil {
		return err
	}
	w.pending, w.dirty = newKeys(), false
	if err := w.e.observe(w.conn, w.socket); err != nil {
		return err
	}
	clear(w.waiting)
	clear(w.e.failed)
	w.started, w.report.stale = true, true
	return w.change(w.e.diff(nil), why)
}

// read takes in the files that changed.
func (w *watcher) read(c watch.Change) error {
	run := w.env.RunDir
	switch {
	case !w.started:
		return nil // the next turn starts
	case c.All:
		return w.period()
	case c.Has(run.Lease()) || c.Has(run.Link()):
		return w.all(causeInput)
	case c.Has(run.PeersSynced()) || c.Has(run.Peers()):
		return w.all(causeInput)
	}
	if c.Has(run.Routes()) {
		w.report.lost = true
	}
	w.e.files.readSynced()
	var nodes []string
	for path := range c.Paths {
		if node, ok := state.NodeOfPeer(path); ok && path == run.Peer(node) && w.e.files.readPeer(node) {
			nodes = append(nodes, node)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	w.report.stale = true
	if err := w.drain(); err != nil {
		return err
	}
	if w.dirty {
		return w.observe(causeInput)
	}
	for _, node := range nodes {
		delete(w.waiting, node)
	}
	unknown := len(w.e.unknown)
	if err := w.e.paths(w.socket, nodes); err != nil {
		return err
	}
	scope := w.e.update(nodes)
	if unknown > 0 && len(w.e.unknown) == 0 {
		scope = nil // what was kept because nobody knew whose it is
	}
	return w.change(w.e.diff(scope), causeInput)
}

// hear takes in what the kernel told of, and puts back what is missing.
func (w *watcher) hear() error {
	if err := w.drain(); err != nil {
		return err
	}
	if !w.started {
		return nil
	}
	if w.dirty {
		return w.again()
	}
	return w.change(w.drifted(), w.drift())
}

// drifted is what differs among the entries that the kernel told of, without what is to wait.
func (w *watcher) drifted() []change {
	if w.pending.empty() {
		return nil
	}
	scope := w.pending
	w.pending = newKeys()
	w.report.stale = true
	now := time.Now()
	var changes []change
	for _, c := range w.e.diff(scope) {
		if w.patient(c.node, now) {
			changes = append(changes, c)
		}
	}
	return changes
}

// change makes the changes and takes in what the kernel tells of them, until nothing is left to do.
func (w *watcher) change(changes []change, why cause) error {
	for len(changes) > 0 {
		w.apply(changes, why)
		if w.dirty {
			return nil // events were lost: the next turn lists everything
		}
		changes, why = w.drifted(), w.drift()
	}
	return nil
}

func (w *watcher) apply(changes []change, why cause) {
	all := make([]nl.Change, len(changes))
	for i, c := range changes {
		all[i] = c.Change
	}
	retried := map[string]bool{}
	for _, c := range changes {
		if w.e.failed[c.node] != "" {
			retried[c.node] = true
			delete(w.e.failed, c.node)
		}
	}
	var drainErr error
	errs := w.socket.Apply(all, func(int) { drainErr = errors.Join(drainErr, w.drain()) })
	if drainErr != nil {
		w.dirty = true
	}
	w.report.stale = true
	done, failures := 0, 0
	for i, err := range errs {
		c := changes[i]
		if err != nil {
			if failures++; failures <= 10 {
				w.env.Log.Error("cannot change", "op", c.String(), "node", c.node, "reason", why, "err", err)
			}
			w.e.failed[c.node] = fmt.Sprintf("%s: %v", c, err)
			w.wait(c.node)
			continue
		}
		done++
		if len(changes) <= 10 {
			w.env.Log.Info("changed", "op", c.String(), "node", c.node, "reason", why)
		}
		if (why == causeDrift || why == causePeriod) && c.order < delRoute && !retried[c.node] {
			w.report.repaired++
			w.report.lastRepair = c.String()
		}
	}
	for _, c := range changes {
		if w.e.failed[c.node] == "" {
			w.fine(c.node)
		}
	}
	if len(changes) > 10 {
		w.env.Log.Info("changed many", "ops", done, "failed", failures, "reason", why)
	}
}

// retry tries the peers whose time has come, each by itself.
func (w *watcher) retry() error {
	if !w.started {
		return nil
	}
	if w.dirty {
		return w.again()
	}
	now := time.Now()
	for node, p := range w.waiting {
		if p.due.IsZero() || p.due.After(now) {
			continue
		}
		p.due = time.Time{}
		var scope *keys // of no peer: everything
		if node != "" {
			scope = newKeys()
			if v := w.e.verdicts[node]; v != nil {
				for i := range v {
					scope.entry(v[i].entry)
				}
			}
		}
		why := causeDrift
		if w.e.failed[node] != "" {
			why = causeRetry
		}
		changes := w.e.diff(scope)
		if len(changes) == 0 {
			delete(w.e.failed, node)
			w.report.stale = true
			continue
		}
		if err := w.change(changes, why); err != nil {
			return err
		}
	}
	return nil
}
