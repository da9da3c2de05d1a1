package engine

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// start starts a stage's process. A process that cannot be started counts as one that failed.
func (e *Engine) start(u *unit, quit chan struct{}) {
	u.run++
	u.runs++
	u.status = ""
	u.reason, u.cause = cmp.Or(u.cause, "its inputs exist"), ""
	u.sums = e.sums(u.spec)
	u.sum, u.given = fold(u.sums), e.given(u.spec)
	id, proc, err := e.Launch(u.spec, &u.store, e.callbacks(u, quit))
	if err != nil {
		e.Log.Error("cannot start stage", "stage", u.spec.Name, "err", err)
		u.lastExit = err.Error()
		u.cause = "it could not be started"
		e.apply(u, Event{Kind: Exited, Outcome: Failure}, quit)
		return
	}
	u.id, u.proc = id, proc
	e.Log.Info("started stage", "stage", u.spec.Name, "pid", id.PID, "reason", u.reason)
}

func (e *Engine) callbacks(u *unit, quit chan struct{}) process.Callbacks {
	m := message{stage: u.spec.Name, run: u.run}
	return process.Callbacks{
		Notified: func(note string) {
			m := m
			m.kind, m.note = Notified, note
			e.tell(m, quit)
		},
		Refused: func(err error) { e.Log.Warn("stage keeps too much", "stage", m.stage, "err", err) },
		Ended: func(end process.End) {
			m := m
			m.kind, m.end = Exited, end
			e.tell(m, quit)
		},
	}
}

// watched is the paths of the files whose content counts.
func (e *Engine) watched(s *stage.Stage) []string {
	var out []string
	for _, name := range s.Watched() {
		out = append(out, e.path(name))
	}
	return out
}

// sums is digests of what the stage watches, and of each gate whether it exists: a stage that was run
// without one is run again when it comes, and the other way round.
func (e *Engine) sums(s *stage.Stage) map[string]string {
	sums := e.contents.sums(e.watched(s))
	for _, name := range s.Gates {
		path := e.path(name)
		if sums[path] = ""; exists(path) {
			sums[path] = "there"
		}
	}
	return sums
}

// given is digests of the gates that no stage writes. A program reads what the administrator gives it whenever it
// likes, so that its content does not count, except for one that ended since it could not use it.
func (e *Engine) given(s *stage.Stage) map[string]string {
	var paths []string
	for _, name := range givenTo(e.graph, s) {
		path := e.path(name)
		if !strings.HasSuffix(path, "/") && exists(path+"/") { // either a file or a directory
			path += "/"
		}
		paths = append(paths, path)
	}
	return e.contents.sums(paths)
}

// givenTo is the gates outside the run directory that no stage writes.
func givenTo(g *graph.Graph, s *stage.Stage) []string {
	return slices.DeleteFunc(slices.Clone(s.Gates), func(name string) bool {
		return !filepath.IsAbs(name) || len(g.Producers(name)) > 0
	})
}

// weigh finds the gates that are left out. It looks at every stage, since what one lacks decides what another
// need not wait for.
func (e *Engine) weigh() {
	missing := map[string][]string{}
	for name, u := range e.units {
		missing[name] = u.missing
	}
	w := e.graph.Waive(missing)
	for name, u := range e.units {
		u.waived, u.idle = w.Gates[name], w.Idle[name]
	}
}

// lacks is the files that the stage has to wait for.
func (u *unit) lacks() []string {
	return slices.DeleteFunc(slices.Clone(u.missing), func(name string) bool { return slices.Contains(u.waived, name) })
}

func (e *Engine) path(name string) string { return pathOf(string(e.RunDir), name) }

// pathOf keeps the slash that says that a name is a directory's.
func pathOf(runDir, name string) string {
	path := stage.Path(runDir, name)
	if strings.HasSuffix(name, "/") {
		path += "/"
	}
	return path
}

// receive takes what a process or a timer says.
func (e *Engine) receive(m message, quit chan struct{}) {
	u := e.units[m.stage]
	if u == nil || m.kind == Timeout && u.tick != m.tick || m.kind != Timeout && u.run != m.run {
		return
	}
	switch m.kind {
	case Timeout:
		if u.m.Phase == Starting {
			u.cause = fmt.Sprintf("not ready after %s", u.spec.StartTimeout)
		}
		e.apply(u, Event{Kind: Timeout}, quit)
	case Notified:
		note := process.Parse(m.note)
		if note.HasIt {
			u.status = note.Status
		}
		if note.Ready {
			was := u.m.Phase
			e.apply(u, Event{Kind: Notified}, quit)
			if u.m.Phase != was {
				e.Log.Info("stage ready", "stage", u.spec.Name, "pid", u.id.PID)
				e.lookAt(u, quit) // a change that was not signalled while it started
			}
		}
	case Exited:
		e.ended(u, m.end, quit)
	}
}

func (e *Engine) ended(u *unit, end process.End, quit chan struct{}) {
	u.run++ // whatever else this process said comes too late
	u.proc, u.id = nil, process.Identity{}
	u.lastExit = end.String()
	ev := Event{Kind: Exited, Outcome: outcome(end)}
	names := changed(u.sums, e.sums(u.spec))
	if ev.Outcome == Await {
		names = append(names, changed(u.given, e.given(u.spec))...)
	}
	ev.Changed = len(names) > 0
	switch {
	case u.m.Phase == Stopping: // the cause is known already
	case ev.Changed:
		u.cause = strings.Join(names, ", ") + " changed"
	default:
		u.cause = "it ended: " + u.lastExit
	}
	if u.m.Phase == Stopping || ev.Outcome == Success {
		e.Log.Info("stage ended", "stage", u.spec.Name, "exit", u.lastExit)
	} else {
		e.Log.Warn("stage ended", "stage", u.spec.Name, "exit", u.lastExit)
	}
	if u.made = nil; ev.Outcome == Success && u.spec.Mode == stage.Oneshot {
		u.made = e.left(u.spec)
	}
	e.apply(u, ev, quit)
	if u.m.Phase == Held {
		e.Log.Error("stage held until an input or its stage file changes", "stage", u.spec.Name, "exit", u.lastExit)
	}
}

func outcome(end process.End) Outcome {
	switch {
	case !end.Known:
		return Unknown
	case end.Signal != 0:
		return Failure
	case end.Code == 0:
		return Success
	case exit.Code(end.Code).AwaitsChange():
		return Await
	}
	return Failure
}

// look takes a hint that files changed: it looks again which exist, and whether their bytes differ
// from those that the stage was last run on.
func (e *Engine) look(c watch.Change, quit chan struct{}) {
	for _, u := range e.ordered() {
		if c.All || e.hit(c, u.spec) {
			e.lookAt(u, quit)
		}
	}
	if c.All { // somebody may have removed our own files
		for _, u := range e.units {
			u.shown = state.Stage{}
		}
		e.showMasked()
	}
}

func (e *Engine) hit(c watch.Change, s *stage.Stage) bool {
	for _, name := range regarded(s) {
		path := stage.Path(string(e.RunDir), name)
		if c.Has(path) {
			return true
		}
		for entry := range c.Paths {
			if strings.HasPrefix(entry, path+"/") {
				return true
			}
		}
	}
	return false
}

func (e *Engine) lookAt(u *unit, quit chan struct{}) {
	u.missing = e.lacking(u.spec)
	e.weigh()
	if !e.heeds(u) {
		return
	}
	sums := e.sums(u.spec)
	names, what := changed(u.sums, sums), " changed"
	if u.m.Phase == Held {
		names = append(names, changed(u.given, e.given(u.spec))...)
	}
	if len(names) == 0 && u.m.Phase == Done {
		names, what = e.lost(u), " is gone"
	}
	if len(names) == 0 || !e.mayRun(u) {
		return
	}
	u.cause = strings.Join(names, ", ") + what
	if u.m.Phase == Ready && u.spec.OnChange == stage.Signal { // a new run would look at them itself
		u.sums, u.sum = sums, fold(sums)
	}
	e.apply(u, Event{Kind: Change}, quit)
}

// heeds says whether a change of content would move the stage now: files are not read otherwise.
func (e *Engine) heeds(u *unit) bool {
	switch u.m.Phase {
	case Held, Backoff:
		return true
	case Done: // also where an output is gone
		return u.spec.OnChange != stage.Nothing
	case Starting: // rerun: seen when the run has ended; signal: when it is ready
		return u.spec.OnChange == stage.Restart
	case Ready:
		return u.spec.OnChange == stage.Restart || u.spec.OnChange == stage.Signal
	}
	return false
}

// left is the outputs that exist.
func (e *Engine) left(s *stage.Stage) []string {
	return slices.DeleteFunc(slices.Clone(s.Outputs), func(name string) bool { return !exists(e.path(name)) })
}

// lost is the outputs that a oneshot left and that are no longer there.
func (e *Engine) lost(u *unit) []string {
	left := e.left(u.spec)
	return slices.DeleteFunc(slices.Clone(u.made), func(name string) bool { return slices.Contains(left, name) })
}

func (e *Engine) lacking(s *stage.Stage) []string { return Lacking(string(e.RunDir), s) }

// Lacking is the required files of a stage that do not exist.
func Lacking(runDir string, s *stage.Stage) []string {
	var out []string
	for _, name := range s.Required() {
		if !exists(pathOf(runDir, name)) {
			out = append(out, name)
		}
	}
	return out
}

// retry tries again at once what is held or delayed.
func (e *Engine) retry(u *unit, quit chan struct{}) {
	if u.m.Phase == Held || u.m.Phase == Backoff {
		u.cause = "told to"
		e.apply(u, Event{Kind: Change}, quit)
	}
}

// age is for logs and tables.
func age(t time.Time) string { return t.UTC().Format(time.RFC3339) }
