package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/flows"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// settle brings what changed into force and writes it.
func (w *watcher) settle() error {
	delta, changes := w.world.commit()
	w.affect(delta)
	whole := !w.stands || w.reprint || w.writer.broken
	if whole {
		changes = w.world.again(w.world.config)
		w.reprint = false
	}
	wrote, err := w.writer.write(w.world.manifest(), changes, whole)
	if err != nil {
		return err
	}
	if wrote > 0 {
		w.env.Log.Info("policy written", "files", wrote, "generation", w.writer.generation)
	}
	if !w.stands {
		w.stands = true
		w.ready()
	}
	return nil
}

// affect notes whose connections the change may judge in another way.
func (w *watcher) affect(d model.Delta) {
	if w.cutter == nil {
		return
	}
	for _, a := range flows.Affected(w.world.cluster, d) {
		w.affected[a] = struct{}{}
	}
}

// cut hands over whose connections to look at, once the kernel has the rules to look at them by.
func (w *watcher) cut() {
	if w.loaded != w.writer.generation {
		return
	}
	w.writer.sweep()
	if w.cutter == nil || len(w.affected) == 0 {
		return
	}
	w.cutter.after(slices.SortedFunc(maps.Keys(w.affected), netip.Addr.Compare))
	clear(w.affected)
}

// report logs a fault once, and says in one line how things stand.
func (w *watcher) report(err error) {
	faults := slices.Clone(w.broken)
	for _, path := range slices.Sorted(maps.Keys(w.faults)) {
		faults = append(faults, w.faults[path])
	}
	if err != nil {
		faults = append([]error{err}, faults...)
	}
	text := ""
	if joined := errors.Join(faults...); joined != nil {
		text = joined.Error()
	}
	if text != w.lastError {
		for _, f := range faults {
			if !strings.Contains(w.lastError, f.Error()) {
				w.env.Log.Log(context.Background(), level(f), "cannot use an input: what was good stays", "err", f, "hint", strings.Join(exit.Hints(f), "; "))
			}
		}
		w.lastError = text
	}
	if w.world == nil || !w.stands && len(faults) > 0 {
		w.env.Status(state.Failing+"%s", text)
		return
	}
	c := w.world.cluster
	line := fmt.Sprintf("%d pods, %d policies", len(c.LocalPods()), len(c.Relevant()))
	if n := len(w.world.waiting); n > 0 {
		line += fmt.Sprintf(", %d waiting for their pods", n)
	}
	if len(faults) > 0 {
		line = fmt.Sprintf("%s%d bad inputs, first %v; %s", state.Failing, len(faults), faults[0], line)
	}
	if line != w.lastStatus {
		w.lastStatus = line
		w.env.Status("%s", line)
	}
}

func level(err error) slog.Level { return keep.Level(err) }

// same says whether two endpoints are one.
func same(a, b model.Endpoint) bool {
	return a.ID == b.ID && a.Pod == b.Pod && a.UID == b.UID && a.Veth == b.Veth && a.MAC == b.MAC && a.Bridge == b.Bridge && slices.Equal(a.IPs, b.IPs)
}
