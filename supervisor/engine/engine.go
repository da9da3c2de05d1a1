package engine

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// Handle is a running process.
type Handle interface {
	Signal(s syscall.Signal) error      // to the process
	SignalGroup(s syscall.Signal) error // to it and all that it started
}

// Config is what an Engine works with. Channels and functions that are nil are not used.
type Config struct {
	RunDir state.Dir // absolute
	Log    *slog.Logger
	// Load reads the stage files.
	Load func() (g *graph.Graph, masked []string, err error)
	// Watch reports changes of files, and once a period everything.
	Watch func(ctx context.Context, files, dirs []string) (<-chan watch.Change, error)
	// Launch starts a stage's process, Adopt takes over one that runs. Store is what they leave for their next run.
	Launch func(s *stage.Stage, store *process.Store, on process.Callbacks) (process.Identity, Handle, error)
	Adopt  func(s *stage.Stage, id process.Identity, store *process.Store, on process.Callbacks) (Handle, error)
	// Orphans ends, before anything is started, every process of an earlier supervisor but those of
	// the stages it is told to keep.
	Orphans func(ctx context.Context, keep map[string]process.Identity, g *graph.Graph) error

	Reload  <-chan bool                  // read the stage files again; true: and try again what is held or delayed
	Hurry   <-chan struct{}              // while it ends: end the processes at once
	Beat    func()                       // called every BeatEvery by the loop that does all the work
	Started func()                       // called once, when the loop runs
	Status  func(line string, fine bool) // how the stages are, when that changes; fine: each is as it should be
	Fault   func(err error)              // the stage files cannot be read, or (nil) can again; may be nil

	BeatEvery time.Duration // 0: never
}

// Steady is how long a daemon must have been ready before its next failure counts as its first.
const Steady = 10 * time.Second

// Engine runs the stages of one run directory.
type Engine struct {
	Config
	graph    *graph.Graph
	masked   []string
	units    map[string]*unit
	events   chan message
	files    <-chan watch.Change
	unwatch  context.CancelFunc
	contents contents
	ending   bool
	hurried  bool
	line     string // last Status
	fine     bool
}

// unit is a stage and what the engine knows of it.
type unit struct {
	spec       *stage.Stage
	definition string
	m          Machine
	since      time.Time

	missing []string // required files that do not exist
	waived  []string // of these, the gates that are left out
	idle    bool     // only gates that are left out would come of it
	rival   string   // a stage that writes the same file and has it now
	gone    bool     // the stage file is no longer there

	run    int // distinguishes the messages of this process from those of the last
	proc   Handle
	id     process.Identity
	store  process.Store     // kept from run to run, until the stage may not run any longer
	sums   map[string]string // of what it watches, when it was started or signalled
	sum    string            // all of sums
	given  map[string]string // of the administrator's gates, when it was started
	reason string            // why it was started
	cause  string            // why it will be started next
	made   []string          // outputs that a oneshot left

	timer   *time.Timer
	tick    int // distinguishes the timer that counts from those that were stopped too late
	delay   time.Duration
	retryAt time.Time

	runs     int
	lastExit string
	status   string
	shown    state.Stage
}

// message is what other goroutines tell the loop.
type message struct {
	stage string
	run   int
	tick  int // of a timer
	kind  Kind
	end   process.End
	note  string
}

// New makes an engine; Run runs it.
func New(c Config) *Engine {
	return &Engine{Config: c, units: map[string]*unit{}, events: make(chan message)}
}

// Run supervises until ctx ends, then stops the processes, each after those that need what it
// writes, and returns. What the processes made stays.
func (e *Engine) Run(ctx context.Context) error {
	quit := make(chan struct{})
	defer close(quit)
	if err := e.load(ctx); err != nil {
		return err
	}
	defer func() { e.unwatch() }()
	if err := e.adopt(ctx, quit); err != nil {
		return err
	}
	e.settle(quit)
	e.publish()
	if e.Started != nil {
		e.Started()
	}
	var beat <-chan time.Time
	if e.BeatEvery > 0 {
		t := time.NewTicker(e.BeatEvery)
		defer t.Stop()
		beat = t.C
	}
	done := ctx.Done()
	for !e.ending || e.live() {
		select {
		case <-done:
			done, e.ending = nil, true
			e.Log.Info("ending: stopping the stages")
		case <-e.Hurry:
			e.hurry()
		case <-beat:
			e.Beat()
			continue
		case again := <-e.Reload:
			e.reload(ctx, quit, again)
		case c := <-e.files:
			e.look(c, quit)
		case m := <-e.events:
			e.receive(m, quit)
		}
		e.settle(quit)
		e.publish()
	}
	for _, u := range e.units {
		e.stopTimer(u)
		u.store.Clear()
	}
	return nil
}

func (e *Engine) live() bool {
	for _, u := range e.units {
		if u.m.Phase.Live() {
			return true
		}
	}
	return false
}

// ordered is the units, producers first; those whose stage file is gone come last.
func (e *Engine) ordered() []*unit {
	var out []*unit
	for _, s := range e.graph.Stages {
		if u := e.units[s.Name]; u != nil {
			out = append(out, u)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.units)) {
		if u := e.units[name]; !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out
}

// settle opens and closes stages until every one is as the files and the other stages ask.
func (e *Engine) settle(quit chan struct{}) {
	e.weigh()
	for range 2*len(e.units) + 2 {
		moved := false
		for _, u := range e.ordered() {
			open := e.mayRun(u)
			if open == u.m.Open {
				continue
			}
			moved = true
			ev := Event{Kind: Open}
			if !open {
				u.cause, ev.Kind = "", Close
			}
			e.apply(u, ev, quit)
		}
		if !moved {
			break
		}
	}
	for name, u := range e.units {
		if u.gone && !u.m.Phase.Live() {
			e.stopTimer(u)
			u.store.Clear()
			delete(e.units, name)
			e.vanish(name)
		}
	}
}

// mayRun says whether a stage may run now, and notes the rival that forbids it.
func (e *Engine) mayRun(u *unit) bool {
	u.rival = ""
	switch {
	case e.ending: // consumers end first
		return u.m.Open && slices.ContainsFunc(e.graph.Consumers(u.spec.Name), func(name string) bool {
			return e.units[name] != nil && e.units[name].m.Phase.Live()
		})
	case u.gone || len(u.lacks()) > 0:
		return false
	}
	for _, other := range e.ordered() {
		if other == u || graph.Conflict(u.spec, other.spec) == "" {
			continue
		}
		if other.m.Open || other.m.Phase.Live() {
			u.rival = other.spec.Name
			return false
		}
	}
	return true
}

// apply gives a stage an event and does what follows.
func (e *Engine) apply(u *unit, ev Event, quit chan struct{}) {
	if e.ending && (ev.Kind == Exited || !u.m.Phase.Live()) {
		u.m.Open = false // nothing is started any more
	}
	before := u.m
	next, actions := Next(u.spec, u.m, ev)
	u.m = next
	if next.Phase == Waiting {
		u.store.Clear()
	}
	started := slices.Contains(actions, Start)
	if next.Phase != before.Phase || started {
		u.since = time.Now()
		e.arm(u, quit)
	}
	for _, a := range actions {
		switch a {
		case Reset:
			u.delay = 0
		case Term:
			e.Log.Info("stopping stage", "stage", u.spec.Name, "reason", u.why(ev))
			e.send(u, syscall.SIGTERM)
		case Kill:
			e.Log.Warn("killing stage that does not end", "stage", u.spec.Name, "timeout", u.spec.StopTimeout)
			e.send(u, syscall.SIGKILL)
		case Signal:
			e.Log.Info("signalling stage", "stage", u.spec.Name, "signal", u.spec.Signal.String(), "reason", u.cause)
			if err := u.proc.Signal(u.spec.Signal); err != nil {
				e.Log.Error("cannot signal stage", "stage", u.spec.Name, "err", err)
			}
		case Start:
			e.start(u, quit)
		}
	}
}

func (u *unit) why(ev Event) string {
	switch {
	case ev.Kind == Timeout:
		return fmt.Sprintf("not ready after %s", u.spec.StartTimeout)
	case ev.Kind == Replace:
		return "its stage file changed"
	case ev.Kind == Change:
		return u.cause
	case u.gone:
		return "its stage file is gone"
	case len(u.lacks()) > 0:
		return u.lacks()[0] + " is gone"
	}
	return "the supervisor ends"
}

func (e *Engine) send(u *unit, s syscall.Signal) {
	if err := u.proc.SignalGroup(s); err != nil {
		e.Log.Debug("cannot signal process group", "stage", u.spec.Name, "err", err) // it has ended meanwhile
	}
}

// arm starts the timer of the phase.
func (e *Engine) arm(u *unit, quit chan struct{}) {
	e.stopTimer(u)
	var d time.Duration
	switch u.m.Phase {
	case Starting:
		d = u.spec.StartTimeout
	case Ready:
		d = Steady
	case Stopping:
		d = u.spec.StopTimeout
	case Backoff:
		u.delay = min(max(2*u.delay, u.spec.BackoffInitial), u.spec.BackoffCap)
		d = u.delay/2 + rand.N(u.delay/2+1)
		u.retryAt = time.Now().Add(d)
	}
	if d <= 0 {
		return
	}
	m := message{stage: u.spec.Name, tick: u.tick, kind: Timeout}
	u.timer = time.AfterFunc(d, func() { e.tell(m, quit) })
}

func (e *Engine) stopTimer(u *unit) {
	u.tick++
	u.retryAt = time.Time{}
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
}

func (e *Engine) tell(m message, quit chan struct{}) {
	select {
	case e.events <- m:
	case <-quit:
	}
}

func (e *Engine) hurry() {
	if !e.ending || e.hurried {
		return
	}
	e.hurried = true
	e.Log.Warn("told twice: killing the stages")
	for _, u := range e.units {
		if u.m.Phase.Live() {
			u.m.Open = false
			e.send(u, syscall.SIGKILL)
		}
	}
}
