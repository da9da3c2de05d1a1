package engine

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/watch"
)

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
