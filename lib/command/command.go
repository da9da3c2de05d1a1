// Package command runs the system's own programs, such as nft and iptables.
package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/exit"
)

// waitDelay is how long a killed program's children may keep its output open.
const waitDelay = 5 * time.Second

// Failed is a program that ran and did not end with status 0.
type Failed struct {
	*exec.ExitError
	Stderr string
}

func (f *Failed) Error() string {
	return f.ExitError.Error() + ": " + strings.Join(strings.Fields(f.Stderr), " ")
}
func (f *Failed) Unwrap() error { return f.ExitError }

// ExitCode is exit.Refused: it hides the status of the program itself, which means nothing here.
func (f *Failed) ExitCode() exit.Code { return exit.Refused }

// Output runs a program with stdin and returns what it printed. A program that did not end well is a
// *Failed; one that is missing or cannot be run is exit.Unavailable, with a hint that names pkg, the
// package it comes in; after the end of ctx the error is ctx's.
func Output(ctx context.Context, pkg, stdin, program string, args ...string) (string, error) {
	out, _, err := Feed(ctx, pkg, strings.NewReader(stdin), program, args...)
	return out, err
}

// Feed is Output with an input that need not be in memory in one piece. It returns the process id that the
// program had, 0 where it was not started.
func Feed(ctx context.Context, pkg string, stdin io.Reader, program string, args ...string) (out string, pid int, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = waitDelay
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if cmd.Process != nil {
		pid = cmd.Process.Pid
	}
	var ended *exec.ExitError
	switch {
	case err == nil:
		return stdout.String(), pid, nil
	case ctx.Err() != nil:
		return "", pid, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", pid, exit.WithHint(exit.Errorf(exit.Unavailable, "%w", err), "install the package %q", pkg)
	case errors.As(err, &ended):
		return "", pid, &Failed{ExitError: ended, Stderr: stderr.String()}
	}
	return "", pid, exit.Errorf(exit.Unavailable, "%w", err)
}
