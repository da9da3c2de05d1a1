// Package plan is the one way a towpath program changes a machine: it observes, compares what is
// wanted with what is there as values, and gets a list of operations. The text of an operation is
// at once the output of the plan verb, the log line and the golden file of a test.
package plan

import (
	"context"
	"errors"
	"fmt"
)

// Op is one change. String is in the syntax of the program an administrator would make the same
// change with (ip, bridge, nft, sysctl), or "write PATH" and "remove PATH" for files.
type Op interface {
	String() string
	Do(ctx context.Context) error
}

// Func is an Op made of a text and a function.
type Func struct {
	Text string
	Run  func(ctx context.Context) error
	// File is the file that it writes, where it does nothing else; Write does that without what Run asks of the kernel
	// first, nil: Run asks nothing.
	File  string
	Write func(ctx context.Context) error
}

func (f Func) String() string               { return f.Text }
func (f Func) Do(ctx context.Context) error { return f.Run(ctx) }

// Error is an operation that failed, with the text of the operation.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Many is an Op that can be done together with those that follow it, at the price of one. Each is
// independent of the others: one that fails stops none.
type Many interface {
	Op
	Joins(next Op) bool                           // next can be done in the same go
	DoMany(ctx context.Context, ops []Op) []error // one error for each of ops, nil where it worked
}

// Partial is an error that came up while planning, beside which the operations planned are sound: they
// are to be done, and the error ends the program afterwards.
type Partial struct{ Err error }

func (p *Partial) Error() string { return p.Err.Error() }
func (p *Partial) Unwrap() error { return p.Err }

// maxErrors is how many of the errors of independent operations are reported one by one.
const maxErrors = 10

// Do runs the operations in order and stops at the first that fails, except that those of a Many and
// what follows them are tried in any case; done is called after each that worked (nil for none). The
// error is an *Error, or joins several.
func Do(ctx context.Context, ops []Op, done func(Op)) error {
	var failed []error
	more := 0
	for len(ops) > 0 {
		if err := ctx.Err(); err != nil {
			return join(append(failed, err))
		}
		many, ok := ops[0].(Many)
		if !ok {
			if err := ops[0].Do(ctx); err != nil {
				return join(append(failed, &Error{Op: ops[0].String(), Err: err}))
			}
			if done != nil {
				done(ops[0])
			}
			ops = ops[1:]
			continue
		}
		n := 1
		for n < len(ops) && many.Joins(ops[n]) {
			n++
		}
		for i, err := range many.DoMany(ctx, ops[:n]) {
			switch {
			case err == nil && done != nil:
				done(ops[i])
			case err != nil && len(failed) < maxErrors:
				failed = append(failed, &Error{Op: ops[i].String(), Err: err})
			case err != nil:
				more++
			}
		}
		ops = ops[n:]
	}
	if more > 0 {
		failed = append(failed, fmt.Errorf("and %d more", more))
	}
	return join(failed)
}

func join(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
