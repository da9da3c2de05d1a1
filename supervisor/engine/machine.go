// Package engine runs stages: it starts each when the files it needs exist, restarts it when it
// ends, runs it again when an input changed, and writes what it knows to supervisor/STAGE.json. It
// knows files and processes, nothing of networks.
package engine

import "github.com/towpath/towpath/supervisor/stage"

// Phase is where a stage is.
type Phase int

// The phases. A process lives in Starting, Ready and Stopping.
const (
	Waiting  Phase = iota // for files, or for a stage that writes the same file
	Held                  // the last run ended so that only a change can help
	Starting              // the process runs; its outputs do not stand yet
	Ready                 // the process runs and said that its outputs stand
	Done                  // the process ended well and need not run
	Backoff               // the process ended badly and is started again after a delay
	Stopping              // the process was told to end
)

var phases = [...]string{"waiting", "held", "starting", "ready", "done", "backoff", "stopping"}

func (p Phase) String() string { return phases[p] }

// Live says whether the stage has a process.
func (p Phase) Live() bool { return p == Starting || p == Ready || p == Stopping }

// Then is what follows once a process that was told to end has ended, if the stage may still run.
type Then int

// What follows Stopping.
const (
	Again Then = iota // start at once
	Retry             // start after a delay
)

// Machine is the state of a stage. Every phase but Waiting, Ready, Held and Done has a timer, and
// Ready one that fires once, when the process has lasted.
type Machine struct {
	Phase Phase
	Open  bool // the files are there and nothing else forbids that it runs
	Then  Then // in Stopping
}

// Kind is a kind of event.
type Kind int

// The kinds of events.
const (
	Open     Kind = iota // the stage may run
	Close                // it may not any longer
	Change               // the content of an input changed since the last run
	Replace              // the stage file changed
	Notified             // the process says that its outputs stand
	Exited               // the process ended
	Timeout              // the timer of the phase fired
)

var kinds = [...]string{"open", "close", "change", "replace", "notified", "exited", "timeout"}

func (k Kind) String() string { return kinds[k] }

// Outcome is how a process ended.
type Outcome int

// The outcomes.
const (
	Success Outcome = iota // exit status 0
	Failure                // worth trying again
	Await                  // not worth trying again before something changes: 64, 65, 77, 78
	Unknown                // the process was another supervisor's child: its status is not to be had
)

var outcomes = [...]string{"success", "failure", "await", "unknown"}

func (o Outcome) String() string { return outcomes[o] }

// Event is something that happened to a stage.
type Event struct {
	Kind    Kind
	Outcome Outcome // of Exited
	Changed bool    // of Exited: an input changed since the process was started
}

// Action is something to do.
type Action int

// The actions.
const (
	Start  Action = iota // start the process
	Term                 // tell the process group to end
	Kill                 // end the process group
	Signal               // send the stage's signal
	Reset                // the next delay is the shortest again
)

var actions = [...]string{"start", "term", "kill", "signal", "reset"}

func (a Action) String() string { return actions[a] }

// Next is the whole of supervision: what a stage becomes by an event, and what is to be done. An
// event that a phase has no use for changes nothing.
func Next(s *stage.Stage, m Machine, e Event) (Machine, []Action) {
	switch e.Kind {
	case Open:
		m.Open = true
	case Close:
		m.Open = false
	}
	if m.Phase.Live() {
		return nextLive(s, m, e)
	}
	switch {
	case e.Kind == Close:
		return to(m, Waiting)
	case !m.Open:
		return m, nil
	case e.Kind == Replace:
		return start(s, m, Reset)
	case m.Phase == Waiting && e.Kind == Open:
		return start(s, m)
	case m.Phase == Held && e.Kind == Change:
		return start(s, m)
	case m.Phase == Done && e.Kind == Change && s.OnChange != stage.Nothing:
		return start(s, m)
	case m.Phase == Backoff && (e.Kind == Timeout || e.Kind == Change):
		return start(s, m)
	}
	return m, nil
}

func nextLive(s *stage.Stage, m Machine, e Event) (Machine, []Action) {
	if m.Phase == Stopping {
		switch {
		case e.Kind == Timeout:
			return m, []Action{Kill}
		case e.Kind == Replace:
			m.Then = Again
		case e.Kind != Exited:
		case !m.Open:
			return to(m, Waiting)
		case m.Then == Retry && !e.Changed:
			return to(m, Backoff)
		default:
			return start(s, m)
		}
		return m, nil
	}
	switch e.Kind {
	case Close:
		return stop(m, Again)
	case Replace:
		return stop(m, Again, Reset)
	case Notified:
		if m.Phase == Starting && s.Ready == stage.Notify {
			return to(m, Ready)
		}
	case Timeout:
		if m.Phase == Starting {
			return stop(m, Retry)
		}
		return m, []Action{Reset} // Ready for long enough
	case Change:
		switch {
		case s.OnChange == stage.Restart:
			return stop(m, Again)
		case s.OnChange == stage.Signal && m.Phase == Ready: // before that the signal might end it
			return m, []Action{Signal}
		}
		// rerun: the change shows again when the run that is on has ended
	case Exited:
		return exited(s, m, e)
	}
	return m, nil
}

// exited decides what follows a process that ended by itself.
func exited(s *stage.Stage, m Machine, e Event) (Machine, []Action) {
	oneshot := s.Mode == stage.Oneshot
	switch {
	case !m.Open:
		return to(m, Waiting)
	case e.Outcome == Unknown && oneshot: // run it once more to know
		return start(s, m)
	case e.Outcome == Success && (oneshot || s.Restart != stage.Always):
		if e.Changed && s.OnChange != stage.Nothing {
			return start(s, m, Reset)
		}
		return to(m, Done, Reset)
	case e.Outcome == Await, s.Restart == stage.Never:
		if e.Changed {
			return start(s, m)
		}
		return to(m, Held)
	}
	return to(m, Backoff)
}

func to(m Machine, p Phase, do ...Action) (Machine, []Action) {
	return Machine{Phase: p, Open: m.Open}, do
}

func start(s *stage.Stage, m Machine, do ...Action) (Machine, []Action) {
	phase := Starting
	if s.Ready == stage.Start {
		phase = Ready
	}
	return to(m, phase, append(do, Start)...)
}

func stop(m Machine, then Then, do ...Action) (Machine, []Action) {
	return Machine{Phase: Stopping, Open: m.Open, Then: then}, append(do, Term)
}
