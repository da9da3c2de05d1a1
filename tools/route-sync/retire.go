package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// silence is how long nothing must have come in over a device that no peer is programmed over before it is deleted: as long as it takes
// a peer that hears of nothing to look at everything again.
const silence = 30 * time.Second

// tunnel is what a VXLAN device receives.
type tunnel struct{ vni, port int }

// defaultPort is flannel's and Linux's for VXLAN.
const defaultPort = 8472

// spare is our devices that link.json does not name, by index: what the node used before its backend, VNI or port was changed.
func (v view) spare() map[int]string {
	spare := maps.Clone(v.ours)
	for _, f := range state.Families {
		delete(spare, v.device.Of(f).index)
	}
	return spare
}

// lookAtTunnels reads what our devices receive.
func (e *engine) lookAtTunnels(conn *nl.Conn) error {
	e.view.left = map[tunnel]bool{}
	if len(e.view.ours) == 0 {
		return nil
	}
	spare := e.view.spare()
	devices, err := conn.VXLANs()
	for _, d := range devices {
		for _, f := range state.Families {
			if used := e.view.device.Of(f); used.index == d.Index {
				used.port = d.Port
				e.view.device.Set(f, used)
			}
		}
		if spare[d.Index] != "" {
			e.view.left[tunnel{d.VNI, d.Port}] = true
		}
	}
	return err
}

// unused is the spare devices that nothing of ours leads over: no peer needs them to be reached.
func (e *engine) unused() map[int]string {
	unused := e.view.spare()
	if len(unused) == 0 {
		return nil
	}
	for _, routes := range e.have.routes {
		for _, r := range routes {
			if r.Protocol != protocolKernel {
				delete(unused, r.Link)
			}
		}
	}
	for key, n := range e.have.neighs {
		if n.Permanent {
			delete(unused, key.Link)
		}
	}
	for key, entries := range e.have.fdb {
		if slices.ContainsFunc(entries, func(f nl.FDB) bool { return f.Permanent }) {
			delete(unused, key.Link)
		}
	}
	return unused
}

// retire brings the list of devices that are about to go up to date and returns those whose time has come. A peer that was told where
// this node is now sends to the old place until it has read that; what it sends is seen.
func (e *engine) retire(conn *nl.Conn, now time.Time) (due []string, err error) {
	unused := e.unused()
	if len(unused) == 0 || !e.files.synced || len(e.unknown) > 0 {
		e.retiring = nil
		return nil, nil
	}
	next := map[string]state.Retiring{}
	for index, name := range unused {
		received, err := conn.Received(index)
		if err != nil {
			return nil, err
		}
		r, known := e.retiring[name]
		if !known || r.Index != index || r.Received != received || r.Since.After(now) {
			r = state.Retiring{Index: index, Since: now.UTC().Truncate(time.Millisecond), Received: received}
		}
		if now.Sub(r.Since) >= silence {
			due = append(due, name)
			continue
		}
		next[name] = r
	}
	e.retiring = next
	slices.Sort(due)
	return due, nil
}

// retire deletes the devices whose time has come.
func (w *watcher) retire(ctx context.Context) {
	if !w.started || w.dirty || w.head != nil || w.e.suspended() != "" {
		return
	}
	was := w.e.retiring
	due, err := w.e.retire(w.conn, time.Now())
	if err != nil {
		w.dirty = true // a device went away meanwhile
		return
	}
	w.report.stale = w.report.stale || !maps.Equal(was, w.e.retiring)
	for _, name := range due {
		op := w.conn.LinkDel(name)
		if err := op.Do(ctx); err != nil {
			w.env.Log.Error("cannot change", "op", op.String(), "reason", "unused", "err", err)
			continue
		}
		w.env.Log.Info("changed", "op", op.String(), "reason", "unused")
	}
}
