//go:build netns

package render

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// TestHostileNamesInTheKernel: nft reads what these names became as the same number of rules, chains and elements as it does
// with plain names.
func TestHostileNamesInTheKernel(t *testing.T) {
	n := nstest.New(t, "nft")
	n.Do(func() {
		var want [3]int
		for i, w := range hostile {
			if w.policy == "" {
				w.policy = "x"
			}
			c := clusterOf(w)
			d := c.Commit()
			files, m := render(c, d)
			script, block := ruleset.Clear(), ""
			for _, e := range m.Entries {
				script += ruleset.Block(block, e.Family()) + files[e.Path]
				block = e.Family()
			}
			script += ruleset.Block(block, "")
			if err := nft.Load(t.Context(), script); err != nil {
				t.Errorf("%+v: %v", w, err)
				continue
			}
			listed := ""
			for _, family := range ruleset.Families {
				out, err := nft.List(t.Context(), family, ruleset.Table)
				if err != nil {
					t.Fatal(err)
				}
				listed += out
			}
			got := [3]int{strings.Count(listed, "chain "), strings.Count(listed, "counter"), strings.Count(listed, "vmap @")}
			if i == 0 {
				want = got
			}
			invalid := false
			for _, p := range c.Relevant() {
				invalid = invalid || p.Invalid != ""
			}
			if got != want && !invalid {
				t.Errorf("%+v: %d chains, counters and look-ups, want %d:\n%s", w, got, want, listed)
			}
		}
	})
}
