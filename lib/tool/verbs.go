package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/watch"
)

// Period is how often watch looks at everything again, whether or not it was told of a change.
const Period = 30 * time.Second

// Watched is a step whose watch verb is the common loop: run it again when one of its input files
// changes, when the kernel says something, every Period, and after a failure with a growing delay.
type Watched interface {
	// Inputs are the files the step reads.
	Inputs() []string
	// Events sends a reason whenever the machine may have drifted, until ctx ends. A nil channel: the
	// step has no such source.
	Events(ctx context.Context) (<-chan string, error)
}

// Watcher is a step with a watch loop of its own. It calls ready when the outputs stand.
type Watcher interface {
	Watch(ctx context.Context, ready func()) error
}

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
	return err
}

func apply(ctx context.Context, env *Env, step Step) error {
	return Settle(ctx, step.Plan, func(op plan.Op) { fmt.Fprintln(env.Stdout, op) })
}

func down(ctx context.Context, env *Env, step Step) error {
	return Settle(ctx, step.Down, func(op plan.Op) { fmt.Fprintln(env.Stdout, op) })
}

// Settle plans and executes until the plan is empty. Something that puts the machine back each time
// ends it with exit.TryAgain after three passes. A *plan.Partial error is returned once its operations
// are done.
func Settle(ctx context.Context, list func(context.Context) ([]plan.Op, error), done func(plan.Op)) error {
	var last plan.Op
	for range 3 {
		ops, err := list(ctx)
		var partial *plan.Partial
		if err != nil && !errors.As(err, &partial) || len(ops) == 0 {
			return err
		}
		if failed := plan.Do(ctx, ops, done); failed != nil {
			return errors.Join(failed, err)
		}
		last = ops[0]
	}
	var partial *plan.Partial
	if ops, err := list(ctx); err != nil && !errors.As(err, &partial) || len(ops) == 0 {
		return err
	}
	return exit.WithHint(exit.Errorf(exit.TryAgain, "%s: done three times and still not so", last),
		"another program may be changing it back")
}

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
	return loop(ctx, env, step, files, events)
}

// loop ends with ctx, or with the first pass's error when trying again would not help.
func loop(ctx context.Context, env *Env, step Step, files <-chan watch.Change, events <-chan string) error {
	ready := false
	var retry Backoff
	var again <-chan time.Time
	reason := "start"
	for {
		err := Settle(ctx, step.Plan, func(op plan.Op) { env.Log.Info("changed", "op", op.String(), "reason", reason) })
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
			again = nil
			if !ready {
				ready = true
				env.Ready()
			}
			env.Status("ok")
		case !ready && exit.Of(err).AwaitsChange():
			return err
		default:
			delay := retry.Next()
			again = time.After(delay)
			env.Log.Error("cannot apply", "err", err, "retry", delay.Round(time.Millisecond))
			env.Status("cannot apply: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case c := <-files:
			reason = c.String()
		case reason = <-events:
		case <-again:
			reason = "retry"
		}
	}
}

// Backoff gives growing delays with jitter: 100 ms doubling to 30 s, each shortened by up to a half.
type Backoff struct{ delay time.Duration }

// Next is the delay before the next try.
func (b *Backoff) Next() time.Duration {
	b.delay = min(max(2*b.delay, 100*time.Millisecond), 30*time.Second)
	return b.delay/2 + rand.N(b.delay/2)
}

// Reset starts again with the shortest delay.
func (b *Backoff) Reset() { b.delay = 0 }
