package main

import (
	"time"

	"github.com/towpath/towpath/lib/state"
)

// reporter writes routes.json, seldom enough to cost nothing.
type reporter struct {
	stale      bool // something happened since it was written
	lost       bool // somebody touched the file
	written    time.Time
	repaired   int
	lastRepair string
	leftOut    map[string]string
}

const reportEvery = time.Second

// in is how long to wait until routes.json may be written again.
func (r *reporter) in(now time.Time) time.Duration {
	return max(r.written.Add(reportEvery).Sub(now), 0)
}

// say writes routes.json when it is due, and calls ready when it stands for the first time.
func (w *watcher) say() {
	r := &w.report
	r.stale = r.stale || r.lost
	now := time.Now()
	if !w.started || !r.stale || r.in(now) > 0 {
		return
	}
	r.stale, r.lost = false, false
	if why := w.e.suspended(); why != "" && w.ready != nil {
		w.env.Status("waiting: %s", why)
		return
	}
	if !w.e.files.synced && w.ready != nil {
		if err := w.e.files.syncer; err != nil {
			w.env.Log.Error("cannot trust the list of peers", "err", err)
		}
		w.env.Status("waiting: no usable peers/.synced")
		return
	}
	routes := w.e.routes()
	routes.Repaired, routes.LastRepair = r.repaired, r.lastRepair
	if _, err := state.Save(w.env.RunDir.Routes(), routes); err != nil {
		w.env.Log.Error("cannot say what is programmed", "err", err)
		r.stale, r.written = true, now
		return
	}
	r.written = now
	w.tellLeftOut(routes.LeftOut)
	if w.head != nil {
		w.env.Status(state.Failing+"keeping to what was read before: %v", w.head)
	} else {
		w.env.Status("%d peers, %d left out, %d entries repaired", routes.Peers, len(routes.LeftOut), routes.Repaired)
	}
	if w.ready != nil {
		w.ready()
		w.ready = nil
	}
}

// tellLeftOut logs peers that are newly left out, and those that no longer are.
func (w *watcher) tellLeftOut(leftOut map[string]string) {
	told := 0
	for node, why := range leftOut {
		if w.report.leftOut[node] != why && told < 20 {
			told++
			w.env.Log.Warn("left out", "node", node, "reason", why)
		}
	}
	for node := range w.report.leftOut {
		if leftOut[node] == "" && told < 20 {
			told++
			w.env.Log.Info("left out no more", "node", node)
		}
	}
	w.report.leftOut = leftOut
}
