// Package plan is the one way a towpath program changes a machine: it observes, compares what is
// wanted with what is there as values, and gets a list of operations. The text of an operation is
// at once the output of the plan verb, the log line and the golden file of a test.
package plan

import (
	"context"
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

// Do runs the operations in order and stops at the first that fails; done is called after each that
// worked (nil for none). The error is an *Error.
func Do(ctx context.Context, ops []Op, done func(Op)) error {
	for _, op := range ops {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := op.Do(ctx); err != nil {
			return &Error{Op: op.String(), Err: err}
		}
		if done != nil {
			done(op)
		}
	}
	return nil
}
