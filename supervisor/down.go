package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// down removes what the stages made, consumers before producers, and the supervisor's own files. A
// stage that fails does not keep the others from being removed.
func down(ctx context.Context, env *tool.Env) error {
	g, _, err := load(env.Strings("stages"))
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(string(env.RunDir))
	if err != nil {
		return fmt.Errorf("find --run-dir %q: %w", env.RunDir, err)
	}
	return remove(ctx, env, g, environment(env, state.Dir(dir)), env.Bool("purge"))
}

// remove runs the stages' down programs in an environment.
func remove(ctx context.Context, env *tool.Env, g *graph.Graph, base []string, all bool) error {
	if err := halt(ctx, env); err != nil {
		return err
	}
	dir, runner, held, err := own(ctx, env, env.Verb())
	if err != nil {
		return err
	}
	defer held.Release() //nolint:errcheck // the kernel releases it in any case
	err = endOrphans(ctx, env.Log, runner.Mark, nil, g)
	if errors.Is(err, context.Canceled) {
		return exit.Errorf(exit.TryAgain, "end the processes of an earlier supervisor: %w", err)
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range slices.Backward(g.Stages) {
		if len(s.Down) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return exit.Errorf(exit.TryAgain, "not all is removed: %w", err)
		}
		env.Log.Info("removing what the stage made", "stage", s.Name)
		if err := runDown(ctx, env, s, base); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := clean(dir); err != nil || !all {
		return err
	}
	return purge(dir)
}

// purge removes the run directory with all that is in it, the lock files too: who waits for one of them meanwhile
// starts in a directory that is new. A directory that is a mount of its own, as in a container, stays, empty.
func purge(dir state.Dir) error {
	entries, err := os.ReadDir(string(dir))
	if err != nil {
		return fmt.Errorf("read %q: %w", dir, errors.Unwrap(err))
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(string(dir), e.Name())); err != nil {
			return fmt.Errorf("remove %q: %w", filepath.Join(string(dir), e.Name()), errors.Unwrap(err))
		}
	}
	if err := os.Remove(string(dir)); err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("remove %q: %w", dir, errors.Unwrap(err))
	}
	return nil
}

func runDown(ctx context.Context, env *tool.Env, s *stage.Stage, base []string) error {
	path, err := process.Find(s.Down[0])
	if err != nil {
		return exit.Errorf(exit.BadConfig, "down of stage %s: %w", s.Name, err)
	}
	cmd := exec.CommandContext(ctx, path, s.Down[1:]...)
	cmd.Args[0] = s.Down[0]
	cmd.Env = merge(base, s.Env)
	cmd.Stdout, cmd.Stderr = env.Stdout, env.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = s.StopTimeout
	return ended(cmd.Run(), "down of stage "+s.Name, strings.Join(s.Down, " "))
}

// halt sees to it that no supervisor runs, which would start everything again.
func halt(ctx context.Context, env *tool.Env) error {
	path := env.RunDir.Lock(programName)
	holder, held, err := lock.Held(path)
	if err != nil || !held {
		return err
	}
	if !env.Bool("stop") {
		return exit.WithHint(exit.Errorf(exit.TryAgain, "the supervisor runs: process %s", holder),
			"stop it first (systemctl stop towpath), or let towpath down --stop do it")
	}
	number, _, _ := strings.Cut(holder, " ")
	pid, err := strconv.Atoi(number)
	if err != nil || !holds(pid, path) {
		return exit.WithHint(exit.Errorf(exit.TryAgain, "cannot tell which process the supervisor is (lock %q: %q)", path, holder),
			"it may run in another container: stop it there")
	}
	env.Log.Info("stopping the supervisor", "pid", pid)
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		return fmt.Errorf("stop supervisor, process %d: %w", pid, err)
	}
	l, err := lock.Wait(ctx, path, programName+" down")
	if err != nil {
		return err
	}
	return l.Release()
}

// holds says whether a process has a file open: only then is the number in a lock file its.
func holds(pid int, path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(fds, func(fd string) bool {
		have, err := os.Stat(fd)
		return err == nil && os.SameFile(want, have)
	})
}

// clean removes the supervisor's own files. The lock file stays: it is held.
func clean(dir state.Dir) error {
	entries, err := os.ReadDir(dir.Supervisor())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %q: %w", dir.Supervisor(), errors.Unwrap(err))
	}
	for _, e := range entries {
		if _, err := state.Remove(filepath.Join(dir.Supervisor(), e.Name())); err != nil {
			return err
		}
	}
	_, err = state.Remove(dir.Supervisor())
	return err
}
