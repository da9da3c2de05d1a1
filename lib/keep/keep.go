// Package keep brings a machine to what its inputs ask and keeps it there: plan, execute, wait for a
// change, again. lib/tool gives it to every program; cni-bridge, which must not link a command line
// library, uses it directly.
package keep

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// Period is how often everything is looked at again, whether or not there was word of a change.
const Period = 30 * time.Second

// List observes and returns what has to change, in order.
type List func(ctx context.Context) ([]plan.Op, error)

// Settle plans and executes until the plan is empty. Something that puts the machine back each time
// ends it with exit.TryAgain after three passes. A *plan.Partial error is returned once its operations
// are done.
func Settle(ctx context.Context, list List, done func(plan.Op)) error {
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

// Loop settles, and settles again when a file changes, an event comes, or after a failure with a
// growing delay. It ends with ctx, or with the first pass's error when trying again would not help.
// ready is called once, when the outputs stand; status, if not nil, is the line of status while all is well; events may be nil.
func Loop(ctx context.Context, list List, log *slog.Logger, ready func(), files <-chan watch.Change, events <-chan string, status func() string) error {
	stands := false
	var retry Backoff
	var again, calm <-chan time.Time
	reason := "start"
	for {
		heard := events
		err := Settle(ctx, list, func(op plan.Op) { log.Info("changed", "op", op.String(), "reason", reason) })
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
			again = nil
			if !stands {
				stands = true
				ready()
			}
			fine := "ok"
			if status != nil {
				fine = status()
			}
			Status("%s", fine)
		case !stands && exit.Of(err).AwaitsChange():
			return err
		default:
			delay := retry.Next()
			again = time.After(delay)
			heard, calm = nil, Calm(delay)
			log.Log(ctx, Level(err), "cannot apply", "err", err, "retry", delay.Round(time.Millisecond))
			Status(state.Failing+"%v", err)
		}
		for waiting := true; waiting; {
			waiting = false
			select {
			case <-ctx.Done():
				return nil
			case c := <-files:
				reason = c.String()
			case reason = <-heard:
			case <-again:
				reason = "retry"
			case <-calm:
				heard, calm, waiting = events, nil, true
			}
		}
	}
}

// Calm ends the time in which, after a failure that is to be tried again after delay, news of the machine is no reason to try
// earlier: what fails may be what makes it, such as a device that is made and goes again. It is a second at most, so
// that what mends the failure is soon heard.
func Calm(delay time.Duration) <-chan time.Time { return time.After(min(delay, time.Second)) }

// Level is what a failure is logged as. What another program or the machine may mend any moment, such
// as an input that is not there while the back end is changed, is no error of anybody's.
func Level(err error) slog.Level {
	if exit.Of(err) == exit.TryAgain {
		return slog.LevelWarn
	}
	return slog.LevelError
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
