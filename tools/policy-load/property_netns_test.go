//go:build netns

package main

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// newStep is the program inside the test, for the namespace of the calling thread.
func newStep(t testing.TB, dir state.Dir) (*step, *bytes.Buffer) {
	t.Helper()
	p, err := here()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := &step{dir: dir, log: logger, place: p, kernel: &kernel{log: logger}}
	if err := s.kernel.follow(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, &log
}

// listing is both tables as nft lists them, objects by name: nft lists them by when they were made.
func listing(n *nstest.Namespace) string {
	out := ""
	for _, family := range ruleset.Families {
		text := sortElements(n.Run("nft", "-s", "-nn", "list", "table", family, ruleset.Table))
		head, body, _ := strings.Cut(strings.ReplaceAll(text, "\n\n", "\n"), "\n")
		blocks := strings.Split(body, "\n\t}\n")
		slices.Sort(blocks)
		out += head + "\n"
		out += strings.Join(blocks, "\n\t}\n")
	}
	return out
}

// sortElements puts each set's elements in order: nft lists those of a hash as they lie.
func sortElements(text string) string {
	var out, list []string
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "elements = {") {
			inside = true
			trimmed = strings.TrimPrefix(trimmed, "elements = {")
		}
		if !inside {
			out = append(out, line)
			continue
		}
		end := strings.HasSuffix(trimmed, "}")
		trimmed = strings.TrimSuffix(trimmed, "}")
		for e := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(trimmed), ","), ", ") {
			list = append(list, strings.TrimSpace(e))
		}
		if end {
			inside = false
			slices.Sort(list)
			out = append(append(out, "elements:"), list...)
			list = nil
		}
	}
	return strings.Join(out, "\n")
}

// TestChangesLeadToTheSame is the proof of the fast path: after any sequence of changes the kernel lists what it lists
// after a load of the same files from nothing. TOWPATH_SEEDS runs more of them.
func TestChangesLeadToTheSame(t *testing.T) {
	seeds := 12
	if n, err := strconv.Atoi(os.Getenv("TOWPATH_SEEDS")); err == nil {
		seeds = n
	}
	fast := 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		n := nstest.New(t, "change")
		dir := state.Dir(t.TempDir())
		w := newWorld(r.IntN(30), r.IntN(10), r.IntN(12), r.IntN(40))
		n.Do(func() {
			s, log := newStep(t, dir)
			for i := range 12 {
				if i > 0 {
					w.mutate(r)
				}
				w.write(t, dir)
				log.Reset()
				if err := s.settle(t.Context(), "test"); err != nil {
					t.Errorf("seed %d, change %d: %v\n%s", seed, i, err, log)
					return
				}
				if said := log.String(); strings.Contains(said, "msg=slow") || i > 0 && strings.Contains(said, "msg=loaded") {
					t.Errorf("seed %d, change %d: not by netlink:\n%s", seed, i, said)
				} else if strings.Contains(said, "msg=changed") {
					fast++
				}
			}
		})
		fresh := nstest.New(t, "fresh")
		fresh.Run("nft", "-f", dir.PolicyNFT())
		if diff := cmp.Diff(strings.Split(listing(fresh), "\n"), strings.Split(listing(n), "\n")); diff != "" {
			t.Fatalf("seed %d (-fresh +changed):\n%s", seed, diff)
		}
	}
	if fast < seeds*6 {
		t.Errorf("only %d of %d changes made a transaction", fast, seeds*11)
	}
	t.Logf("%d transactions by netlink", fast)
}

// TestOutsideTheGrammar: a line that is not compiled here goes through nft, first and as a change, and is recognised as our
// own doing.
func TestOutsideTheGrammar(t *testing.T) {
	n := nstest.New(t, "outside")
	dir := state.Dir(t.TempDir())
	w := newWorld(4, 3, 3, 3)
	n.Do(func() {
		s, log := newStep(t, dir)
		for i, want := range []string{"slow loaded", "slow changed", "changed"} {
			objects := w.render()
			for _, o := range objects {
				if o.Name == "unknown-pod" && i < 2 {
					o.Lines = append(o.Lines, "tcp flags syn counter", "tcp flags fin counter")[:2+min(i+1, 2)]
				}
			}
			if err := writeObjects(dir, nil, objects); err != nil {
				t.Error(err)
				return
			}
			log.Reset()
			if err := s.settle(t.Context(), "test"); err != nil {
				t.Error(err)
			}
			for _, word := range []string{"slow", "loaded", "changed"} {
				if strings.Contains(log.String(), "msg="+word) != strings.Contains(want, word) {
					t.Errorf("%d: want %s:\n%s", i, want, log)
				}
			}
		}
	})
	fresh := nstest.New(t, "fresh")
	fresh.Run("nft", "-f", dir.PolicyNFT())
	if diff := cmp.Diff(listing(fresh), listing(n)); diff != "" {
		t.Error(diff)
	}
}

// TestCountersStay: a rule that did not change keeps its counter and handle, whatever changes around it.
func TestCountersStay(t *testing.T) {
	n := nstest.New(t, "counters")
	dir := state.Dir(t.TempDir())
	w := newWorld(4, 6, 9, 5)
	n.Do(func() {
		s, _ := newStep(t, dir)
		settle := func() {
			w.write(t, dir)
			if err := s.settle(t.Context(), "test"); err != nil {
				t.Error(err)
			}
		}
		settle()
		before := n.Run("nft", "-a", "list", "chain", "inet", ruleset.Table, "pi-ns-1/pol.1")
		other := n.Run("nft", "-a", "list", "chain", "inet", ruleset.Table, "forward")
		w.policies[0]++
		w.sets[1] = append(w.sets[1], 900)
		delete(w.policies, 5)
		settle()
		if after := n.Run("nft", "-a", "list", "chain", "inet", ruleset.Table, "pi-ns-1/pol.1"); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if after := n.Run("nft", "-a", "list", "chain", "inet", ruleset.Table, "forward"); after != other {
			t.Errorf("before:\n%s\nafter:\n%s", other, after)
		}
	})
}
