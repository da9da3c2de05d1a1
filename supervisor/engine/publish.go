package engine

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/supervisor/stage"
)

// Stopped and Masked are states of a stage beside the phases: the supervisor has ended, and the
// stage file is masked.
const (
	Stopped = "stopped"
	Masked  = "masked"
)

// publish writes the files of the stages whose state changed.
func (e *Engine) publish() {
	missing := map[string][]string{}
	ready := 0
	for name, u := range e.units {
		if u.m.Phase == Waiting {
			missing[name] = u.lacks()
		}
	}
	idle := e.graph.Idle(missing, func(name string) bool {
		u := e.units[name]
		return u != nil && (u.m.Phase == Ready || u.m.Phase == Done)
	})
	var behind []string
	for _, u := range e.ordered() {
		s := e.show(u)
		s.Idle = (idle[u.spec.Name] || u.idle) && s.State == Waiting.String()
		if Fine(s) {
			ready++
		} else {
			behind = append(behind, s.Stage+" "+How(s))
		}
		e.write(u.shown, s)
		u.shown = s
	}
	line := fmt.Sprintf("%d of %d stages at work", ready, len(e.units))
	if len(behind) > 0 {
		line += ": " + strings.Join(behind, ", ")
	}
	fine := len(behind) == 0 && len(e.units) > 0 && !e.ending
	if e.Status != nil && (line != e.line || fine != e.fine) {
		e.Status(line, fine)
	}
	e.line, e.fine = line, fine
}

// Fine says whether a stage is as it should be: at work, done, or with nothing to do on this node.
func Fine(s state.Stage) bool {
	return How(s) == Ready.String() || s.State == Done.String() || s.State == Masked || s.Idle
}

// How is the state of a stage in one word: that of a process that runs and cannot do what its inputs ask is
// "failing".
func How(s state.Stage) string {
	if s.State == Ready.String() && strings.HasPrefix(s.Status, state.Failing) { // else it is what the process said before
		return "failing"
	}
	return s.State
}

func (e *Engine) write(was, is state.Stage) {
	if reflect.DeepEqual(was, is) {
		return
	}
	if _, err := state.Save(e.RunDir.Stage(is.Stage), is); err != nil {
		e.Log.Error("cannot write the state of a stage", "stage", is.Stage, "err", err)
	}
}

// showMasked writes the files of the masked stages.
func (e *Engine) showMasked() {
	for _, name := range e.masked {
		if e.units[name] == nil {
			e.write(state.Stage{}, state.Stage{Version: state.Version, Stage: name, State: Masked})
		}
	}
}

// vanish removes the file of a stage that is no more, or says that it is masked.
func (e *Engine) vanish(name string) {
	if slices.Contains(e.masked, name) {
		e.showMasked()
		return
	}
	if _, err := state.Remove(e.RunDir.Stage(name)); err != nil {
		e.Log.Error("cannot remove the state of a stage", "stage", name, "err", err)
	}
}

func (e *Engine) show(u *unit) state.Stage {
	s := state.Stage{
		Version: state.Version, Stage: u.spec.Name, State: u.m.Phase.String(), Summary: u.spec.Summary, Runs: u.runs,
		LastExit: u.lastExit, Status: u.status, Since: age(u.since), LeftOut: u.waived,
	}
	if u.runs > 0 {
		s.LastReason, s.Definition, s.Inputs = u.reason, u.definition, u.sum
	}
	switch {
	case u.m.Phase.Live():
		s.PID, s.Started = u.id.PID, u.id.Start
		if u.m.Phase == Starting && u.spec.Mode == stage.Oneshot {
			s.State = "running"
		}
	case e.ending:
		s.State = Stopped
	case u.m.Phase == Waiting && u.rival != "":
		s.State, s.WaitsFor = Held.String(), []string{"stage " + u.rival}
	case u.m.Phase == Waiting:
		s.WaitsFor = u.lacks()
	case u.m.Phase == Held:
		for _, name := range append(u.spec.Watched(), givenTo(e.graph, u.spec)...) {
			s.WaitsFor = append(s.WaitsFor, "a change of "+name)
		}
		s.WaitsFor = append(s.WaitsFor, "a change of "+u.spec.File)
	case u.m.Phase == Backoff:
		s.NextRetry = age(u.retryAt)
	}
	return s
}
