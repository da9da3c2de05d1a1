package keep

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"testing"

	"github.com/towpath/towpath/lib/exit"
)

func TestLevel(t *testing.T) {
	for _, c := range []struct {
		err  error
		want slog.Level
	}{
		{fmt.Errorf("read %q: %w", "vxlan.json", fs.ErrNotExist), slog.LevelWarn}, // the back end is being changed
		{exit.Errorf(exit.TryAgain, "no default route"), slog.LevelWarn},
		{exit.Errorf(exit.BadInput, "not JSON"), slog.LevelError},
		{errors.New("a bug"), slog.LevelError},
	} {
		if got := Level(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
