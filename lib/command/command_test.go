package command

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
)

func TestOutput(t *testing.T) {
	if out, err := Output(t.Context(), "p", "in\n", "sed", "s/i/o/"); out != "on\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_, err := Output(t.Context(), "p", "", "sh", "-c", "echo out; echo bad  thing >&2; exit 3")
	var failed *Failed
	if !errors.As(err, &failed) || failed.ExitError.ExitCode() != 3 || err.Error() != "exit status 3: bad thing" || exit.Of(err) != exit.Refused {
		t.Errorf("failed: %v, exit status %d", err, exit.Of(err))
	}
	_, err = Output(t.Context(), "left-pad", "", "no-such-program-of-towpath")
	if exit.Of(err) != exit.Unavailable || !strings.Contains(strings.Join(exit.Hints(err), ""), `"left-pad"`) {
		t.Errorf("missing: %v, %q", err, exit.Hints(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Output(ctx, "p", "", "sleep", "60"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
