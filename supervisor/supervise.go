package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/supervisor/engine"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// supervising is what the lock file says of a supervisor whose stages' files are all its own.
const supervising = programName + " supervise"

func supervise(ctx context.Context, env *tool.Env) error {
	dir, runner, held, err := own(ctx, env, "supervise (starting)")
	if err != nil {
		return err
	}
	defer held.Release() //nolint:errcheck // the kernel releases it in any case
	orders, stopOrders := takeOrders()
	defer stopOrders()
	if os.Getpid() == 1 {
		go runner.Reap(ctx)
	}
	files, err := watch.New(ctx, watch.Options{Dirs: env.Strings("stages"), Settle: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	reload := make(chan bool)
	go func() {
		for {
			again := false
			select {
			case <-ctx.Done():
				return
			case <-files:
			case <-orders.reload:
				again = true
			}
			select {
			case reload <- again:
			case <-ctx.Done():
				return
			}
		}
	}()
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return exit.Errorf(exit.Usage, "read $WATCHDOG_USEC: %w", err)
	}
	health, err := serveHealth(env.String("health"), env.Log)
	if err != nil {
		return err
	}
	defer health.Close() //nolint:errcheck // nobody is left to be told
	children := environment(env, dir)
	e := engine.New(engine.Config{
		RunDir: dir, Log: env.Log,
		Load: func() (*graph.Graph, []string, error) { return load(env.Strings("stages")) },
		Watch: func(ctx context.Context, files, dirs []string) (<-chan watch.Change, error) {
			return watch.New(ctx, watch.Options{Files: files, Dirs: dirs, Period: tool.Period})
		},
		Launch: func(s *stage.Stage, store *process.Store, on process.Callbacks) (process.Identity, engine.Handle, error) {
			p, err := runner.Start(process.Command{
				Stage: s.Name, Args: s.Command, Env: merge(children, s.Env), Socket: dir.StageSocket(s.Name), Store: store,
			}, on)
			if err != nil {
				return process.Identity{}, nil, err
			}
			return p.Identity, p, nil
		},
		Adopt: func(s *stage.Stage, id process.Identity, store *process.Store, on process.Callbacks) (engine.Handle, error) {
			p, err := runner.Adopt(id, dir.StageSocket(s.Name), store, on)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
		Orphans: func(ctx context.Context, keep map[string]process.Identity, g *graph.Graph) error {
			return endOrphans(ctx, env.Log, runner.Mark, keep, g)
		},
		Reload: reload, Hurry: orders.hurry,
		BeatEvery: beatEvery(interval, health), Beat: func() { notify(daemon.SdNotifyWatchdog); health.beat() },
		Started: func() {
			if err := held.Say(supervising); err != nil {
				env.Log.Warn("cannot say in the lock file that the supervisor runs", "err", err)
			}
			env.Ready()
		},
		Status: func(line string, fine bool) { env.Status("%s", line); health.say(line, fine) },
		Fault: func(err error) {
			what := supervising
			if err != nil {
				what += " (stage files at fault: " + strings.ReplaceAll(err.Error(), "\n", " ") + ")"
			}
			if err := held.Say(what); err != nil {
				env.Log.Warn("cannot say in the lock file how the stage files are", "err", err)
			}
			health.fault(err)
		},
	})
	err = e.Run(ctx)
	notify(daemon.SdNotifyStopping)
	if errors.Is(err, context.Canceled) { // told to end before it had begun
		return nil
	}
	return err
}

func notify(text string) { _, _ = daemon.SdNotify(false, text) } // nobody listening is no error

// own makes the run directory this process's: two supervisors of one directory would start
// everything twice.
func own(ctx context.Context, env *tool.Env, verb string) (state.Dir, *process.Runner, *lock.Lock, error) {
	abs, err := filepath.Abs(string(env.RunDir))
	if err != nil {
		return "", nil, nil, fmt.Errorf("find --run-dir %q: %w", env.RunDir, err)
	}
	dir := state.Dir(abs)
	if err := os.MkdirAll(dir.Supervisor(), 0o755); err != nil {
		return "", nil, nil, fmt.Errorf("make %q: %w", dir.Supervisor(), errors.Unwrap(err))
	}
	trying, cancel := context.WithTimeout(ctx, time.Second) // status holds the lock for an instant
	defer cancel()
	l, err := lock.Wait(trying, dir.Lock(programName), programName+" "+verb)
	var held *lock.HeldError
	if errors.As(err, &held) {
		err = exit.WithHint(err, "a supervisor runs on %s already; see towpath status", dir)
	}
	if err != nil {
		return "", nil, nil, err
	}
	mark, err := process.MarkOf(abs)
	if err != nil {
		_ = l.Release()
		return "", nil, nil, fmt.Errorf("look at %q: %w", abs, errors.Unwrap(err))
	}
	return dir, &process.Runner{Mark: mark, Stdout: os.Stderr, Stderr: os.Stderr}, l, nil
}

// orders is what a supervisor is told by signals beside the one that ends it.
type orders struct {
	reload chan struct{}
	hurry  chan struct{} // closed by the second INT or TERM
}

func takeOrders() (orders, func()) {
	o := orders{reload: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	quit := make(chan struct{})
	go func() {
		told := 0
		for {
			to := o.reload
			select {
			case <-quit:
				return
			case s := <-signals:
				if s != syscall.SIGHUP {
					to = o.hurry
					if told++; told < 2 {
						continue // the first ends the context
					}
				}
			}
			select {
			case to <- struct{}{}:
			default: // told already
			}
		}
	}()
	return o, func() { signal.Stop(signals); close(quit) }
}

func load(dirs []string) (*graph.Graph, []string, error) {
	return loadWith(dirs, state.Variables(os.LookupEnv))
}

func loadWith(dirs []string, look stage.Lookup) (*graph.Graph, []string, error) {
	set, err := stage.Load(dirs, look)
	if err != nil {
		return nil, nil, err
	}
	g, err := graph.Build(set.Stages)
	if err != nil {
		return nil, nil, err
	}
	g.Masked = set.Hidden
	return g, set.Masked, nil
}

// environment is what every stage's process gets: this process's own, without what is addressed to
// this process, and with the settings that all programs share.
func environment(env *tool.Env, dir state.Dir) []string {
	var out []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "TOWPATH_STAGES", "TOWPATH_STAGE":
		default:
			out = append(out, v)
		}
	}
	return merge(out, map[string]string{
		"TOWPATH_RUN_DIR": string(dir), "TOWPATH_LOG_LEVEL": env.String("log-level"), "TOWPATH_LOG_FORMAT": env.String("log-format"),
	})
}

// merge is base with the variables of more, which win.
func merge(base []string, more map[string]string) []string {
	var out []string
	for _, v := range base {
		name, _, _ := strings.Cut(v, "=")
		if _, over := more[name]; !over {
			out = append(out, v)
		}
	}
	for name, value := range more {
		out = append(out, name+"="+value)
	}
	return out
}

// endOrphans ends what an earlier supervisor left running, but what is in keep.
func endOrphans(ctx context.Context, log *slog.Logger, mark string, keep map[string]process.Identity, g *graph.Graph) error {
	for range 3 { // what is ended may start something meanwhile
		var found []process.Found
		for _, f := range process.Running(mark) {
			if kept, ok := keep[f.Stage]; !ok || f.Group != kept.PID {
				found = append(found, f)
				log.Info("ending process of an earlier supervisor", "stage", f.Stage, "pid", f.PID)
			}
		}
		if len(found) == 0 {
			return nil
		}
		err := process.Stop(ctx, found, func(name string) time.Duration {
			for _, s := range g.Stages {
				if s.Name == name {
					return s.StopTimeout
				}
			}
			return 10 * time.Second
		})
		if err != nil {
			return err
		}
	}
	return exit.WithHint(exit.Errorf(exit.TryAgain, "end the processes of an earlier supervisor: new ones keep appearing"),
		"see /proc/PID/environ of processes for TOWPATH_STAGE")
}
