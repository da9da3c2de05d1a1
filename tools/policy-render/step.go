package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// step is policy-render's tool.Step, tool.Watcher and tool.Lockless.
type step struct {
	env     *tool.Env
	options options
	dir     state.Dir
	script  io.Writer // where --output - goes
	sent    bool      // the script went to a --output that cannot be compared
}

func open(env *tool.Env) (tool.Step, error) {
	o, err := optionsOf(env)
	if err != nil {
		return nil, err
	}
	o.origin.Stdin = &replay{source: env.Stdin}
	return &step{env: env, options: o, dir: env.RunDir, script: env.Stdout}, nil
}

// NoLock: a script changes nothing that is anybody's.
func (s *step) NoLock() bool { return s.options.output != "" }

// useDir says whether the run directory counts: always, unless a script is written, which may be for any node.
func (s *step) useDir() bool { return s.options.output == "" || s.env.IsSet("run-dir") }

// Plan compares the files with the objects.
func (s *step) Plan(ctx context.Context) ([]plan.Op, error) {
	w, err := readWorld(ctx, s.options, s.dir, s.useDir())
	if err != nil {
		return nil, err
	}
	for bridge, err := range w.past {
		s.env.Log.Warn("pods of a bridge are not covered", "bridge", bridge, "err", err, "hint", strings.Join(exit.Hints(err), "; "))
	}
	_, changes := w.commit()
	o := outputOf(s.dir, w.manifest(), changes)
	if s.options.output != "" {
		return s.scriptOps(o.script())
	}
	ops, err := o.ops()
	if err == nil && s.env.Verb() == "plan" {
		err = s.printKernel(ctx, o)
	}
	return ops, err
}

// printKernel prints what policy-load would change in the kernel, once these files are written.
func (s *step) printKernel(ctx context.Context, o output) error {
	commands, err := kernelDiff(ctx, s.dir, o)
	for _, c := range commands {
		fmt.Fprintln(s.env.Stdout, c)
	}
	return err
}

// Down needs no input.
func (s *step) Down(context.Context) ([]plan.Op, error) { return downOps(s.dir) }
