package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/state"
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
	for _, p := range d.Pods {
		w.affected[podID(p)] = p
	}
	if len(d.Policies)+len(d.Sets) == 0 {
		return
	}
	changed := map[model.Key]bool{}
	for _, k := range d.Policies {
		changed[k] = true
	}
	sets := map[*model.Set]bool{}
	for _, s := range d.Sets {
		sets[s] = true
	}
	for _, p := range w.world.cluster.Relevant() {
		changed[p.Key] = changed[p.Key] || len(sets) > 0 && names(p, sets)
	}
	for _, p := range w.world.cluster.LocalPods() {
		for _, list := range p.Policies {
			if slices.ContainsFunc(list, func(q *model.Policy) bool { return changed[q.Key] }) {
				w.affected[podID(p)] = p
			}
		}
	}
}

func podID(p *model.LocalPod) string {
	if p.Endpoint != nil {
		return p.Endpoint.ID
	}
	return p.Key.String()
}

// names says whether a policy's rules name one of the sets.
func names(p *model.Policy, sets map[*model.Set]bool) bool {
	for _, rules := range p.Rules {
		for _, r := range rules {
			for _, s := range r.Peers {
				if sets[s] {
					return true
				}
			}
			for _, n := range r.Named {
				if sets[n.Set] {
					return true
				}
			}
		}
	}
	return false
}

// cut hands over whose connections to look at, once the kernel has the rules to look at them by.
func (w *watcher) cut(ctx context.Context) {
	if w.loaded != w.writer.generation {
		return
	}
	w.writer.sweep()
	if w.cutter == nil || len(w.affected) == 0 {
		return
	}
	pods := make([]*model.LocalPod, 0, len(w.affected))
	for _, id := range slices.Sorted(maps.Keys(w.affected)) {
		pods = append(pods, w.affected[id])
	}
	clear(w.affected)
	w.cutter.after(ctx, w.world.cluster, pods)
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
