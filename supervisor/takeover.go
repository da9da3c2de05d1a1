package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/process"
)

// daemons are the networks that a node can come from and go back to, and the program by whose process each is known.
// What they leave in the kernel and in files, the stages' programs know.
var daemons = map[string]string{"flannel": "flanneld"}

var takeoverFlags = []tool.Flag{
	{Name: "from", Usage: "the network that this node has: flannel", Default: ""},
	{Name: "yes", Usage: "do it; without, the plan is printed and nothing is changed", Default: false},
	{Name: "environment", Usage: "file of TOWPATH_FLAG=value lines, as the supervisor gets them; the environment wins", Default: defaultEnvironment},
}

var handbackFlags = []tool.Flag{
	{Name: "to", Usage: "the network that this node is to have: flannel", Default: ""},
	{Name: "yes", Usage: "do it; without, the plan is printed and nothing is changed", Default: false},
	{Name: "stop", Usage: "stop a running supervisor first", Default: false},
	{Name: "environment", Usage: "file of TOWPATH_FLAG=value lines, as the supervisor gets them; the environment wins", Default: defaultEnvironment},
}

// running finds the processes of a network's daemon beside us.
func running(env *tool.Env, flag string) (daemon string, pids []int, err error) {
	daemon, known := daemons[env.String(flag)]
	if !known {
		return "", nil, exit.Errorf(exit.Usage, "--%s %q: use flannel", flag, env.String(flag))
	}
	pids, err = process.InNetwork(daemon)
	return daemon, pids, err
}

// takeover runs each stage's program once, in the order of the files between them, with leave to take over what an earlier
// network left. Without --yes it rehearses that.
func takeover(ctx context.Context, env *tool.Env) error {
	daemon, pids, err := running(env, "from")
	if err != nil {
		return err
	}
	w, err := newWalk(env, "TOWPATH_TAKE_OVER=true")
	if err != nil {
		return err
	}
	if !env.Bool("yes") {
		if len(pids) > 0 {
			env.Log.Warn("with --yes this would be refused while it runs", "program", daemon, "pid", numbers(pids))
		}
		if err := w.rehearse(ctx); err != nil {
			return err
		}
		env.Log.Info("nothing was changed; --yes does it")
		return nil
	}
	if len(pids) > 0 {
		return exit.WithHint(exit.Errorf(exit.TryAgain, "take over: %s runs: process %s", daemon, numbers(pids)),
			"stop it first and for good (systemctl disable --now %s): what it made stays, and carries the pods' packets", daemon)
	}
	_, _, held, err := own(ctx, env, env.Verb())
	if err != nil {
		return err
	}
	defer held.Release() //nolint:errcheck // the kernel releases it in any case
	if err := w.run(ctx, w.dir, "apply"); err != nil {
		return exit.WithHint(err, "what was taken over carries on; mend it and say it again, or go back with towpath handback --to %s", env.String("from"))
	}
	env.Log.Info("this node is taken over; start the supervisor now (systemctl start towpath)")
	return nil
}

// handback runs the stages' down programs with the order to leave what the other network goes on with.
func handback(ctx context.Context, env *tool.Env) error {
	daemon, pids, err := running(env, "to")
	if err != nil {
		return err
	}
	w, err := newWalk(env, "TOWPATH_HAND_BACK=true")
	if err != nil {
		return err
	}
	if !env.Bool("yes") {
		if len(pids) == 0 {
			env.Log.Warn("with --yes this would be refused until it runs", "program", daemon)
		}
		if err := w.planDown(ctx); err != nil {
			return err
		}
		env.Log.Info("nothing was changed; --yes does it")
		return nil
	}
	if len(pids) == 0 {
		return exit.WithHint(exit.Errorf(exit.TryAgain, "hand back: %s does not run", daemon),
			"stop towpath, start %s on this node, and say it again: ours goes when its own stands", daemon)
	}
	return remove(ctx, env, w.graph, w.environment(w.dir), true)
}

func numbers(pids []int) string {
	words := make([]string, len(pids))
	for i, pid := range slices.Sorted(slices.Values(pids)) {
		words[i] = fmt.Sprint(pid)
	}
	return strings.Join(words, ", ")
}
