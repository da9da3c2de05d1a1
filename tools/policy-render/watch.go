package main

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/objects"
)

// watcher is the loop of the verb watch. One goroutine owns the world; the sources only send.
type watcher struct {
	*step
	world  *world
	ready  func()
	writer writer
	cutter cutter

	synced                bool                    // all objects were told of: there is something to conclude from what is missing
	broken                []error                 // objects that cannot be read
	awaits                string                  // objects that were not told of yet
	faults                map[string]error        // files that cannot be read
	loaded                string                  // generation that the kernel holds
	affected              map[netip.Addr]struct{} // since the last write
	written               []written               // generations that the kernel has not got yet, and before them the one it has
	reprint               bool                    // the lease changed
	stands                bool
	retry                 keep.Backoff
	lastError, lastStatus string
}

// cutter cuts what the rules no longer allow. Its methods are called on the watcher's goroutine.
type cutter interface {
	// after is called when the kernel holds rules that may judge the connections of these addresses in another way.
	after(affected []netip.Addr)
	// work is what the cutter wants to have called on the watcher's goroutine.
	work() <-chan func(context.Context, *model.Cluster)
}

// newCutter makes the cutter of a watch, nil where nothing is cut.
var newCutter = startCutting

// gcPercent lets the heap grow by less than Go's 100 before it is collected: most of it is the objects, which stay, and a
// program on every node is to be small (100,000 pods: 194 MiB instead of 260, for a fifth more time at the start).
const gcPercent = 35

// Watch keeps the files as the inputs ask.
func (s *step) Watch(ctx context.Context, ready func()) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if s.options.output != "" {
		return exit.WithHint(exit.Errorf(exit.Usage, "watch takes no --output"), "it writes policy/ and policy.nft in the run directory")
	}
	files, err := watch.New(ctx, watch.Options{
		Files: []string{s.dir.Lease(), s.dir.PolicyLoaded(), s.dir.PolicyNFT()}, Dirs: append(outputDirs(s.dir), s.dir.Endpoints()), Period: keep.Period,
	})
	if err != nil {
		return err
	}
	w := &watcher{step: s, ready: ready, faults: map[string]error{}, affected: map[netip.Addr]struct{}{}, writer: writer{dir: s.dir}}
	if ok, err := w.awaitLease(ctx, files); !ok {
		return err
	}
	source, err := s.options.origin.open()
	if err != nil {
		return err
	}
	events, err := source.Watch(ctx)
	if err != nil {
		return err
	}
	if s.options.render.CutMark != 0 {
		if w.cutter, err = newCutter(ctx, s); err != nil {
			return err
		}
	}
	w.readEndpoints()
	w.readLoaded()
	if s.options.origin.live() {
		if err := w.close(); err != nil {
			return err
		}
	}
	return w.run(ctx, files, events)
}

// awaitLease reads the first lease. Without it nothing is known of the node.
func (w *watcher) awaitLease(ctx context.Context, files <-chan watch.Change) (bool, error) {
	for {
		lease, err := state.Load[state.Lease](w.dir.Lease())
		if err == nil {
			if w.options.node == "" {
				w.options.node = lease.Node
			}
			w.world = newWorld(w.options.node, withLease(w.options.render, &lease))
			if w.options.origin.live() {
				w.world.cluster.RequireNamespaces()
			}
			return true, nil
		}
		if exit.Of(err).AwaitsChange() {
			return false, err
		}
		w.report(err)
		select {
		case <-ctx.Done():
			return false, nil
		case <-files:
		case <-time.After(w.retry.Next()):
		}
	}
}

func (w *watcher) run(ctx context.Context, files <-chan watch.Change, events <-chan []objects.Event) error {
	var again <-chan time.Time
	var cuts <-chan func(context.Context, *model.Cluster)
	if w.cutter != nil {
		cuts = w.cutter.work()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-events:
			w.take(batch)
		case c := <-files:
			if !w.changed(c) {
				continue
			}
		case f := <-cuts:
			f(ctx, w.world.cluster)
			continue
		case <-again:
		}
		for more := true; more; { // a burst is one change
			select {
			case batch := <-events:
				w.take(batch)
			default:
				more = false
			}
		}
		w.checkBridges()
		if err := w.start(); err != nil {
			return err
		}
		again = nil
		if !w.synced {
			w.report(nil)
			continue
		}
		err := w.settle()
		if w.report(err); err != nil {
			again = time.After(w.retry.Next())
			continue
		}
		w.retry.Reset()
		w.cut()
	}
}

// start ends the program where the first objects cannot be read: without one of them the rules would be wider than meant,
// and what was loaded before is better.
func (w *watcher) start() error {
	if w.stands {
		return nil
	}
	for _, err := range w.broken {
		if exit.Of(err).AwaitsChange() {
			return err
		}
	}
	for _, err := range w.faults {
		if exit.Of(err).AwaitsChange() {
			return err
		}
	}
	return nil
}

// take brings events of objects into the cluster.
func (w *watcher) take(batch []objects.Event) {
	for i := range batch {
		e := &batch[i]
		w.synced = w.synced || e.Synced
		if e.Status {
			w.broken, w.awaits = e.Faults, e.Awaits
		}
		if err := e.Apply(w.world.cluster); err != nil {
			w.broken = append(w.broken, err)
		}
	}
}

// changed reads the files again that changed. It says whether there is anything to do: most changes of the outputs are our own.
func (w *watcher) changed(c watch.Change) (due bool) {
	w.writer.verify(c)
	due = c.All || w.writer.broken
	if c.Has(w.dir.Lease()) {
		w.readLease()
		due = true
	}
	if c.Has(w.dir.PolicyLoaded()) {
		w.readLoaded()
		due = true
	}
	if c.All {
		w.readEndpoints()
		return true
	}
	for path := range c.Paths {
		if filepath.Dir(path) == w.dir.Endpoints() && isEndpoint(path) {
			w.readEndpoint(path)
			due = true
		}
	}
	return due
}

func (w *watcher) readLease() {
	path := w.dir.Lease()
	lease, err := state.Load[state.Lease](path)
	if err != nil {
		w.faults[path] = err
		return
	}
	delete(w.faults, path)
	if c := withLease(w.options.render, &lease); c != w.world.config {
		w.world.config, w.reprint = c, true
	}
}

// readLoaded asks what the kernel holds. No file means nobody says; that is no fault of ours to report.
func (w *watcher) readLoaded() {
	path := w.dir.PolicyLoaded()
	l, err := state.Load[state.PolicyLoaded](path)
	delete(w.faults, path)
	switch {
	case err == nil:
		w.loaded = l.Generation
	case !errors.Is(err, fs.ErrNotExist):
		w.faults[path] = err
	}
}

func (w *watcher) readEndpoints() {
	paths, err := endpointFiles(w.dir)
	delete(w.faults, w.dir.Endpoints())
	if err != nil {
		w.faults[w.dir.Endpoints()] = err
		return
	}
	there := map[string]bool{}
	for _, path := range paths {
		there[endpointID(path)] = true
		w.readEndpoint(path)
	}
	for id := range w.world.endpoints {
		if !there[id] {
			w.world.deleteEndpoint(id)
		}
	}
	for path := range w.faults {
		if filepath.Dir(path) == w.dir.Endpoints() && !there[endpointID(path)] {
			delete(w.faults, path)
		}
	}
}

// readEndpoint reads one again. One that cannot be read stays what it was.
func (w *watcher) readEndpoint(path string) {
	e, err := readEndpoint(path)
	delete(w.faults, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, ok := w.world.endpoints[endpointID(path)]; ok {
			w.world.deleteEndpoint(endpointID(path))
		}
	case err != nil:
		w.faults[path] = err
	case !same(w.world.endpoints[e.ID], e):
		w.world.setEndpoint(e)
	}
}
