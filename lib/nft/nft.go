// Package nft renders nftables tables to canonical text and gives such text to the nft program: to
// check it, to load it in one transaction, and to list a table. It decides nothing about rules.
package nft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/command"
	"github.com/towpath/towpath/lib/exit"
)

// Error is a text that nft or the kernel refused. Line and Column count from 1; both are 0 where nft
// named no place.
type Error struct {
	Line, Column int
	Message      string // nft's own, such as "Could not process rule: No such file or directory"
	Source       string // the line it is about
	More         int    // further errors, which are often only consequences
	Code         exit.Code
}

func (e *Error) Error() string {
	s := e.Message
	if e.Line > 0 {
		s = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, s)
	}
	if e.Source != "" {
		s = fmt.Sprintf("%s: %q", s, e.Source)
	}
	if e.More > 0 {
		s = fmt.Sprintf("%s (and %d more)", s, e.More)
	}
	return s
}

// ExitCode is 71, or 77 when the right to change the ruleset is missing.
func (e *Error) ExitCode() exit.Code { return e.Code }

// Check asks nft and the kernel whether text could be loaded now, and changes nothing.
func Check(ctx context.Context, text string) error {
	_, err := run(ctx, "check nftables text", text, "-c", "-f", "-")
	return err
}

// Load gives text to the kernel as one transaction: all of it takes effect at once, or nothing.
func Load(ctx context.Context, text string) error {
	_, err := run(ctx, "load nftables text", text, "-f", "-")
	return err
}

// LoadFrom is Load of a text that need not be in memory in one piece. It returns the process id that nft had: the
// kernel names it as the sender of the transaction (nl.NFTChange.Port).
func LoadFrom(ctx context.Context, text io.Reader) (pid int, err error) {
	if _, pid, err = command.Feed(ctx, "nftables", text, "nft", "-f", "-"); err != nil {
		return pid, failure("load nftables text", err)
	}
	return pid, nil
}

// List is nft's listing of a table, numeric and without counter values, so that equal rules give
// equal text. The table must exist.
func List(ctx context.Context, family, table string) (string, error) {
	return run(ctx, fmt.Sprintf("list nftables table %s %s", family, table), "", "-s", "-nn", "list", "table", family, table)
}

func run(ctx context.Context, what, stdin string, args ...string) (string, error) {
	out, err := command.Output(ctx, "nftables", stdin, "nft", args...)
	if err != nil {
		return "", failure(what, err)
	}
	return out, nil
}

func failure(what string, err error) error {
	var failed *command.Failed
	if !errors.As(err, &failed) {
		return fmt.Errorf("%s: %w", what, err)
	}
	e := parseError(failed.Stderr)
	if e.Message == "" {
		e.Message = failed.ExitError.Error() // killed by a signal, say
	}
	err = fmt.Errorf("%s: %w", what, e)
	if e.Code == exit.NoPermission {
		err = exit.WithHint(err, "run as root, or with CAP_NET_ADMIN")
	}
	return err
}

// place is where nft says an error is: "/dev/stdin:3:6-8: Error: No symbol type information".
var place = regexp.MustCompile(`^[^:]*:([0-9]{1,9}):([0-9]{1,9})-[0-9]+: Error: (.*)$`)

// parseError reads the first error of nft's standard error, the line that follows it being the source.
func parseError(stderr string) *Error {
	e := &Error{Code: exit.Refused}
	if strings.Contains(stderr, "Operation not permitted") {
		e.Code = exit.NoPermission
	}
	errs := 0
	lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
	for i, line := range lines {
		before, message, ok := strings.Cut(line, "Error: ")
		if !ok {
			continue
		}
		if errs++; errs > 1 {
			continue
		}
		e.Message = strings.TrimSpace(before + message)
		if m := place.FindStringSubmatch(line); m != nil {
			e.Line, _ = strconv.Atoi(m[1])
			e.Column, _ = strconv.Atoi(m[2])
			e.Message = m[3]
			if i+1 < len(lines) {
				e.Source = strings.TrimSpace(lines[i+1])
			}
		}
	}
	if errs == 0 {
		e.Message = strings.TrimSpace(lines[0])
	}
	e.More = max(errs-1, 0)
	return e
}
