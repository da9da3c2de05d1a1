package objects

import (
	"context"
	"os"
	"time"

	"github.com/towpath/towpath/lib/watch"
)

// Files is a Source of a file or directory. What is told of a file's objects holds until the file was read again
// without a fault or is no longer there; an emptied or unreadable file, or a directory that is away, takes
// nothing back, nor does one that is being written. Replace files by renaming a finished one over them: that is seen
// at once, a file rewritten in place when it was closed and left alone for 300 ms.
type Files struct {
	Path    string
	Options Options
	Period  time.Duration // between two looks at everything; 0: 30 s
}

// Watch begins to read. What is wrong with the files, even that there are none, is told as a Status.
func (f *Files) Watch(ctx context.Context) (<-chan []Event, error) {
	opts := watch.Options{Period: f.Period}
	if opts.Period == 0 {
		opts.Period = 30 * time.Second
	}
	st, err := os.Stat(f.Path)
	if err == nil && !st.IsDir() {
		opts.Files = []string{f.Path}
	} else {
		opts.Dirs = []string{f.Path}
	}
	hints, err := watch.New(ctx, opts)
	if err != nil {
		return nil, err
	}
	t := newTracker(f.Path, f.Options)
	out := make(chan []Event)
	go func() {
		t.send = func(batch []Event) error {
			select {
			case out <- batch:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		change := watch.Change{All: true}
		for {
			if batch := t.update(change); len(batch) > 0 {
				if t.send(batch) != nil {
					return
				}
			}
			change = watch.Change{}
			for told := false; !told; {
				var again <-chan time.Time
				if t.holding() {
					again = time.After(lookAgain)
				}
				select {
				case change = <-hints:
					told = true
				case <-again:
					told = t.release()
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// Fixed is a Source of objects that never change: what was read from standard input.
type Fixed struct{ Objects []Object }

// Watch tells of them once.
func (f *Fixed) Watch(ctx context.Context) (<-chan []Event, error) {
	out := make(chan []Event)
	go func() {
		batch := make([]Event, 0, len(f.Objects)+1)
		for i := range f.Objects {
			batch = append(batch, Event{ID: f.Objects[i].ID(), Object: &f.Objects[i]})
		}
		select {
		case out <- append(batch, Event{Synced: true}):
		case <-ctx.Done():
		}
	}()
	return out, nil
}

// Open is the Source of a path; standard input ("-") is read at once.
func Open(path string, o Options) (Source, error) {
	if path != "-" {
		return &Files{Path: path, Options: o}, nil
	}
	got, err := ReadPath(path, o)
	if err != nil {
		return nil, err
	}
	return &Fixed{got}, nil
}
