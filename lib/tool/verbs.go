package tool

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/watch"
)

// Period is how often watch looks at everything again, whether or not it was told of a change.
const Period = keep.Period

// Watched is a step whose watch verb is the common loop: run it again when one of its input files
// changes, when the kernel says something, every Period, and after a failure with a growing delay.
type Watched interface {
	// Inputs are the files the step reads.
	Inputs() []string
	// Events sends a reason whenever the machine may have drifted, until ctx ends. A nil channel: the
	// step has no such source.
	Events(ctx context.Context) (<-chan string, error)
}

// Stater is a Watched step that says its line of status, while all is well, itself.
type Stater interface{ Status() string }

// Watcher is a step with a watch loop of its own. It calls ready when the outputs stand.
type Watcher interface {
	Watch(ctx context.Context, ready func()) error
}

// Lockless is a step that, as its flags say, changes nothing that another run could change too.
type Lockless interface{ NoLock() bool }

func stepVerbs(p *Program) []Verb {
	if p.Open == nil {
		return nil
	}
	open := func(f func(context.Context, *Env, Step) error) func(context.Context, *Env) error {
		return func(ctx context.Context, env *Env) error {
			step, err := p.Open(env)
			if err != nil {
				return err
			}
			if c, ok := step.(io.Closer); ok {
				defer c.Close()
			}
			return f(ctx, env, step)
		}
	}
	locked := func(f func(context.Context, *Env, Step) error) func(context.Context, *Env) error {
		return open(func(ctx context.Context, env *Env, step Step) error {
			if free, ok := step.(Lockless); ok && free.NoLock() {
				return f(ctx, env, step)
			}
			l, err := env.Lock()
			if err != nil {
				return err
			}
			defer l.Release() //nolint:errcheck // the kernel releases it in any case
			return f(ctx, env, step)
		})
	}
	return []Verb{
		{Name: "plan", Usage: "print what apply would change; change nothing", Run: open(planVerb), Flags: []Flag{
			{Name: "down", Usage: "print what down would remove", Default: false},
			{Name: "rehearse", Usage: "write the planned files below --run-dir, which is a copy: the next program plans from them", Default: false},
		}},
		{Name: "apply", Usage: "make the machine as the inputs ask, once, and print what was changed", Run: locked(apply)},
		{Name: "watch", Usage: "apply, and keep it so", Run: locked(watchVerb)},
		{Name: "down", Usage: "remove what this program made, and print what was removed", Run: locked(down)},
	}
}

func planVerb(ctx context.Context, env *Env, step Step) error {
	list := step.Plan
	if env.Bool("down") {
		list = step.Down
	}
	ops, err := list(ctx)
	for _, op := range ops {
		fmt.Fprintln(env.Stdout, op)
	}
	if env.Bool("rehearse") {
		err = errors.Join(err, env.RunDir.Rehearse(ctx, ops))
	}
	return err
}

func apply(ctx context.Context, env *Env, step Step) error {
	return Settle(ctx, step.Plan, func(op plan.Op) { fmt.Fprintln(env.Stdout, op) })
}

func down(ctx context.Context, env *Env, step Step) error {
	return Settle(ctx, step.Down, func(op plan.Op) { fmt.Fprintln(env.Stdout, op) })
}

// Settle is keep.Settle.
func Settle(ctx context.Context, list func(context.Context) ([]plan.Op, error), done func(plan.Op)) error {
	return keep.Settle(ctx, list, done)
}

// Backoff is keep.Backoff.
type Backoff = keep.Backoff

func watchVerb(ctx context.Context, env *Env, step Step) error {
	if w, ok := step.(Watcher); ok {
		return w.Watch(ctx, env.Ready)
	}
	var inputs []string
	var events <-chan string
	if w, ok := step.(Watched); ok {
		inputs = w.Inputs()
		var err error
		if events, err = w.Events(ctx); err != nil {
			return err
		}
	}
	files, err := watch.New(ctx, watch.Options{Files: inputs, Period: Period})
	if err != nil {
		return err
	}
	var status func() string
	if s, ok := step.(Stater); ok {
		status = s.Status
	}
	return keep.Loop(ctx, step.Plan, env.Log, env.Ready, files, events, status)
}
