package keep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/watch"
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

// TestFailureThatMakesNews: a step that fails and changes the machine on the way hears of it, and is tried no more often for that.
// A file is a reason at once.
func TestFailureThatMakesNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		files, events := make(chan watch.Change), make(chan string, 1)
		passes := 0
		list := func(context.Context) ([]plan.Op, error) {
			passes++
			select {
			case events <- "link flannel-wg came":
			default:
			}
			return nil, exit.Errorf(exit.TryAgain, "no socket")
		}
		ended := make(chan error)
		go func() {
			ended <- Loop(ctx, list, slog.New(slog.DiscardHandler), func() {}, files, events, nil)
		}()
		<-time.After(time.Minute)
		if passes < 55 || passes > 75 {
			t.Errorf("%d passes in a minute", passes)
		}
		synctest.Wait()
		before := passes
		for range 5 {
			files <- watch.Change{All: true}
			synctest.Wait()
		}
		if passes != before+5 {
			t.Errorf("%d passes for five changes of a file", passes-before)
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
