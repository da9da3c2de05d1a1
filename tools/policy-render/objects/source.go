package objects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/watch"
)

// Files is a Source of a file or directory. What is told of a file's objects holds until the file was read again
// without a fault or is no longer there; an emptied or unreadable file, or a directory that is away, takes
// nothing back. Replace files by renaming a finished one over them.
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
	t := &tracker{path: f.Path, opts: f.Options, files: map[string]*file{}, owner: map[ID]string{}}
	out := make(chan []Event)
	go func() {
		change := watch.Change{All: true}
		for {
			if batch := t.update(change); len(batch) > 0 {
				select {
				case out <- batch:
				case <-ctx.Done():
					return
				}
			}
			select {
			case change = <-hints:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// file is what is known of one file.
type file struct {
	identity identity
	digests  map[uint64]ID // of the texts of its objects at the last good reading
	objects  map[ID]uint64
	fault    error
}

// identity changes when a file is written.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// tracker turns hints into events.
type tracker struct {
	path    string
	opts    Options
	files   map[string]*file
	owner   map[ID]string // the file that an object is from
	fault   error         // of the directory
	told    string        // faults as told last
	started bool
	synced  bool
}

// update reads again what changed.
func (t *tracker) update(c watch.Change) []Event {
	if slices.ContainsFunc(pathsOf(c), func(p string) bool { return strings.HasPrefix(filepath.Base(p), "..") }) {
		c.All = true // a ConfigMap volume was swapped
	}
	var batch []Event
	there, err := t.list()
	if t.fault = err; err == nil {
		batch = t.read(c, there)
	}
	faults := t.faults()
	if told := fmt.Sprint(faults); told != t.told {
		t.told = told
		batch = append(batch, Event{Status: true, Faults: faults})
	}
	if !t.synced && len(faults) == 0 {
		t.synced = true
		batch = append(batch, Event{Synced: true})
	}
	return batch
}

func pathsOf(c watch.Change) []string {
	var out []string
	for p := range c.Paths {
		out = append(out, p)
	}
	return out
}

// list is the files that are there.
func (t *tracker) list() ([]string, error) {
	st, err := os.Stat(t.path)
	switch {
	case err != nil:
		return nil, missing(t.path, err)
	case st.IsDir():
		return list(t.path)
	}
	return []string{t.path}, nil
}

func (t *tracker) read(c watch.Change, there []string) []Event {
	var gone, batch []Event
	for name, f := range t.files {
		if !slices.Contains(there, name) {
			for id := range f.objects {
				delete(t.owner, id)
				gone = append(gone, Event{ID: id, Deleted: true})
			}
			delete(t.files, name)
		}
	}
	for again := true; again; { // an object may move from a file to one before it
		again = false
		for _, name := range there {
			f := t.files[name]
			if f == nil {
				f = &file{}
				t.files[name] = f
			} else if f.fault == nil && !t.changed(c, name, f) {
				continue
			}
			before := len(batch)
			batch = append(batch, t.readFile(name, f)...)
			again = again || len(batch) > before && t.anyTwice()
		}
		c = watch.Change{}
	}
	return settle(append(gone, batch...))
}

// changed says whether a file is to be read: on a hint, or at a look at everything where it is another one.
func (t *tracker) changed(c watch.Change, name string, f *file) bool {
	if _, hinted := c.Paths[name]; hinted {
		return true
	}
	return c.All && f.identity != identify(name)
}

func identify(name string) identity {
	var st syscall.Stat_t
	if syscall.Stat(name, &st) != nil {
		return identity{}
	}
	return identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

var errTwice = errors.New("an object of another file")

func (t *tracker) anyTwice() bool {
	for _, f := range t.files {
		if errors.Is(f.fault, errTwice) {
			return true
		}
	}
	return false
}

// readFile gives the events of one file; a fault leaves everything as it was.
func (t *tracker) readFile(name string, f *file) []Event {
	f.identity = identify(name) // before reading: a write in between is seen the next time
	data, err := readFile(name)
	if err != nil {
		f.fault = err
		return nil
	}
	if len(data) == 0 && len(f.objects) > 0 {
		f.fault = exit.WithHint(exit.Errorf(exit.BadInput, "read %q: empty, what it held stays in force", name), "remove the file to take its objects away")
		return nil
	}
	got, err := parse(name, data, t.opts, func(d uint64) (ID, bool) { id, ok := f.digests[d]; return id, ok })
	if err != nil {
		f.fault = err
		return nil
	}
	digests, objects := make(map[uint64]ID, len(got)), make(map[ID]uint64, len(got))
	places := map[ID]Place{}
	var events []Event
	for _, o := range got {
		digests[o.digest] = o.id
		if o.id.Kind == 0 {
			continue
		}
		if other, ok := t.owner[o.id]; ok && other != name {
			f.fault = &doubled{exit.WithHint(exit.Errorf(exit.BadInput, "read %s: %s is also in %q", o.place, o.id, other), "remove one of the two")}
			return nil
		}
		if _, ok := objects[o.id]; ok {
			f.fault = twice(o.id, places[o.id], o.place)
			return nil
		}
		objects[o.id], places[o.id] = o.digest, o.place
		if old, ok := f.objects[o.id]; o.object != nil && (!ok || old != o.digest) {
			events = append(events, Event{ID: o.id, Object: o.object})
		}
	}
	for id := range f.objects {
		if _, ok := objects[id]; !ok {
			delete(t.owner, id)
			events = append(events, Event{ID: id, Deleted: true})
		}
	}
	for id := range objects {
		t.owner[id] = name
	}
	f.digests, f.objects, f.fault = digests, objects, nil
	return events
}

// doubled is the fault of an object that another file has.
type doubled struct{ error }

func (d *doubled) Is(target error) bool { return target == errTwice }
func (d *doubled) Unwrap() error        { return d.error }

// settle drops the deletions of objects that are set in the same batch: they moved.
func settle(batch []Event) []Event {
	set := map[ID]bool{}
	for i := range batch {
		if batch[i].Object != nil {
			set[batch[i].ID] = true
		}
	}
	return slices.DeleteFunc(batch, func(e Event) bool { return e.Deleted && set[e.ID] })
}

func (t *tracker) faults() []error {
	var out []error
	if t.fault != nil {
		out = append(out, t.fault)
	}
	var names []string
	for name, f := range t.files {
		if f.fault != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		out = append(out, t.files[name].fault)
	}
	return out
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
