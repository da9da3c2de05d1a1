package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// TestWatchHeals: what somebody takes away or edits is back long before the periodic look at everything.
func TestWatchHeals(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.write(w.objects+"/pods.yaml", podYAML("web", "u1", "10.244.1.2"))
	w.write(w.objects+"/allow-web.yaml", policyYAML("allow-web", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"))
	w.start()
	w.says("READY=1")
	first := w.manifest("first", func(m *ruleset.Manifest) bool { return hasFile(m, allowWeb) })
	text := w.file(allowWeb)
	below := func(path string) string { return filepath.Join(w.dir.Policy(), path) }
	edit := func(path string) error {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("# edited\n")
		f.Close()
		return err
	}
	for _, tc := range []struct {
		what string
		harm func() error
	}{
		{"policy.nft removed", func() error { return os.Remove(w.dir.PolicyNFT()) }},
		{"policy.nft edited", func() error { return edit(w.dir.PolicyNFT()) }},
		{"policy.nft emptied", func() error { return os.Truncate(w.dir.PolicyNFT(), 0) }},
		{"a chain removed", func() error { return os.Remove(below(allowWeb)) }},
		{"a chain edited", func() error { return edit(below(allowWeb)) }},
		{"names removed", func() error { return os.Remove(below("pods/10.244.1.0-24")) }},
		{"chains moved away", func() error { return os.Rename(below("inet/chains"), filepath.Join(t.TempDir(), "x")) }},
		{"the bridge's files moved away", func() error { return os.Rename(below("bridge"), filepath.Join(t.TempDir(), "x")) }},
		{"policy/ moved away", func() error { return os.Rename(w.dir.Policy(), filepath.Join(t.TempDir(), "x")) }},
		{"policy/ and policy.nft removed", func() error {
			for os.RemoveAll(w.dir.Policy()) != nil { // files may come back meanwhile
			}
			os.Remove(w.dir.PolicyNFT())
			return nil
		}},
	} {
		start := time.Now()
		if err := tc.harm(); err != nil {
			t.Fatalf("%s: %v", tc.what, err)
		}
		w.eventually(tc.what, func() bool {
			data, err := os.ReadFile(w.dir.PolicyNFT())
			if err != nil {
				return false
			}
			m, err := ruleset.ParseManifest(w.dir.Policy(), data)
			if err != nil || m.Generation() != first.Generation() {
				return false
			}
			for _, e := range m.Entries {
				if ruleset.Digest([]byte(w.file(e.Path))) != e.Digest {
					return false
				}
			}
			return w.file(allowWeb) == text && w.file("pods/10.244.1.0-24") != ""
		})
		if took := time.Since(start); took > keep.Period/2 {
			t.Errorf("%s: healed after %v only", tc.what, took)
		}
	}
	w.write(w.objects+"/allow-web.yaml", "kind: [")
	w.says(state.Failing + "1 bad inputs")
	w.write(w.objects+"/allow-web.yaml", policyYAML("allow-web", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"))
	w.says("STATUS=1 pods, 1 policies")
	w.stop()
	said := w.log.String() // a write may have failed while the directory was being removed
	said = said[max(0, strings.LastIndex(said, "cannot use an input")):]
	if n := strings.Count(said, "inputs are good again"); n != 1 {
		t.Errorf("inputs are good again: said %d times", n)
	}
}

// justWritten is a node without pods whose files were just written.
func justWritten(t *testing.T) (*world, render.Changes, *writer) {
	t.Helper()
	w := newWorld("n1", defaultConfig)
	_, changes := w.commit()
	out := &writer{dir: state.Dir(t.TempDir())}
	if _, err := out.write(w.manifest(), changes, true); err != nil {
		t.Fatal(err)
	}
	return w, changes, out
}

// TestVerifyKnowsItsOwn: changes of our own making are no reason to write anything.
func TestVerifyKnowsItsOwn(t *testing.T) {
	_, changes, out := justWritten(t)
	dir := out.dir
	own := watch.Change{Paths: map[string]struct{}{dir.PolicyNFT(): {}, filepath.Join(dir.Policy(), "inet"): {}}}
	for path := range changes.Texts {
		own.Paths[filepath.Join(dir.Policy(), path)] = struct{}{}
	}
	own.Paths[filepath.Join(dir.Policy(), "inet/chains/never-ours.nft")] = struct{}{}
	for _, c := range []watch.Change{own, {All: true}} {
		if out.verify(c); out.broken {
			t.Fatalf("%v: taken for somebody else's", c)
		}
	}
	if err := os.Remove(filepath.Join(dir.Policy(), "inet/chains/forward.nft")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []watch.Change{own, {All: true}} {
		out.broken = false
		if out.verify(c); !out.broken {
			t.Fatalf("%v: a file is missing and nobody noticed", c)
		}
	}
}

// TestVerifyEditedMeanwhile: what somebody changed before our last write, and is told of after it, is not taken for ours.
func TestVerifyEditedMeanwhile(t *testing.T) {
	w, changes, out := justWritten(t)
	dir := out.dir
	edited := filepath.Join(dir.Policy(), "inet/chains/forward.nft")
	out.verify(watch.Change{Paths: map[string]struct{}{edited: {}}})
	if out.broken {
		t.Fatal("taken for somebody else's")
	}
	if err := os.WriteFile(edited, []byte("# edited\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * tick)
	other := filepath.Join(dir.Policy(), "inet/chains/ingress.nft")
	if err := os.Remove(other); err != nil { // so that there is something to write
		t.Fatal(err)
	}
	rest := changes
	rest.Texts = maps.Clone(changes.Texts)
	delete(rest.Texts, "inet/chains/forward.nft")
	if wrote, err := out.write(w.manifest(), rest, false); err != nil || wrote != 1 {
		t.Fatalf("%d files written: %v", wrote, err)
	}
	if out.verify(watch.Change{Paths: map[string]struct{}{edited: {}, other: {}}}); !out.broken {
		t.Error("a file that somebody changed is taken for ours")
	}
}
