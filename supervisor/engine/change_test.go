package engine

import (
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

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
