package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// world is a run directory, stage files and processes that do what the test tells them, in a bubble
// where time passes only when nothing else can.
type world struct {
	t       *testing.T
	dir     state.Dir
	files   map[string]string // stage files
	changes chan watch.Change
	reload  chan bool
	hurry   chan struct{}
	mu      sync.Mutex
	procs   map[string]*fake // by stage, the last one
	starts  map[string][]time.Time
	refuse  atomic.Bool // launches fail
	beats   int
	cancel  context.CancelFunc
	ended   chan error
}

type fake struct {
	on      process.Callbacks
	signals []syscall.Signal
	deaf    atomic.Bool // does not end by TERM
	over    atomic.Bool
}

func (f *fake) Signal(s syscall.Signal) error {
	f.signals = append(f.signals, s)
	return nil
}

func (f *fake) SignalGroup(s syscall.Signal) error {
	f.signals = append(f.signals, s)
	if s == syscall.SIGKILL || s == syscall.SIGTERM && !f.deaf.Load() {
		go f.end(process.End{Known: true, Signal: s})
	}
	return nil
}

func (f *fake) end(e process.End) {
	if f.over.CompareAndSwap(false, true) {
		f.on.Ended(e)
	}
}

// bubble runs test with an engine over the stage files, and ends the engine afterwards.
func bubble(t *testing.T, files map[string]string, test func(w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, dir: state.Dir(dir), files: files, changes: make(chan watch.Change), reload: make(chan bool), hurry: make(chan struct{}),
			procs: map[string]*fake{}, starts: map[string][]time.Time{}, ended: make(chan error, 1),
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel = cancel
		e := New(Config{
			RunDir: w.dir, Log: slog.New(slog.DiscardHandler), Load: w.load,
			Watch:  func(context.Context, []string, []string) (<-chan watch.Change, error) { return w.changes, nil },
			Launch: w.launch,
			Adopt: func(*stage.Stage, process.Identity, *process.Store, process.Callbacks) (Handle, error) {
				return nil, errors.New("not here")
			},
			Orphans: func(context.Context, map[string]process.Identity, *graph.Graph) error { return nil },
			Reload:  w.reload, Hurry: w.hurry, Beat: func() { w.beats++ }, BeatEvery: 10 * time.Second,
		})
		go func() { w.ended <- e.Run(ctx) }()
		synctest.Wait()
		test(w)
		cancel()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
		for name, p := range w.procs {
			if !p.over.Load() {
				t.Errorf("%s runs on after the end", name)
			}
		}
	})
}

func (w *world) load() (*graph.Graph, []string, error) {
	var stages []*stage.Stage
	for name, text := range w.files {
		s, err := stage.Parse(name+".toml", []byte(text), os.LookupEnv)
		if err != nil {
			return nil, nil, err
		}
		stages = append(stages, s)
	}
	g, err := graph.Build(stages)
	return g, nil, err
}

func (w *world) launch(s *stage.Stage, _ *process.Store, on process.Callbacks) (process.Identity, Handle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starts[s.Name] = append(w.starts[s.Name], time.Now())
	if w.refuse.Load() {
		return process.Identity{}, nil, errors.New("no such program")
	}
	if p := w.procs[s.Name]; p != nil && !p.over.Load() {
		w.t.Errorf("%s is started twice", s.Name)
	}
	p := &fake{on: on}
	w.procs[s.Name] = p
	return process.Identity{PID: 7, Start: 7}, p, nil
}

func (w *world) proc(name string) *fake {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.procs[name]
}

func (w *world) started(name string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.starts[name])
}

// put writes a file of the run directory and says so to the engine; text "" removes it.
func (w *world) put(name, text string) {
	w.t.Helper()
	path := filepath.Join(string(w.dir), name)
	err := os.Remove(path)
	if text != "" {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.changes <- watch.Change{Paths: map[string]struct{}{path: {}}}
	synctest.Wait()
}

func (w *world) say(name, note string) {
	w.proc(name).on.Notified(note)
	synctest.Wait()
}

func (w *world) exit(name string, code int) {
	w.proc(name).end(process.End{Known: true, Code: code})
	synctest.Wait()
}

func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *world) want(name, want string) {
	w.t.Helper()
	s, err := state.Load[state.Stage](w.dir.Stage(name))
	if err != nil {
		w.t.Fatal(err)
	}
	got := s.State
	if len(s.WaitsFor) > 0 {
		got += ": " + strings.Join(s.WaitsFor, ", ")
	}
	if got != want {
		w.t.Errorf("%s is %q, want %q", name, got, want)
	}
}
