package engine

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/lib/watch"
)

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
