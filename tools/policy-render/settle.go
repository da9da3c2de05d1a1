package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime/debug"
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
		// Reading everything took far more than keeping it does: what is over goes back to the machine.
		debug.SetGCPercent(50)
		debug.FreeOSMemory()
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

// writtenMax bounds how many generations are remembered that the kernel has not told of.
const writtenMax = 100

// written is a generation of policy.nft and whose connections it may judge in another way than the one before it.
type written struct {
	generation string
	affected   map[netip.Addr]struct{}
}

// cut hands over whose connections to look at, once the kernel has the rules to look at them by: those of a generation,
// or of any later one. While one change follows another the newest is never the one that the kernel has.
func (w *watcher) cut() {
	if w.loaded == w.writer.generation {
		w.writer.sweep()
	}
	if w.cutter == nil {
		return
	}
	if n := len(w.written); n == 0 || w.written[n-1].generation != w.writer.generation {
		w.written = append(w.written, written{w.writer.generation, map[netip.Addr]struct{}{}})
	}
	maps.Copy(w.written[len(w.written)-1].affected, w.affected)
	clear(w.affected)
	if len(w.written) > writtenMax {
		maps.Copy(w.written[1].affected, w.written[0].affected)
		w.written = slices.Delete(w.written, 0, 1)
	}
	due := len(w.written) - 1
	for due >= 0 && w.written[due].generation != w.loaded {
		due--
	}
	affected := map[netip.Addr]struct{}{}
	for i := range due + 1 {
		maps.Copy(affected, w.written[i].affected)
		clear(w.written[i].affected)
	}
	if due > 0 {
		w.written = slices.Delete(w.written, 0, due)
	}
	if len(affected) > 0 {
		w.cutter.after(slices.SortedFunc(maps.Keys(affected), netip.Addr.Compare))
	}
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
		if text == "" {
			w.env.Log.Info("inputs are good again")
		}
		w.lastError = text
	}
	if w.world == nil || !w.stands && len(faults) > 0 {
		if w.awaits != "" {
			text = fmt.Sprintf("waiting for %s: %s", w.awaits, text)
		}
		w.env.Status(state.Failing+"%s", text)
		return
	}
	if !w.synced {
		w.env.Status("waiting for %s", w.awaits)
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
