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

	"github.com/google/go-cmp/cmp"

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
			Adopt: func(*stage.Stage, process.Identity, process.Callbacks) (Handle, error) {
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

func (w *world) launch(s *stage.Stage, on process.Callbacks) (process.Identity, Handle, error) {
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

func TestBackoffGrowsAndIsResetByLasting(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\nbackoff-initial = \"1s\"\nbackoff-cap = \"8s\""}, func(w *world) {
		for range 6 {
			w.exit("a", 1)
			w.want("a", "backoff")
			w.pass(8 * time.Second)
			w.want("a", "starting")
		}
		starts := w.started("a")
		// 6 failures, each 8 s apart on the clock of the test; the starts in between came earlier
		for i, most := range []time.Duration{1, 2, 4, 8, 8, 8} {
			failed := starts[0].Add(time.Duration(i) * 8 * time.Second)
			if d := starts[i+1].Sub(failed); d < most*time.Second/2 || d > most*time.Second {
				t.Errorf("delay %d is %s, want %d s or up to half less", i+1, d, most)
			}
		}
		w.say("a", "READY=1")
		w.pass(Steady - time.Second)
		w.exit("a", 1)
		again := time.Now()
		w.pass(8 * time.Second)
		if d := w.started("a")[7].Sub(again); d < 4*time.Second {
			t.Errorf("delay %s after being ready for less than %s", d, Steady)
		}
		w.say("a", "READY=1")
		w.pass(Steady + time.Second)
		w.exit("a", 1)
		again = time.Now()
		w.pass(8 * time.Second)
		if d := w.started("a")[8].Sub(again); d > time.Second {
			t.Errorf("delay %s after being ready for longer than %s", d, Steady)
		}
	})
}

func TestStartTimeout(t *testing.T) {
	files := map[string]string{
		"a": "command = [\"a\"]\nstart-timeout = \"5s\"\nstop-timeout = \"3s\"",
		"b": "command = [\"b\"]\nstart-timeout = \"0s\"",
	}
	bubble(t, files, func(w *world) {
		w.proc("a").deaf.Store(true)
		first := w.proc("a")
		w.pass(4 * time.Second)
		w.want("a", "starting")
		w.pass(2 * time.Second)
		w.want("a", "stopping")
		w.pass(3 * time.Second)
		if diff := cmp.Diff([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}, first.signals); diff != "" {
			t.Error(diff)
		}
		w.pass(time.Second)
		w.want("a", "starting")
		if len(w.started("a")) != 2 {
			t.Errorf("%d starts", len(w.started("a")))
		}
		w.pass(time.Hour)
		if len(w.started("b")) != 1 {
			t.Errorf("a stage that may take any time is started %d times", len(w.started("b")))
		}
	})
}

func TestHeldUntilAnInputChanges(t *testing.T) {
	for _, code := range []int{64, 65, 77, 78} {
		bubble(t, map[string]string{"a": "command = [\"a\"]\ninputs = [\"in\"]\non-change = \"none\""}, func(w *world) {
			w.put("in", "bad")
			w.exit("a", code)
			w.want("a", "held: a change of in, a change of a.toml")
			w.pass(time.Hour)
			w.put("in", "bad")
			w.want("a", "held: a change of in, a change of a.toml")
			w.put("in", "good")
			w.want("a", "starting")
			w.exit("a", code)
			w.reload <- false
			synctest.Wait()
			w.want("a", "held: a change of in, a change of a.toml")
			w.reload <- true
			synctest.Wait()
			w.want("a", "starting")
			w.exit("a", code)
			w.files["a"] += "\nstop-timeout = \"1s\""
			w.reload <- false
			synctest.Wait()
			w.want("a", "starting")
			if len(w.started("a")) != 4 {
				t.Errorf("exit status %d: %d starts", code, len(w.started("a")))
			}
		})
	}
}

func TestChangeBehindAFailureIsNotLost(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\ninputs = [\"in\"]\non-change = \"none\""}, func(w *world) {
		w.put("in", "bad")
		w.put("in", "good") // the process read it too early
		w.want("a", "starting")
		w.exit("a", 65)
		w.want("a", "starting")
	})
}

func TestChangesWhileAOneshotRuns(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\ninputs = [\"in\"]\nmode = \"oneshot\""}, func(w *world) {
		w.put("in", "1")
		for _, text := range []string{"2", "3", "4"} {
			w.put("in", text)
			w.want("a", "running")
		}
		w.exit("a", 0)
		w.want("a", "running")
		w.exit("a", 0)
		w.want("a", "done")
		w.put("in", "5")
		w.want("a", "running")
		w.put("in", "6")
		w.put("in", "5")
		w.exit("a", 0)
		w.want("a", "done")
		if n := len(w.started("a")); n != 3 {
			t.Errorf("%d runs for 1, then 2 to 4, then 5 that changed and changed back; want 3", n)
		}
	})
}

func TestOutputOfAOneshotIsGone(t *testing.T) {
	files := map[string]string{
		"a": "command = [\"a\"]\nmode = \"oneshot\"\noutputs = [\"x\", \"never\"]",
		"b": "command = [\"b\"]\nmode = \"oneshot\"\noutputs = [\"y\"]\non-change = \"none\"",
	}
	bubble(t, files, func(w *world) {
		w.put("x", "1")
		w.put("y", "1")
		w.exit("a", 0)
		w.exit("b", 0)
		w.put("x", "2") // what it writes is not what it reads
		w.want("a", "done")
		w.put("x", "")
		w.want("a", "running")
		w.exit("a", 0) // it does not write it any more: that is not tried for ever
		w.changes <- watch.Change{All: true}
		synctest.Wait()
		w.want("a", "done")
		w.put("y", "")
		w.want("b", "done")
	})
}

func TestRestartAndSignalOnChange(t *testing.T) {
	files := map[string]string{
		"r": "command = [\"r\"]\ninputs = [\"in\"]",
		"s": "command = [\"s\"]\ninputs = [\"in\"]\non-change = \"signal\"\nsignal = \"USR1\"",
		"o": "command = [\"o\"]\noptional = [\"in\"]",
	}
	bubble(t, files, func(w *world) {
		w.put("in", "1")
		w.want("o", "starting")
		if len(w.started("o")) != 2 {
			t.Errorf("an optional input that appears: %d starts", len(w.started("o")))
		}
		signalled := w.proc("s")
		w.put("in", "2") // not ready: a signal might end it
		if len(signalled.signals) != 0 {
			t.Errorf("signals before it is ready: %v", signalled.signals)
		}
		w.say("s", "READY=1")
		w.say("r", "READY=1")
		if diff := cmp.Diff([]syscall.Signal{syscall.SIGUSR1}, signalled.signals); diff != "" {
			t.Errorf("the change while it started: %s", diff)
		}
		w.put("in", "2")
		w.put("in", "3")
		if diff := cmp.Diff([]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR1}, signalled.signals); diff != "" {
			t.Error(diff)
		}
		if n := len(w.started("r")); n != 3 {
			t.Errorf("%d starts for 3 contents", n)
		}
		w.want("s", "ready")
	})
}

func TestGateGoesAndComesBack(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\ngates = [\"gate\"]\nstop-timeout = \"3s\""}, func(w *world) {
		w.want("a", "waiting: gate")
		w.put("gate", "1")
		w.say("a", "READY=1\nSTATUS=all is\twell")
		w.want("a", "ready")
		if s, _ := state.Load[state.Stage](w.dir.Stage("a")); s.Status != "all is well" {
			t.Errorf("status %q", s.Status)
		}
		w.put("gate", "2")
		w.want("a", "ready")
		w.proc("a").deaf.Store(true)
		w.put("gate", "")
		w.want("a", "stopping")
		w.put("gate", "3")
		w.want("a", "stopping")
		w.pass(4 * time.Second)
		w.want("a", "starting")
	})
}

func TestRivals(t *testing.T) {
	files := map[string]string{
		"x": "command = [\"x\"]\ninputs = [\"x.json\"]\noutputs = [\"link\"]",
		"y": "command = [\"y\"]\ninputs = [\"y.json\"]\noutputs = [\"link\"]",
	}
	bubble(t, files, func(w *world) {
		w.put("y.json", "1")
		w.say("y", "READY=1")
		w.put("x.json", "1")
		w.want("x", "held: stage y")
		w.want("y", "ready")
		w.proc("y").deaf.Store(true)
		w.put("y.json", "")
		w.want("y", "stopping")
		w.want("x", "held: stage y")
		w.exit("y", 0)
		w.want("y", "waiting: y.json")
		w.want("x", "starting")
	})
}

func TestEndsInReverseOrder(t *testing.T) {
	files := map[string]string{
		"a": "command = [\"a\"]\noutputs = [\"x\"]",
		"b": "command = [\"b\"]\ninputs = [\"x\"]\noutputs = [\"y\"]\nstop-timeout = \"5s\"",
		"c": "command = [\"c\"]\ninputs = [\"y\"]",
	}
	bubble(t, files, func(w *world) {
		w.put("x", "1")
		w.put("y", "1")
		w.say("a", "READY=1")
		for _, p := range w.procs {
			p.deaf.Store(true)
		}
		told := func() string {
			var names []string
			for name, p := range w.procs {
				if len(p.signals) > 0 {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return strings.Join(names, "")
		}
		w.cancel()
		synctest.Wait()
		if got := told(); got != "c" {
			t.Errorf("told to end first: %q", got)
		}
		w.exit("c", 1)
		if got := told(); got != "bc" {
			t.Errorf("told to end then: %q", got)
		}
		w.say("a", "STATUS=still here") // does not keep it from being told
		w.pass(6 * time.Second)
		if got := told(); got != "abc" {
			t.Errorf("told to end in the end: %q", got)
		}
		w.exit("a", 0)
		for _, name := range []string{"a", "b", "c"} {
			w.want(name, "stopped")
		}
		if len(w.started("c")) != 1 {
			t.Error("a stage is started again while all end")
		}
	})
}

func TestHurry(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\noutputs = [\"x\"]", "b": "command = [\"b\"]\ninputs = [\"x\"]"}, func(w *world) {
		w.put("x", "1")
		w.proc("a").deaf.Store(true)
		w.proc("b").deaf.Store(true)
		w.cancel()
		synctest.Wait()
		before := time.Now()
		w.hurry <- struct{}{}
		synctest.Wait()
		if !w.proc("a").over.Load() || !w.proc("b").over.Load() || time.Since(before) > 0 {
			t.Error("told twice, it does not end at once")
		}
	})
}

func TestProgramThatCannotBeStarted(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\ngates = [\"g\"]"}, func(w *world) {
		w.refuse.Store(true)
		w.put("g", "1")
		w.want("a", "backoff")
		w.pass(time.Minute)
		if n := len(w.started("a")); n < 5 || n > 20 {
			t.Errorf("%d tries in a minute", n)
		}
		w.refuse.Store(false)
		w.pass(31 * time.Second)
		w.want("a", "starting")
	})
}

func TestReload(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]", "b": "command = [\"b\"]"}, func(w *world) {
		first := w.proc("a")
		w.files["b"] = "nonsense"
		w.reload <- false
		synctest.Wait()
		w.want("b", "starting")
		delete(w.files, "b")
		w.files["a"] = "command = [\"a\", \"-v\"]"
		w.files["c"] = "command = [\"c\"]"
		w.reload <- false
		synctest.Wait()
		if !first.over.Load() || len(w.started("a")) != 2 || !w.proc("b").over.Load() || len(w.started("c")) != 1 {
			t.Errorf("starts %v", w.starts)
		}
		if _, err := os.Stat(w.dir.Stage("b")); !os.IsNotExist(err) {
			t.Errorf("the file of the stage that is gone: %v", err)
		}
		w.files["a"] = "# nothing else\ncommand = [\"a\", \"-v\"]"
		w.reload <- true
		synctest.Wait()
		if len(w.started("a")) != 2 {
			t.Error("a comment restarts the stage")
		}
		w.files["a"] = "command = [\"a\"]\ninputs = [\"none\"]"
		w.reload <- false
		synctest.Wait()
		w.want("a", "waiting: none")
	})
}

// TestIdleCostsNothing: an hour in which nothing happens starts nothing and writes nothing.
func TestIdleCostsNothing(t *testing.T) {
	bubble(t, map[string]string{"a": "command = [\"a\"]\ninputs = [\"in\"]", "o": "command = [\"o\"]\nmode = \"oneshot\"\ninputs = [\"in\"]"}, func(w *world) {
		w.put("in", "1")
		w.say("a", "READY=1")
		w.exit("o", 0)
		before, err := os.Stat(w.dir.Stage("a"))
		if err != nil {
			t.Fatal(err)
		}
		for range 120 {
			w.pass(30 * time.Second)
			w.changes <- watch.Change{All: true}
			w.say("a", "STATUS=")
		}
		after, err := os.Stat(w.dir.Stage("a"))
		if err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
			t.Error("its file is written though nothing changed")
		}
		if len(w.started("a")) != 1 || len(w.started("o")) != 1 {
			t.Errorf("starts %v", w.starts)
		}
		if w.beats < 300 {
			t.Errorf("%d beats of the watchdog in an hour", w.beats)
		}
		if err := os.Remove(w.dir.Stage("a")); err != nil {
			t.Fatal(err)
		}
		w.changes <- watch.Change{All: true}
		synctest.Wait()
		w.want("a", "ready")
	})
}
