package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (!strings.HasSuffix(path, "/") || info.IsDir())
}

// regarded is every file whose coming, going or content may move the stage: its inputs, and what a
// oneshot leaves behind, since no process is there to see that somebody removes it.
func regarded(s *stage.Stage) []string {
	files := append(s.Required(), s.Optional...)
	if s.Mode == stage.Oneshot {
		files = append(files, s.Outputs...)
	}
	return files
}

// load reads the stage files, and watches and looks at what they name.
func (e *Engine) load(ctx context.Context) error {
	g, masked, err := e.Load()
	if err != nil {
		return err
	}
	watching, cancel := context.WithCancel(ctx)
	var files, dirs []string
	for _, s := range g.Stages {
		for _, name := range regarded(s) {
			path := stage.Path(string(e.RunDir), name)
			if !slices.Contains(files, path) {
				files = append(files, path)
			}
			listed := strings.HasSuffix(name, "/") && slices.Contains(s.Watched(), name) || slices.Contains(givenTo(g, s), name)
			if listed && !slices.Contains(dirs, path) {
				dirs = append(dirs, path)
			}
		}
	}
	changes, err := e.Watch(watching, files, dirs)
	if err != nil {
		cancel()
		return err
	}
	if e.unwatch != nil {
		e.unwatch()
	}
	unmasked := slices.DeleteFunc(slices.Clone(e.masked), func(name string) bool { return slices.Contains(masked, name) })
	e.graph, e.masked, e.files, e.unwatch = g, masked, changes, cancel
	for _, s := range g.Stages {
		u := e.units[s.Name]
		if u == nil {
			u = &unit{spec: s, definition: s.Definition(), since: time.Now(), missing: e.lacking(s)}
			e.units[s.Name] = u
		}
	}
	for _, u := range e.units {
		u.gone = !slices.ContainsFunc(g.Stages, func(s *stage.Stage) bool { return s.Name == u.spec.Name })
	}
	for _, name := range unmasked {
		if e.units[name] == nil {
			e.vanish(name)
		}
	}
	e.showMasked()
	return nil
}

// reload reads the stage files again. Files at fault change nothing: the stages run on as they are.
func (e *Engine) reload(ctx context.Context, quit chan struct{}, again bool) {
	if e.ending {
		return
	}
	if err := e.load(ctx); err != nil {
		e.Log.Error("cannot read the stage files: the stages run on as they are", "err", err)
		e.fault(err)
		return
	}
	e.fault(nil)
	for _, s := range e.graph.Stages {
		u := e.units[s.Name]
		definition := s.Definition()
		replaced := u.definition != definition
		u.spec, u.definition = s, definition
		if !replaced {
			e.lookAt(u, quit)
			if again {
				e.retry(u, quit)
			}
			continue
		}
		e.Log.Info("stage file changed", "stage", s.Name, "path", s.File)
		u.missing = e.lacking(s)
		e.weigh()
		if e.mayRun(u) { // else settle closes it, and it starts anew when it may
			u.cause = "its stage file changed"
			e.apply(u, Event{Kind: Replace}, quit)
		}
	}
}

// fault says that the stage files cannot be read, or that they can again.
func (e *Engine) fault(err error) {
	if e.Fault != nil {
		e.Fault(err)
	}
}

// adopt looks at what an earlier supervisor left. A daemon that is ready and runs as its stage file still
// says is taken over as it is; any other process is ended, so that there are never two of one stage.
func (e *Engine) adopt(ctx context.Context, quit chan struct{}) error {
	keep := map[string]process.Identity{}
	left := map[string]state.Stage{}
	entries, err := os.ReadDir(e.RunDir.Supervisor())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || stage.CheckName(name) != nil {
			os.Remove(e.RunDir.Supervisor() + "/" + entry.Name()) // a dead process's socket or unfinished file
			continue
		}
		u := e.units[name]
		if u == nil {
			e.vanish(name)
			continue
		}
		was, err := state.Load[state.Stage](e.RunDir.Stage(name))
		if err != nil {
			e.Log.Warn("cannot read the state of an earlier supervisor", "stage", name, "err", err)
			continue
		}
		id := process.Identity{PID: was.PID, Start: was.Started}
		same := was.Definition == u.definition && was.State == Ready.String()
		if was.PID > 0 && u.spec.Mode == stage.Daemon && same && id.Alive() {
			keep[name], left[name] = id, was
		}
	}
	if err := e.Orphans(ctx, keep, e.graph); err != nil {
		return err
	}
	for _, u := range e.ordered() {
		e.lookAt(u, quit)
		if id, ok := keep[u.spec.Name]; ok {
			e.takeOver(u, id, left[u.spec.Name], quit)
		}
	}
	return nil
}

func (e *Engine) takeOver(u *unit, id process.Identity, was state.Stage, quit chan struct{}) {
	u.run++
	proc, err := e.Adopt(u.spec, id, &u.store, e.callbacks(u, quit))
	if err != nil {
		e.Log.Warn("cannot take over a running stage", "stage", u.spec.Name, "err", err)
		return
	}
	u.proc, u.id, u.runs, u.status, u.lastExit = proc, id, was.Runs, was.Status, was.LastExit
	u.reason = was.LastReason
	u.m = Machine{Phase: Ready, Open: true}
	u.since = time.Now()
	if t, err := time.Parse(time.RFC3339, was.Since); err == nil {
		u.since = t
	}
	u.sums = e.sums(u.spec)
	u.sum = fold(u.sums)
	e.arm(u, quit)
	e.Log.Info("took over running stage", "stage", u.spec.Name, "pid", id.PID)
	if was.Inputs != u.sum { // an input changed while nobody looked
		u.cause = "its inputs changed while no supervisor ran"
		e.apply(u, Event{Kind: Change}, quit)
	}
}
