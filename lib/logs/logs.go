// Package logs makes the one kind of logger that towpath's programs have: slog on standard error,
// as text or JSON, with the program's name on each line.
package logs

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/towpath/towpath/lib/exit"
)

// New returns a logger that writes lines of at least level (debug, info, warn, error) to w in
// format (text, json). Another word is a usage error.
func New(w io.Writer, program, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, exit.Errorf(exit.Usage, "--log-level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: dropEmptyHint}
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(w, opts)
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		return nil, exit.Errorf(exit.Usage, "--log-format %q: use text or json", format)
	}
	return slog.New(h).With("program", program), nil
}

// dropEmptyHint leaves out the hint of an error that has none.
func dropEmptyHint(_ []string, a slog.Attr) slog.Attr {
	if a.Key == "hint" && a.Value.String() == "" {
		return slog.Attr{}
	}
	return a
}

// Fail prints an error the way every program ends: "NAME: error" and a line for each hint, on w.
// It returns the exit status.
func Fail(w io.Writer, program string, err error) int {
	fmt.Fprintf(w, "%s: %v\n", program, err)
	for _, h := range exit.Hints(err) {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
	return int(exit.Of(err))
}
