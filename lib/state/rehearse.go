package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// Rehearse does those of the operations that write a file of the directory and do nothing else, so that the next program of the
// pipeline can plan as if this one had done its step: the kernel, the store and every other file stay as they are. The
// directory is a copy, in which no program has ever been at work; another one is refused.
func (d Dir) Rehearse(ctx context.Context, ops []plan.Op) error {
	locks := filepath.Dir(d.Lock("any"))
	if _, err := os.Lstat(locks); !errors.Is(err, fs.ErrNotExist) {
		return exit.WithHint(exit.Errorf(exit.Usage, "rehearse in %q: it is no copy, there is %q", d, locks),
			"towpath takeover makes a copy and rehearses in it")
	}
	for _, op := range ops {
		f, ok := op.(plan.Func)
		if !ok || f.File == "" || !strings.HasPrefix(filepath.Clean(f.File), filepath.Clean(string(d))+"/") {
			continue
		}
		write := f.Run
		if f.Write != nil {
			write = f.Write
		}
		if err := write(ctx); err != nil {
			return &plan.Error{Op: op.String(), Err: err}
		}
	}
	return nil
}
