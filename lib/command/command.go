// Package command runs the system's own programs, such as nft and iptables.
package command

import (
	"bytes"
	"context"
	"errors"
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
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = waitDelay
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return stdout.String(), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", exit.WithHint(exit.Errorf(exit.Unavailable, "%w", err), "install the package %q", pkg)
	case errors.As(err, &ended):
		return "", &Failed{ExitError: ended, Stderr: stderr.String()}
	}
	return "", exit.Errorf(exit.Unavailable, "%w", err)
}
