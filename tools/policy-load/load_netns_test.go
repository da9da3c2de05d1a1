//go:build netns

package main

import (
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestApply(t *testing.T) {
	n := nstest.New(t, "apply")
	dir := state.Dir(t.TempDir())
	w := newWorld(20, 9, 12, 30)
	w.write(t, dir)
	out := n.Run("policy-load", "apply", "--run-dir", string(dir))
	t.Log(len(out))
	if out := n.Run("policy-load", "apply", "--run-dir", string(dir)); out != "" {
		t.Errorf("second apply:\n%s", out)
	}
	t.Log(n.Run("policy-load", "down", "--run-dir", string(dir)))
}
