package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// lockWait is how long a change waits for those of other nodes.
const lockWait = 30 * time.Second

// fileStore is a directory with one file for each node, DIR/NODE.json, and a lock. Whoever writes holds
// the lock, which the kernel takes back from a dead process; a file is replaced whole, so a reader
// needs no lock and a process killed at any point leaves the old record or the new one.
type fileStore struct {
	dir string

	mu    sync.Mutex
	cache map[string]cached // by node
}

// cached is an entry with the state of its file. A record is replaced by a rename, so the same state is
// the same record, and a listing of a known store reads directory entries only.
type cached struct {
	stat  fileState
	entry Entry
}

func newFileStore(dir string) *fileStore { return &fileStore{dir: dir, cache: map[string]cached{}} }

func (s *fileStore) URL() string { return "file:" + s.dir }

// mark is the directory that tells a store from an empty directory; the lock is in it, so that taking
// it wakes nobody who watches the records.
func (s *fileStore) mark() string { return filepath.Join(s.dir, ".store") }

func (s *fileStore) path(node string) string { return filepath.Join(s.dir, node+".json") }

// List needs no lock: a file that is renamed over while the directory is read may be missed, so every
// record known before is looked for by name as well.
func (s *fileStore) List(context.Context) (Listing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list(false)
}

// list is List; with clean, which needs the lock, what killed processes left behind is removed.
func (s *fileStore) list(clean bool) (Listing, error) {
	l := Listing{Entries: map[string]Entry{}}
	files, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.Unused = true
		return l, nil
	}
	if err != nil {
		return l, s.away(err)
	}
	known := s.cache
	s.cache = make(map[string]cached, len(known))
	for _, f := range files {
		name := f.Name()
		if node, ok := state.NodeOfPeer(name); ok {
			s.read(node, known[node], l.Entries)
			delete(known, node)
		} else if clean && strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") {
			_, _ = state.Remove(filepath.Join(s.dir, name)) // the next one tries again
		}
	}
	for node, c := range known {
		s.read(node, c, l.Entries)
	}
	if _, err := os.Lstat(s.mark()); errors.Is(err, fs.ErrNotExist) {
		l.Unused = len(l.Entries) == 0
	}
	return l, nil
}

// away is the error for a store that cannot be read at all.
func (s *fileStore) away(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return exit.Errorf(exit.Unavailable, "read store %q: %w", s.dir, err)
}

// read puts a node's entry into entries, if there is one.
func (s *fileStore) read(node string, known cached, entries map[string]Entry) {
	path := s.path(node)
	now, err := stateOf(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if known.stat != now || now == (fileState{}) {
		entry, ok := load(path, node)
		if !ok {
			return
		}
		known = cached{stat: now, entry: entry}
	}
	s.cache[node] = known
	entries[node] = known.entry
}

// load reads a record; ok is false when it is gone.
func load(path, node string) (e Entry, ok bool) {
	r, err := state.Load[Record](path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e, false
	case err == nil && r.Node != node:
		err = &state.Error{Path: path, Key: "node", Err: fmt.Errorf("%q: the record of another node", r.Node)}
	case err == nil:
		r.Backend = canonical(r.Backend)
		return Entry{Record: &r}, true
	}
	data, _ := state.ReadFile(path, state.MaxSize)
	return Entry{Err: err, Claims: claims(data)}, true
}

func (s *fileStore) Get(_ context.Context, node string) (Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.cache[node]
	delete(s.cache, node)
	entries := map[string]Entry{}
	s.read(node, known, entries)
	return entries[node], nil
}

// change runs f with the lock held and writes the record it returns.
func (s *fileStore) change(ctx context.Context, node, what string, f func() (Record, error)) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	release, err := s.lock(ctx, what+" "+node)
	if err != nil {
		return Record{}, err
	}
	defer release()
	r, err := f()
	if err != nil {
		return r, err
	}
	if _, err := state.Save(s.path(node), r); err != nil {
		return r, err
	}
	return r, s.sync()
}

func (s *fileStore) lock(ctx context.Context, what string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	l, err := lock.Wait(ctx, filepath.Join(s.mark(), "lock"), "subnet-lease "+what)
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Release() }, nil // the kernel releases it in any case
}

// sync makes renames and removals last through a power cut, so that no subnet is given twice.
func (s *fileStore) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return s.away(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %q: %w", s.dir, err)
	}
	return nil
}

func (s *fileStore) Acquire(ctx context.Context, node string, pick Pick) (Record, error) {
	return s.change(ctx, node, "acquire", func() (Record, error) {
		all, err := s.list(true)
		if err != nil {
			return Record{}, err
		}
		r, err := pick(all)
		if err != nil {
			return r, err
		}
		now := time.Now()
		for other, e := range all.Entries {
			if other == node || e.Record == nil || !e.Record.Expired(now) || !overlap(e.Record.Subnet, r.Subnet) {
				continue
			}
			// First, so that a process killed here leaves no two holders.
			if _, err := state.Remove(s.path(other)); err != nil {
				return r, err
			}
		}
		return r, nil
	})
}

func overlap(a, b state.Pair[netip.Prefix]) bool {
	for _, f := range state.Families {
		if a.Has(f) && b.Has(f) && a.Of(f).Overlaps(b.Of(f)) {
			return true
		}
	}
	return false
}

// edit changes the node's record, which has to be there.
func (s *fileStore) edit(ctx context.Context, node, what string, f func(*Record)) (Record, error) {
	return s.change(ctx, node, what, func() (Record, error) {
		e, ok := load(s.path(node), node)
		switch {
		case !ok:
			return Record{}, errNoLease(node)
		case e.Err != nil:
			return Record{}, e.Err
		}
		r := *e.Record
		f(&r)
		return r, nil
	})
}

func (s *fileStore) Publish(ctx context.Context, node string, publicIP state.Pair[netip.Addr], backend state.Published) (Record, error) {
	return s.edit(ctx, node, "publish", func(r *Record) { r.PublicIP, r.Backend = publicIP, canonical(backend) })
}

func (s *fileStore) Renew(ctx context.Context, node string, expires time.Time) (Record, error) {
	return s.edit(ctx, node, "renew", func(r *Record) { r.Expires = stamp(expires) })
}

func (s *fileStore) Release(ctx context.Context, node string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(s.path(node)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	release, err := s.lock(ctx, "release "+node)
	if err != nil {
		return err
	}
	defer release()
	if _, err := state.Remove(s.path(node)); err != nil {
		return err
	}
	return s.sync()
}

// Hint says which nodes' records to read again.
type Hint struct {
	All   bool
	Nodes []string
}

func (s *fileStore) Watch(ctx context.Context) (<-chan Hint, error) {
	changes, err := watch.New(ctx, watch.Options{Dirs: []string{s.dir}})
	if err != nil {
		return nil, err
	}
	hints := make(chan Hint)
	go func() {
		for {
			var h Hint
			select {
			case <-ctx.Done():
				return
			case c := <-changes:
				h.All = c.All
				for path := range c.Paths {
					if node, ok := state.NodeOfPeer(path); ok {
						h.Nodes = append(h.Nodes, node)
					}
				}
			}
			if !h.All && len(h.Nodes) == 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case hints <- h:
			}
		}
	}()
	return hints, nil
}
