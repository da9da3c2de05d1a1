//go:build netns

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// editor changes single files of a ruleset as policy-render does, at little cost of its own.
type editor struct {
	dir      state.Dir
	root     string
	manifest *ruleset.Manifest
	at       map[string]int // of each path, in the manifest
	objects  map[string]*ruleset.Object
}

func newEditor(t testing.TB, dir state.Dir, objects []*ruleset.Object) *editor {
	t.Helper()
	if err := writeObjects(dir, nil, objects); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(dir.Policy())
	if err != nil {
		t.Fatal(err)
	}
	e := &editor{dir: dir, root: root, manifest: &ruleset.Manifest{Node: "worker01"}, at: map[string]int{}, objects: map[string]*ruleset.Object{}}
	for i, o := range objects {
		e.manifest.Entries = append(e.manifest.Entries, ruleset.Entry{Path: o.Path(), Digest: ruleset.Digest(o.Text())})
		e.at[o.Path()] = i
		e.objects[o.Path()] = o
	}
	return e
}

// put writes objects that are there already, then policy.nft; it returns when policy.nft is about to be there.
func (e *editor) put(t testing.TB, objects ...*ruleset.Object) time.Time {
	t.Helper()
	for _, o := range objects {
		text := o.Text()
		if _, err := state.WriteFile(filepath.Join(e.root, o.Path()), text, 0o644); err != nil {
			t.Fatal(err)
		}
		e.manifest.Entries[e.at[o.Path()]].Digest = ruleset.Digest(text)
	}
	text := e.manifest.Text(e.root)
	start := time.Now()
	if _, err := state.WriteFile(e.dir.PolicyNFT(), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return start
}

// toggle takes an element out of a set, or puts it in.
func toggle(o *ruleset.Object, line string) {
	if i, found := slices.BinarySearch(o.Lines, line); found {
		o.Lines = slices.Delete(o.Lines, i, i+1)
	} else {
		o.Lines = slices.Insert(o.Lines, i, line)
	}
}

// watched starts policy-load in the namespace and waits until it has loaded what is there.
func watched(t testing.TB, n *nstest.Namespace, dir state.Dir, more ...string) *exec.Cmd {
	t.Helper()
	cmd := n.Command("policy-load", append([]string{"watch", "--run-dir", string(dir)}, more...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop(t, cmd)
		if t.Failed() {
			t.Log(log.String())
		}
	})
	want, err := readPolicy(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.Eventually(time.Minute, func() string {
		if r, _, _ := readRecord(dir); r.Generation != want.generation {
			return "not loaded"
		}
		return ""
	})
	return cmd
}

// stop ends policy-load, if that has not been done.
func stop(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("watch: %v", err)
	}
}

// follower follows policy.loaded.json and returns when it holds a generation.
type follower struct {
	dir   state.Dir
	files <-chan watch.Change
}

func follow(b *testing.B, dir state.Dir) *follower {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	b.Cleanup(stop)
	files, err := watch.New(ctx, watch.Options{Files: []string{dir.PolicyLoaded()}, Settle: time.Microsecond})
	if err != nil {
		b.Fatal(err)
	}
	return &follower{dir, files}
}

func (f *follower) until(b *testing.B, generation string) {
	b.Helper()
	limit := time.After(30 * time.Second)
	for {
		if r, _, _ := readRecord(f.dir); r.Generation == generation {
			return
		}
		select {
		case <-f.files:
		case <-limit:
			b.Fatal("not loaded within 30 s")
		}
	}
}

func report(b *testing.B, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(times[(len(times)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}

// BenchmarkChange is the time from the writing of policy.nft to policy.loaded.json, at 1,000 chains of policies, 400 sets
// and 100 pods.
func BenchmarkChange(b *testing.B) {
	n := nstest.New(b, "bench")
	dir := state.Dir(b.TempDir())
	e := newEditor(b, dir, newWorld(100, 500, 120, 100).render())
	cmd := watched(b, n, dir, "--log-level", "warn")
	f := follow(b, dir)
	set := e.objects["inet/sets/sel4-0001.nft"]
	verdicts := e.objects["inet/maps/ingress4.nft"]
	var chain *ruleset.Object
	for _, o := range e.objects {
		if strings.HasPrefix(o.Name, "pi-") && len(o.Lines) > 3 && (chain == nil || o.Name < chain.Name) {
			chain = o
		}
	}
	rule := `tcp dport 4321 ip saddr @sel4-0001 counter accept comment "new"`
	for _, c := range []struct {
		name   string
		change func() *ruleset.Object
	}{
		{"element", func() *ruleset.Object { toggle(set, `10.250.0.1 comment "dev/new"`); return set }},
		{"verdict", func() *ruleset.Object {
			other := map[bool]string{true: "goto gi-g1", false: "goto gi-g2"}
			at := slices.IndexFunc(verdicts.Lines, func(l string) bool { return strings.HasPrefix(l, "10.244.0.10 ") })
			head, verdict, _ := strings.Cut(verdicts.Lines[at], " : ")
			verdicts.Lines[at] = head + " : " + other[verdict != other[true]]
			return verdicts
		}},
		{"rule", func() *ruleset.Object {
			if i := slices.Index(chain.Lines, rule); i >= 0 {
				chain.Lines = slices.Delete(chain.Lines, i, i+1)
			} else {
				chain.Lines = slices.Insert(chain.Lines, 2, rule)
			}
			return chain
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				start := e.put(b, c.change())
				f.until(b, e.manifest.Generation())
				times = append(times, time.Since(start))
			}
			report(b, times)
		})
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			runtime.Gosched()
		}
		b.ReportMetric(peak(b, cmd.Process.Pid), "peak-MiB")
	})
}

// peak is VmHWM of a process, MiB. The process is the program itself: `ip netns exec` becomes it.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	var kib float64
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Sscanf(rest, "%f", &kib)
		}
	}
	return kib / 1024
}
