package main

import (
	"time"

	"github.com/towpath/towpath/lib/tool"
)

// patience is how long a peer has to wait: because the kernel refused it, or because somebody else
// undoes each repair. No other peer waits with it.
type patience struct {
	backoff  tool.Backoff
	due      time.Time // of the next try; zero: none is due
	repaired time.Time // of the last try
}

const (
	// fight is how soon after a repair the next one of the same peer looks like somebody undoing it.
	fight = 100 * time.Millisecond
	// slowest is how long the repair of a peer that is fought over waits at most.
	slowest = 500 * time.Millisecond
	// calm is how long a peer must be left alone to be trusted again.
	calm = 2 * time.Second
)

func (w *watcher) of(node string) *patience {
	p := w.waiting[node]
	if p == nil {
		p = &patience{}
		w.waiting[node] = p
	}
	return p
}

// wait makes a peer that failed wait for its next try.
func (w *watcher) wait(node string) {
	if p := w.of(node); p.due.IsZero() {
		p.due = time.Now().Add(p.backoff.Next())
	}
}

// patient says whether drift of a peer may be repaired at once; if not, a try is due later.
func (w *watcher) patient(node string, now time.Time) bool {
	p := w.of(node)
	switch {
	case p.repaired.Equal(now): // another entry of the same repair
		return true
	case !p.due.IsZero():
		return false
	case now.Sub(p.repaired) < fight:
		p.due = now.Add(min(p.backoff.Next(), slowest))
		return false
	case now.Sub(p.repaired) > calm:
		p.backoff.Reset()
	}
	p.repaired = now
	return true
}

// fine notes that a peer's changes worked.
func (w *watcher) fine(node string) {
	p := w.waiting[node]
	if p == nil {
		return
	}
	p.due = time.Time{}
	if time.Since(p.repaired) > calm {
		delete(w.waiting, node)
	}
}

// next is how long nothing is due.
func (w *watcher) next() time.Duration {
	next := tool.Period
	now := time.Now()
	for node, p := range w.waiting {
		switch {
		case !p.due.IsZero():
			next = min(next, max(p.due.Sub(now), 0))
		case now.Sub(p.repaired) > calm:
			delete(w.waiting, node)
		}
	}
	if p := w.waiting[""]; w.dirty && (p == nil || p.due.IsZero()) {
		return 0
	}
	if w.report.stale {
		next = min(next, w.report.in(now))
	}
	for _, r := range w.e.retiring {
		next = min(next, max(r.Since.Add(silence).Sub(now), reportEvery))
	}
	return next
}
