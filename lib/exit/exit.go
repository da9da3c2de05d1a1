// Package exit fixes what an exit status of a towpath program means and carries it in an error, so
// that a script, the supervisor and a person read the same thing. The numbers are sysexits.h's.
package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Code is a process exit status.
type Code int

// The statuses that a towpath program ends with. The supervisor waits for a changed input after
// Usage, BadInput, NoPermission and BadConfig, since trying again would end the same way; it tries
// the others again with a growing delay.
const (
	OK           Code = 0  // done, or nothing to do
	Usage        Code = 64 // the command line is wrong
	BadInput     Code = 65 // an input file is malformed, truncated, too large or of a newer version
	Unavailable  Code = 69 // a service that is needed (store, API server) is away
	Bug          Code = 70 // a fault of the program itself
	Refused      Code = 71 // the kernel refused
	TryAgain     Code = 75 // an input is not there yet, a lock is held, a resource is used up
	NoPermission Code = 77 // not root, or a capability is missing
	BadConfig    Code = 78 // the configuration is wrong
)

var names = map[Code]string{
	OK: "ok", Usage: "usage", BadInput: "bad input file", Unavailable: "service away", Bug: "bug",
	Refused: "kernel refused", TryAgain: "try again later", NoPermission: "permission", BadConfig: "bad configuration",
}

// String is the short meaning of the code, as `towpath status` prints it.
func (c Code) String() string {
	if s, ok := names[c]; ok {
		return s
	}
	return fmt.Sprintf("exit %d", int(c))
}

// AwaitsChange says whether a program that ended so would end so again until one of its inputs, its
// command line or its rights change.
func (c Code) AwaitsChange() bool {
	return c == Usage || c == BadInput || c == NoPermission || c == BadConfig
}

// Error is an error with the exit status it asks for and, where the user can act, a hint. Err holds
// the whole message; the hint is printed on a line of its own.
type Error struct {
	Code Code
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error that ends the program with code. The format takes %w.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// WithHint adds what the user can do about err; the code stays err's own.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Code: Of(err), Err: err, Hint: fmt.Sprintf(format, args...)}
}

// Coder is an error that knows its exit status.
type Coder interface{ ExitCode() Code }

// Of maps an error to the exit status: an Error or Coder in its chain decides, then permission and
// missing-file errors, then any other errno, which is the kernel refusing. What is left is a bug.
func Of(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var c Coder
	if errors.As(err, &c) {
		return c.ExitCode()
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrPermission):
		return NoPermission
	case errors.Is(err, fs.ErrNotExist):
		return TryAgain
	case errors.As(err, &errno):
		return Refused
	}
	return Bug
}

// Hints returns every hint in err's chain, outermost first.
func Hints(err error) []string {
	var hints []string
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			break
		}
		if e.Hint != "" {
			hints = append(hints, e.Hint)
		}
		err = e.Err
	}
	return hints
}
