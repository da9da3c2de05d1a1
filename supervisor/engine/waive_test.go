package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// optionalPolicy is a chain that is there only where the administrator has made a directory, and a
// oneshot that comes after it, if it is there. The directory is absolute.
func optionalPolicy(objects string) map[string]string {
	return map[string]string{
		"conf":   "command = [\"conf\"]\ninputs = [\"lease\"]\ngates = [\"loaded\"]\nmode = \"oneshot\"",
		"load":   "command = [\"load\"]\ninputs = [\"policy\"]\noutputs = [\"loaded\"]\non-change = \"none\"",
		"render": fmt.Sprintf("command = [\"render\"]\ninputs = [\"lease\", %q]\noutputs = [\"policy\"]\non-change = \"none\"", objects+"/"),
	}
}

// objects makes or removes the directory, and says so to the engine.
func (w *world) objects(dir string, there bool) {
	w.t.Helper()
	err := os.RemoveAll(dir)
	if there {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.changes <- watch.Change{Paths: map[string]struct{}{dir: {}}}
	synctest.Wait()
}

func (w *world) shown(name string) state.Stage {
	w.t.Helper()
	s, err := state.Load[state.Stage](w.dir.Stage(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestGateLeftOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	bubble(t, optionalPolicy(dir), func(w *world) {
		w.want("conf", "waiting: lease, loaded")
		w.put("lease", "1")
		w.want("conf", "running") // without the gate
		w.exit("conf", 0)
		w.want("conf", "done")
		if s := w.shown("conf"); !slices.Equal(s.LeftOut, []string{"loaded"}) || !Fine(s) {
			t.Errorf("%+v", s)
		}
		for _, name := range []string{"render", "load"} {
			if s := w.shown(name); !s.Idle || !Fine(s) || s.Runs != 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
		// The directory appears: what came without it has to wait for what now comes before it.
		w.objects(dir, true)
		w.want("render", "starting")
		w.want("conf", "waiting: loaded")
		w.put("policy", "1")
		w.say("render", "READY=1")
		w.want("load", "starting")
		w.put("loaded", "1")
		w.want("conf", "running")
		w.exit("conf", 0)
		w.want("conf", "done")
		if s := w.shown("conf"); len(s.LeftOut) > 0 || s.Runs != 2 {
			t.Errorf("%+v", s)
		}
		w.put("loaded", "2") // the content of a gate does not count
		w.want("conf", "done")
		// The directory goes: what it made stands, and nothing moves.
		w.objects(dir, false)
		w.want("conf", "done")
		if s := w.shown("render"); s.Idle || Fine(s) {
			t.Errorf("render has left its rules behind and is not run: %+v", s)
		}
		if n := len(w.started("conf")); n != 2 {
			t.Errorf("%d runs of conf", n)
		}
		// Somebody takes down what it made: it is as it was at first.
		w.put("policy", "")
		w.put("loaded", "")
		w.want("conf", "running")
		w.exit("conf", 0)
		w.want("conf", "done")
	})
}

// TestGateAppearsByHand: a stage that ran without a gate runs again when it comes nevertheless.
func TestGateAppearsByHand(t *testing.T) {
	bubble(t, optionalPolicy(filepath.Join(t.TempDir(), "objects")), func(w *world) {
		w.put("lease", "1")
		w.exit("conf", 0)
		w.put("loaded", "1")
		w.want("conf", "running")
		if s := w.shown("conf"); s.LastReason != "loaded changed" {
			t.Errorf("reason %q", s.LastReason)
		}
		w.put("loaded", "") // while it runs: seen when it has ended
		w.exit("conf", 0)
		w.want("conf", "running")
		w.exit("conf", 0)
		w.want("conf", "done")
	})
}

// TestGateInAnyOrder: whatever the order in which files come and go, and in which the engine hears of it, what
// runs in the end follows from the files that are there.
func TestGateInAnyOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		os.Remove(dir)
		bubble(t, optionalPolicy(dir), func(w *world) {
			have := map[string]bool{}
			var heard []string
			for range 12 {
				name := []string{"lease", "policy", "loaded", "objects"}[random.IntN(4)]
				path := filepath.Join(string(w.dir), name)
				if name == "objects" {
					path = dir
				}
				have[name] = !have[name]
				switch {
				case !have[name]:
					os.Remove(path)
				case name == "objects":
					os.Mkdir(path, 0o755)
				default:
					os.WriteFile(path, []byte{'1'}, 0o644)
				}
				heard = append(heard, path)
				if random.IntN(3) == 0 { // several at once, and late
					w.tell(heard)
					heard = nil
				}
				if p := w.proc("conf"); p != nil && !p.over.Load() && random.IntN(2) == 0 {
					w.exit("conf", 0)
				}
			}
			w.tell(heard)
			for range 4 {
				if p := w.proc("conf"); p != nil && !p.over.Load() {
					w.exit("conf", 0)
				}
			}
			want := "done"
			var lacks []string
			if !have["lease"] {
				lacks = append(lacks, "lease")
			}
			dead := !have["policy"] && !have["objects"]
			if !have["loaded"] && (!dead || !have["lease"]) {
				lacks = append(lacks, "loaded")
			}
			if len(lacks) > 0 {
				want = "waiting: " + strings.Join(lacks, ", ")
			}
			w.want("conf", want)
			if w.t.Failed() {
				w.t.Fatalf("seed %d: %v", seed, have)
			}
		})
	}
}

func (w *world) tell(paths []string) {
	c := watch.Change{Paths: map[string]struct{}{}}
	for _, p := range paths {
		c.Paths[p] = struct{}{}
	}
	w.changes <- c
	synctest.Wait()
}

// What the administrator gives to a program does not count while the program runs, but where it ended for it.
func TestHeldUntilWhatIsGivenChanges(t *testing.T) {
	for _, kind := range []string{"directory", "file"} {
		t.Run(kind, func(t *testing.T) {
			given := filepath.Join(t.TempDir(), "objects")
			file := given
			if kind == "directory" {
				if err := os.Mkdir(given, 0o755); err != nil {
					t.Fatal(err)
				}
				file = filepath.Join(given, "policy.yaml")
			}
			text := fmt.Sprintf("command = [\"render\"]\ngates = [\"lease\", %q]\non-change = \"none\"", given)
			bubble(t, map[string]string{"render": text}, func(w *world) {
				set := func(text string) {
					t.Helper()
					if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
					w.changes <- watch.Change{Paths: map[string]struct{}{file: {}}}
					synctest.Wait()
				}
				held := "held: a change of " + given + ", a change of render.toml"
				set("bad")
				w.put("lease", "1")
				w.exit("render", 65)
				w.want("render", held)
				w.put("lease", "2") // another gate's content does not count
				set("bad")          // nor do the same bytes
				w.want("render", held)
				set("worse")
				w.want("render", "starting")
				set("good") // while it runs: it may have read it before
				w.exit("render", 65)
				w.want("render", "starting")
				w.say("render", "READY=1")
				set("other")
				w.want("render", "ready")
				if s := w.shown("render"); s.Runs != 3 || s.LastReason != filepath.Base(given)+" changed" {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}
