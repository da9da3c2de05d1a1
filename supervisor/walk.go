package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/engine"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// rounds is how often a stage may be run because a file that it may read, and need not, has changed.
const rounds = 4

// walk goes through the stages once, without a supervisor.
type walk struct {
	env   *tool.Env
	graph *graph.Graph
	dir   string            // the run directory, absolute
	given map[string]string // beside the environment of this process
	more  string            // NAME=VALUE, the order of this walk
}

func newWalk(env *tool.Env, more string) (*walk, error) {
	given, err := readEnvironment(env.String("environment"))
	if err != nil {
		return nil, err
	}
	look := state.Variables(func(name string) (string, bool) {
		if v, ok := os.LookupEnv(name); ok {
			return v, true
		}
		v, ok := given[name]
		return v, ok
	})
	stages := env.Strings("stages")
	if other := given["TOWPATH_STAGES"]; other != "" && !env.IsSet("stages") {
		stages = []string{other}
	}
	if other := given["TOWPATH_RUN_DIR"]; other != "" && !env.IsSet("run-dir") {
		env.RunDir = state.Dir(other)
	}
	dir, err := filepath.Abs(string(env.RunDir))
	if err != nil {
		return nil, fmt.Errorf("find --run-dir %q: %w", env.RunDir, err)
	}
	g, _, err := loadWith(stages, look)
	return &walk{env: env, graph: g, dir: dir, given: given, more: more}, err
}

// environment is what the programs get.
func (w *walk) environment(dir string) []string {
	base := environment(w.env, state.Dir(dir))
	have := map[string]bool{}
	for _, v := range base {
		name, _, _ := strings.Cut(v, "=")
		have[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(w.given)) {
		if !have[name] {
			base = append(base, name+"="+w.given[name])
		}
	}
	name, value, _ := strings.Cut(w.more, "=")
	return merge(base, map[string]string{name: value})
}

// rehearse plans all stages in a copy of the run directory, in which each planned file is written, so that the plan of the next
// program has it.
func (w *walk) rehearse(ctx context.Context) error {
	copied, err := os.MkdirTemp("", "towpath-rehearsal-")
	if err != nil {
		return fmt.Errorf("make a copy of %q: %w", w.dir, err)
	}
	defer os.RemoveAll(copied) //nolint:errcheck // in a directory for temporary files
	if err := copyFiles(w.dir, copied); err != nil {
		return err
	}
	return w.run(ctx, copied, "plan", "--rehearse")
}

// copyFiles copies files and directories, but those that are a running program's: locks, sockets and what the supervisor says.
func copyFiles(from, to string) error {
	locks, stages := filepath.Dir(state.Dir(from).Lock("any")), state.Dir(from).Supervisor()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && (path == locks || path == stages):
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, info.Mode().Perm())
		case entry.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, data, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy %q: %w", from, err)
	}
	return nil
}

// run runs a verb of each stage's program, those first that write what others need, and once more where a file has come that a
// stage need not have. Stages that would have written what another one has written now are made to leave.
func (w *walk) run(ctx context.Context, dir string, verb ...string) error {
	for _, s := range w.graph.Stages {
		if len(s.Adopt) > 0 {
			if err := w.do(ctx, s, dir, s.Adopt, verb...); err != nil {
				return err
			}
		}
	}
	last := map[string]string{}
	for round := 0; ; round++ {
		ran := false
		for _, s := range w.graph.Stages {
			if len(s.Program) == 0 || len(w.lacks(dir)[s.Name]) > 0 {
				continue
			}
			now := engine.Digest(dir, s.Watched())
			if before, ok := last[s.Name]; ok && before == now {
				continue
			}
			if round == rounds {
				return exit.Errorf(exit.TryAgain, "stage %s: what it reads keeps changing", s.Name)
			}
			last[s.Name], ran = now, true
			if err := w.do(ctx, s, dir, s.Program, verb...); err != nil {
				return err
			}
		}
		if !ran {
			break
		}
	}
	if err := w.leftOver(ctx, dir, last, verb[0]); err != nil {
		return err
	}
	return w.complete(dir, last)
}

// lacks is what each stage waits for, less the gates that nothing will write.
func (w *walk) lacks(dir string) map[string][]string {
	missing := map[string][]string{}
	for _, s := range w.graph.Stages {
		missing[s.Name] = engine.Lacking(dir, s)
	}
	for name, gates := range w.graph.Waive(missing).Gates {
		missing[name] = slices.DeleteFunc(missing[name], func(f string) bool { return slices.Contains(gates, f) })
	}
	return missing
}

// leftOver takes away what the earlier network made for a stage that is not used here, where another one that writes the same
// file is: the device of the back end that the node had before.
func (w *walk) leftOver(ctx context.Context, dir string, ran map[string]string, verb string) error {
	args := []string{"down"}
	if verb == "plan" {
		args = []string{"plan", "--down"}
	}
	for _, s := range slices.Backward(w.graph.Stages) {
		replaced := func(other *stage.Stage) bool {
			_, ok := ran[other.Name]
			return ok && slices.ContainsFunc(s.Outputs, func(f string) bool { return slices.Contains(other.Outputs, f) })
		}
		if _, ok := ran[s.Name]; ok || len(s.Program) == 0 || !slices.ContainsFunc(w.graph.Stages, replaced) {
			continue
		}
		if err := w.do(ctx, s, dir, s.Program, args...); err != nil {
			return err
		}
	}
	return nil
}

// complete says whether every stage that is used on this node was run: one is not used that waits for a file of the administrator's,
// or for one that none of those who were run has written.
func (w *walk) complete(dir string, ran map[string]string) error {
	missing := w.lacks(dir)
	settled := map[string]bool{}
	for _, s := range w.graph.Stages { // producers come first
		_, done := ran[s.Name]
		settled[s.Name] = done || slices.ContainsFunc(missing[s.Name], func(file string) bool {
			producers := w.graph.Producers(file)
			return !slices.ContainsFunc(producers, func(p *stage.Stage) bool { return !settled[p.Name] }) && (len(producers) > 0 || filepath.IsAbs(file))
		})
		switch {
		case len(s.Program) == 0 && !settled[s.Name]:
			w.env.Log.Warn("not run: its stage file names no program with the verbs plan and apply", "stage", s.Name)
		case !settled[s.Name]:
			return exit.Errorf(exit.TryAgain, "stage %s was not run: it waits for %s", s.Name, strings.Join(missing[s.Name], ", "))
		}
	}
	return nil
}

// planDown prints what the stages' down programs would remove. One that refuses does not keep the others from being asked.
func (w *walk) planDown(ctx context.Context) error {
	var errs []error
	for _, s := range slices.Backward(w.graph.Stages) {
		if len(s.Program) > 0 {
			errs = append(errs, w.do(ctx, s, w.dir, s.Program, "plan", "--down"))
		}
	}
	return errors.Join(errs...)
}

// do runs one program and prints whose step it is, then what it prints.
func (w *walk) do(ctx context.Context, s *stage.Stage, dir string, program []string, verb ...string) error {
	args := slices.Concat(program, verb)
	path, err := process.Find(args[0])
	if err != nil {
		return exit.Errorf(exit.BadConfig, "stage %s: %w", s.Name, err)
	}
	shown := strings.Join(slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--rehearse" }), " ")
	fmt.Fprintf(w.env.Stdout, "# %s: %s\n", s.Name, shown)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = merge(w.environment(dir), s.Env)
	cmd.Stdout, cmd.Stderr = w.env.Stdout, w.env.Stderr
	if dir != w.dir { // a copy: its name is nobody's business
		cmd.Stdout = &out
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = s.StopTimeout
	err = cmd.Run()
	io.WriteString(w.env.Stdout, strings.ReplaceAll(out.String(), dir+"/", w.dir+"/")) //nolint:errcheck // as Fprintf above
	return ended(err, "stage "+s.Name, shown)
}

// ended is the error of a program that a stage names, with its exit status.
func ended(err error, who, command string) error {
	var status *exec.ExitError
	if errors.As(err, &status) && status.ExitCode() > 0 {
		code := exit.Code(status.ExitCode())
		return exit.Errorf(code, "%s: %s ended with %d (%s)", who, command, int(code), code)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", who, command, err)
	}
	return nil
}
