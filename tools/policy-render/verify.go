package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// outputDirs are the directories of the files that watch writes, so that it sees at once when somebody removes one.
func outputDirs(dir state.Dir) []string {
	out := []string{dir.Policy(), dir.PolicyPods()}
	for _, at := range ruleset.Dirs() {
		out = append(out, filepath.Join(dir.Policy(), at))
	}
	return out
}

// verify notices that somebody else changed or removed policy.nft or one of the files. Our own writes are among
// the changes as well, so this must be cheap: of most files it asks only whether they are there, and since when. What somebody changed
// while we wrote is told afterwards, so files that are younger than the last look are read, except after a large write.
func (w *writer) verify(c watch.Change) {
	defer func(now time.Time) { w.since, w.recent = now, 0 }(time.Now())
	if w.text == nil || w.broken {
		return
	}
	if c.Has(w.dir.PolicyNFT()) {
		text, err := os.ReadFile(w.dir.PolicyNFT())
		w.broken = err != nil || !bytes.Equal(text, w.text)
	}
	if c.All && !w.broken {
		w.verifyAll()
		return
	}
	for path := range c.Paths {
		below, in := strings.CutPrefix(path, w.dir.Policy()+"/")
		if w.broken {
			return
		}
		if in && !w.gone[below] && !w.intact(below) {
			w.broken = filepath.Dir(below) == "pods" || ruleset.Names(w.text, below)
		}
	}
}

func (w *writer) verifyAll() {
	at, err := policyDir(w.dir)
	if err != nil {
		w.broken = true
		return
	}
	m, err := ruleset.ParseManifest(at, w.text)
	if err != nil {
		w.broken = true
		return
	}
	for _, e := range m.Entries {
		if !w.intact(e.Path) {
			w.broken = true
			return
		}
	}
}

// tick is how far a file's time may be behind the clock, and how late a change is told of, with a margin.
const tick = 100 * time.Millisecond

// intact says whether the file is there as we left it. One that was written since the last look is read.
func (w *writer) intact(below string) bool {
	path := filepath.Join(w.dir.Policy(), below)
	st, err := os.Lstat(path)
	if err != nil || st.IsDir() {
		return err == nil
	}
	if !st.Mode().IsRegular() || st.ModTime().After(w.at) {
		return false
	}
	if st.ModTime().Before(w.since.Add(-tick)) || filepath.Dir(below) == "pods" {
		return true
	}
	text, err := os.ReadFile(path)
	return err == nil && bytes.Contains(w.text, []byte("/"+below+`" # `+ruleset.Digest(text)+"\n"))
}
