package objects

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/watch"
)

// file is what is known of one file.
type file struct {
	name     string
	identity identity
	digests  known // what it held at the last good reading
	objects  int
	fault    error
	hold     hold
}

// identity changes when a file is written.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// tracker turns hints into events.
type tracker struct {
	path   string
	opts   Options
	files  map[string]*file
	byID   map[ID]*entry
	fault  error  // of the directory
	told   string // faults as told last
	synced bool
	send   func([]Event) error // what was read of a file, before the rest is; nil: all at once
	// readings numbers the readings of files.
	readings uint64
}

func newTracker(path string, o Options) *tracker {
	o.Warn = Once(o.Warn)
	return &tracker{path: path, opts: o, files: map[string]*file{}, byID: map[ID]*entry{}}
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
	if !t.synced && len(faults) == 0 && !t.holding() {
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
		files, err := list(t.path)
		if err == nil {
			t.opts.warnUnread(t.path, files)
		}
		return files, err
	}
	return []string{t.path}, nil
}

func (t *tracker) read(c watch.Change, there []string) []Event {
	var gone, batch []Event
	for name, f := range t.files {
		if !slices.Contains(there, name) {
			for _, e := range f.digests {
				if e.id.Kind != 0 {
					delete(t.byID, e.id)
					gone = append(gone, Event{ID: e.id, Deleted: true})
				}
			}
			delete(t.files, name)
		}
	}
	for again := true; again; { // an object may move from a file to one before it
		again = false
		for _, name := range there {
			f := t.files[name]
			if f == nil {
				f = &file{name: name, digests: known{}}
				t.files[name] = f
			} else if f.fault == nil && !f.hold.on && !t.changed(c, name, f) {
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
	now := identify(name) // before reading: a write in between is seen
	if f.holds(name, now) {
		return nil
	}
	f.identity, f.hold.on = now, false
	data, err := readFile(name)
	if err != nil {
		f.fault = err
		return nil
	}
	if identify(name) != now { // the writer came in between
		f.hold.on = true
		return nil
	}
	if len(data) == 0 && f.objects > 0 {
		f.fault = exit.WithHint(exit.Errorf(exit.BadInput, "read %q: empty, what it held stays in force", name), "remove the file to take its objects away")
		return nil
	}
	t.readings++
	r := &reader{Options: t.opts, file: name, known: f.digests, intern: map[string]string{}}
	if t.send != nil && !t.synced && len(f.digests) == 0 {
		// Nothing is in force yet: tell while reading, so that a large file is never in memory as a whole.
		r.flush = func(got []found) error {
			events, err := t.adopt(f, got)
			if err == nil {
				err = t.send(events)
			}
			return err
		}
	}
	got, err := r.parse(data)
	var events []Event
	if err == nil {
		events, err = t.adopt(f, got)
	}
	if f.fault = err; err == nil {
		return append(events, t.sweep(f)...)
	}
	if r.flush != nil { // take back what was told of it
		t.readings++
		return t.sweep(f)
	}
	return nil
}

// adopt compares what was read with what the file held, and takes it over unless an object is there twice.
func (t *tracker) adopt(f *file, got []found) ([]Event, error) {
	fresh := map[ID]*entry{}
	for i := range got {
		o := &got[i]
		if o.entry == nil {
			o.entry = &entry{digest: o.digest, file: f}
			if o.object != nil {
				o.entry.id = o.object.ID()
				if have := t.byID[o.entry.id]; have != nil && have.file == f {
					o.entry = have // take gives it its new digest
				} else if fresh[o.entry.id] != nil {
					o.entry = fresh[o.entry.id]
				}
				fresh[o.entry.id] = o.entry
			}
		}
		e := o.entry
		if e.id.Kind == 0 {
			continue
		}
		if other := t.byID[e.id]; other != nil && other.file != f {
			return nil, &doubled{exit.WithHint(exit.Errorf(exit.BadInput, "read %s: %s is also in %q", o.place, e.id, other.file.name), "remove one of the two")}
		}
		if e.seen == t.readings {
			first := slices.IndexFunc(got[:i], func(p found) bool { return p.entry.id == e.id })
			if first < 0 { // flushed long ago
				return nil, exit.WithHint(exit.Errorf(exit.BadInput, "read %s: %s is also in a document before it", o.place, e.id), "remove one of the two")
			}
			return nil, twice(e.id, got[first].place, o.place)
		}
		e.seen = t.readings
	}
	return t.take(f, got), nil
}

// take makes what was read what the file holds.
func (t *tracker) take(f *file, got []found) []Event {
	var events []Event
	for i := range got {
		o := &got[i]
		e := o.entry
		if o.object != nil {
			delete(f.digests, e.digest)
			e.digest = o.digest
			t.byID[e.id] = e
			events = append(events, Event{ID: e.id, Object: o.object})
		}
		e.seen = t.readings
		f.digests[o.digest] = e
	}
	return events
}

// sweep forgets what this reading of the file did not find.
func (t *tracker) sweep(f *file) []Event {
	var events []Event
	f.objects = 0
	for digest, e := range f.digests {
		switch {
		case e.seen != t.readings:
			delete(f.digests, digest)
			if e.id.Kind != 0 {
				delete(t.byID, e.id)
				events = append(events, Event{ID: e.id, Deleted: true})
			}
		case e.id.Kind != 0:
			f.objects++
		}
	}
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
