package main

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// told is a cutter that remembers whose connections it was given.
type told []string

func (c *told) after(affected []netip.Addr) { *c = append(*c, fmt.Sprint(affected)) }

func (c *told) work() <-chan func(context.Context, *model.Cluster) { return nil }

// TestCutWaitsForTheKernel: connections are judged when the kernel has the rules of their change, or later ones.
func TestCutWaitsForTheKernel(t *testing.T) {
	var c told
	w := &watcher{cutter: &c, affected: map[netip.Addr]struct{}{}, writer: writer{dir: "/nonexistent"}}
	step := func(generation, loaded string, affected ...byte) string {
		c = nil
		w.writer.generation, w.loaded = generation, loaded
		for _, b := range affected {
			w.affected[netip.AddrFrom4([4]byte{10, 0, 0, b})] = struct{}{}
		}
		w.cut()
		return fmt.Sprint([]string(c))
	}
	for i, s := range []struct {
		generation, loaded string
		affected           []byte
		want               string
	}{
		{"g1", "", []byte{1}, "[]"},
		{"g1", "g1", nil, "[[10.0.0.1]]"},
		{"g1", "g1", nil, "[]"},
		{"g1", "g1", []byte{2}, "[[10.0.0.2]]"}, // rules that are the same allow it no longer: the kernel has them
		{"g2", "g1", []byte{3}, "[]"},
		{"g3", "g1", []byte{4}, "[]"},
		{"g4", "g2", []byte{5}, "[[10.0.0.3]]"}, // the kernel is always one behind
		{"g5", "g3", []byte{4, 6}, "[[10.0.0.4]]"},
		{"g6", "g5", nil, "[[10.0.0.4 10.0.0.5 10.0.0.6]]"}, // g4 was left out
		{"g7", "other", []byte{7}, "[]"},
		{"g8", "g5", []byte{8}, "[]"},
		{"g5", "g5", []byte{9}, "[[10.0.0.7 10.0.0.8 10.0.0.9]]"}, // back to what it was
	} {
		if got := step(s.generation, s.loaded, s.affected...); got != s.want {
			t.Errorf("step %d: %s, want %s", i, got, s.want)
		}
	}
	for i := range 3 * writtenMax {
		step(fmt.Sprint("h", i), "g5", byte(i%7))
	}
	if len(w.written) > writtenMax {
		t.Errorf("%d generations are kept", len(w.written))
	}
	if got := step("end", fmt.Sprint("h", 3*writtenMax-1)); got != "[[10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6]]" {
		t.Errorf("after a long time: %s", got)
	}
}
