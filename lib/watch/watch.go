// Package watch turns changes of files into coalesced hints. It watches directories, never files, so
// that a rename over the file, a removed and remade directory and the symbolic links of a mounted
// ConfigMap are all seen; a hint says which file to read again. After an overflow of the kernel's
// queue, and once a period, the hint is "everything". Where the kernel gives no inotify instance, since others of the
// same user hold them all (fs.inotify.max_user_instances, often 128 for everything that runs as root), it looks each second
// until it does, and the hint is "everything" where something is not as it was.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// DefaultSettle is how long changes are gathered before they are reported.
const DefaultSettle = 2 * time.Millisecond

// Options says what to watch. What does not exist yet is reported when it appears.
type Options struct {
	Files  []string      // each is reported under the name given here
	Dirs   []string      // every entry, not below; entries are reported as DIR/NAME
	Period time.Duration // 0: never without a cause
	Settle time.Duration // 0: DefaultSettle
}

// Change is a hint: read these again.
type Change struct {
	All   bool
	Paths map[string]struct{}
}

// Has says whether path is to be read again.
func (c Change) Has(path string) bool {
	_, ok := c.Paths[path]
	return ok || c.All
}

// String is a reason for the log: "everything", "link.json", or "3 files".
func (c Change) String() string {
	switch {
	case c.All:
		return "everything"
	case len(c.Paths) == 1:
		for p := range c.Paths {
			return filepath.Base(p)
		}
	}
	return fmt.Sprintf("%d files", len(c.Paths))
}

type watcher struct {
	opts  Options
	fs    *fsnotify.Watcher   // nil: the kernel gave none
	files map[string][]string // by directory, the watched files in it
	dirs  map[string]bool     // directories whose every entry is reported
	armed map[string]bool     // wanted directories that are watched now
	out   chan Change
	seen  map[string]stamp // while there is no notifier
}

// New starts watching; it stops when ctx ends. The channel is never closed. Changes that happen
// before they are received are merged, so a slow receiver loses nothing and is told once.
func New(ctx context.Context, opts Options) (<-chan Change, error) {
	if opts.Settle == 0 {
		opts.Settle = DefaultSettle
	}
	n, err := notifier()
	if err != nil {
		return nil, err
	}
	w := &watcher{
		opts: opts, fs: n, files: map[string][]string{}, dirs: map[string]bool{}, armed: map[string]bool{},
		out: make(chan Change),
	}
	for _, f := range opts.Files {
		dir := filepath.Dir(f)
		w.files[dir] = append(w.files[dir], f)
		w.armed[dir] = false
	}
	for _, d := range opts.Dirs {
		w.dirs[filepath.Clean(d)] = true
		w.armed[filepath.Clean(d)] = false
	}
	if _, err := w.arm(); err != nil {
		n.Close()
		return nil, err
	}
	go w.run(ctx)
	return w.out, nil
}

// notifier is nil where the kernel has no instance to give at present.
func notifier() (*fsnotify.Watcher, error) {
	n, err := fsnotify.NewBufferedWatcher(1024)
	if errors.Is(err, syscall.EMFILE) {
		return nil, nil //nolint:nilnil // see watcher
	}
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return n, nil
}

// channels are those of the notifier; nil ones tell nothing.
func (w *watcher) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.fs == nil {
		return nil, nil
	}
	return w.fs.Events, w.fs.Errors
}

// arm watches every wanted directory that is not watched yet, or the nearest one above it that
// exists. It says whether a wanted directory was newly armed.
func (w *watcher) arm() (armed bool, err error) {
	if w.fs == nil {
		return false, nil
	}
	for _, dir := range slices.Sorted(maps.Keys(w.armed)) {
		if w.armed[dir] {
			continue
		}
		at, err := w.nearest(dir)
		if err != nil {
			return armed, err
		}
		if at == dir {
			w.armed[dir], armed = true, true
		}
	}
	return armed, nil
}

// nearest watches dir, or the nearest directory above it that exists, and says which. What was made below that one
// before it was watched is no event of it, so it goes down again until nothing lies between.
func (w *watcher) nearest(dir string) (at string, err error) {
	for above := ""; ; above = at { // above is watched already
		for at = dir; at != above; at = filepath.Dir(at) {
			err := w.fs.Add(at)
			if err == nil {
				break
			}
			if at == filepath.Dir(at) || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
				return at, fmt.Errorf("watch %q: %w", at, err)
			}
		}
		if at == dir || at == above {
			return at, nil
		}
	}
}

func (w *watcher) run(ctx context.Context) {
	defer func() {
		if w.fs != nil {
			w.fs.Close()
		}
	}()
	var pending Change
	var settle, period, again <-chan time.Time
	events, faults := w.channels()
	if w.fs == nil {
		again = time.After(scarce)
	}
	if w.opts.Period > 0 {
		t := time.NewTicker(w.opts.Period)
		defer t.Stop()
		period = t.C
	}
	out := chan Change(nil) // set once pending has settled
	touch := func(c Change) {
		if !c.All && len(c.Paths) == 0 {
			return
		}
		pending.All = pending.All || c.All
		if pending.Paths == nil {
			pending.Paths = map[string]struct{}{}
		}
		maps.Copy(pending.Paths, c.Paths)
		if out == nil && settle == nil {
			settle = time.After(w.opts.Settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-settle:
			settle, out = nil, w.out
		case out <- pending:
			pending, out = Change{}, nil
		case <-period:
			_, _ = w.arm()
			touch(Change{All: true})
		case <-again:
			if w.fs, _ = notifier(); w.fs == nil {
				again = time.After(scarce)
				touch(Change{All: w.moved(time.Now())})
				continue
			}
			again = nil
			_, _ = w.arm()
			events, faults = w.channels()
			touch(Change{All: true})
		case _, ok := <-faults: // an overflow, or a watch that broke: trust nothing
			if !ok {
				return
			}
			_, _ = w.arm()
			touch(Change{All: true})
		case e, ok := <-events:
			if !ok {
				return
			}
			touch(w.change(e))
		}
	}
}

// change translates an event. A wanted directory that went away is watched from above again.
func (w *watcher) change(e fsnotify.Event) Change {
	if e.Op == fsnotify.Chmod {
		return Change{}
	}
	if _, wanted := w.armed[e.Name]; wanted && e.Op.Has(fsnotify.Remove|fsnotify.Rename) {
		_ = w.fs.Remove(e.Name)
		w.armed[e.Name] = false
		_, _ = w.arm()
		return Change{All: true}
	}
	if !w.allArmed() {
		if armed, _ := w.arm(); armed {
			return Change{All: true}
		}
	}
	dir, base := filepath.Split(e.Name)
	dir = filepath.Clean(dir)
	c := Change{Paths: map[string]struct{}{}}
	if strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".tmp") {
		return c
	}
	if w.dirs[dir] {
		c.Paths[e.Name] = struct{}{}
	}
	for _, f := range w.files[dir] {
		if filepath.Base(f) == base || base == "..data" { // ..data: a ConfigMap volume was swapped
			c.Paths[f] = struct{}{}
		}
	}
	return c
}

func (w *watcher) allArmed() bool {
	for _, ok := range w.armed {
		if !ok {
			return false
		}
	}
	return true
}
