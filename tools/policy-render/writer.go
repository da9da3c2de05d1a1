package main

import (
	"bytes"
	"path/filepath"
	"time"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// writer writes the files that changed and keeps those a little that went: whoever reads by the old
// policy.nft finds them as long as nothing newer is there or loaded.
type writer struct {
	dir        state.Dir
	generation string          // of policy.nft as written
	text       []byte          // policy.nft as written
	at         time.Time       // end of the last write; a file that is younger is somebody else's
	since      time.Time       // a file that was written since then is read before it is taken for ours
	recent     int             // how many files were written since then
	gone       map[string]bool // below policy/, to be removed
	broken     bool            // a write failed, or somebody changed the files: nothing is known of what is there
}

// mostRead is how many files of our own are read to see that they are.
const mostRead = 100

// write writes files, then policy.nft. whole: changes are everything that is to be there.
func (w *writer) write(m *ruleset.Manifest, c render.Changes, whole bool) (wrote int, err error) {
	w.broken = true // until all is done
	if w.since.IsZero() {
		w.since = time.Now()
	}
	at, err := policyDir(w.dir)
	if err != nil {
		return 0, err
	}
	put := func(path string, data []byte) {
		if err != nil {
			return
		}
		var changed bool
		if changed, err = state.WriteFile(path, data, 0o644); changed {
			wrote++
		}
	}
	var gone []string
	for path, text := range c.Texts {
		delete(w.gone, path)
		put(filepath.Join(w.dir.Policy(), path), text)
	}
	for name, text := range c.Names {
		path := filepath.Join("pods", name)
		if len(text) == 0 {
			gone = append(gone, path)
			continue
		}
		delete(w.gone, path)
		put(filepath.Join(w.dir.Policy(), path), text)
	}
	for id, o := range c.Objects {
		if o == nil {
			gone = append(gone, id.Path())
		}
	}
	text := m.Text(at)
	if whole || !bytes.Equal(text, w.text) {
		put(w.dir.PolicyNFT(), text)
	}
	if err != nil {
		return wrote, err
	}
	w.generation, w.text = generationOf(text), text
	if whole {
		left, err := leftovers(w.dir, func(path string) bool {
			_, isObject := c.Texts[path]
			return isObject || len(c.Names[filepath.Base(path)]) > 0 && filepath.Dir(path) == "pods"
		})
		if err != nil {
			return wrote, err
		}
		for _, path := range left {
			below, _ := filepath.Rel(w.dir.Policy(), path)
			gone = append(gone, below)
		}
	} else if wrote > 0 {
		w.sweep() // what went before this write
	}
	if w.gone == nil {
		w.gone = map[string]bool{}
	}
	for _, path := range gone {
		w.gone[path] = true
	}
	if now := time.Now(); (wrote > 0 || whole) && now.After(w.at) {
		w.at = now
		if w.recent += wrote; w.recent > mostRead {
			w.since, w.recent = now, 0
		}
	}
	w.broken = false
	return wrote, nil
}

// sweep removes the files that nothing names. One that cannot be removed does no harm; the next start tries again.
func (w *writer) sweep() {
	for path := range w.gone {
		_, _ = state.Remove(filepath.Join(w.dir.Policy(), path))
		delete(w.gone, path)
	}
}

// generationOf is the second line of a policy.nft of our own making, which saves going through all of it again.
func generationOf(text []byte) string {
	lines := bytes.SplitN(text, []byte("\n"), 3)
	return string(bytes.TrimPrefix(lines[1], []byte("# generation ")))
}
