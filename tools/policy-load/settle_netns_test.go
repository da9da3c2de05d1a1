//go:build netns

package main

import (
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// BenchmarkSettle is a change of one element without what happens between processes, by its parts.
func BenchmarkSettle(b *testing.B) {
	n := nstest.New(b, "settle")
	dir := state.Dir(b.TempDir())
	e := newEditor(b, dir, newWorld(100, 500, 120, 100).render())
	set := e.objects["inet/sets/sel4-0001.nft"]
	n.Do(func() {
		s, _ := newStep(b, dir)
		if err := s.settle(b.Context(), "bench"); err != nil {
			b.Error(err)
			return
		}
		var read, differ, write, save time.Duration
		i := 0
		for b.Loop() {
			b.StopTimer()
			toggle(set, `10.250.0.1 comment "dev/new"`)
			e.put(b, set)
			i++
			b.StartTimer()
			t0 := time.Now()
			want, err := readPolicy(dir, s.loaded)
			t1 := time.Now()
			changes, _ := diff(s.loaded, want)
			t2 := time.Now()
			generation, _, werr := s.kernel.write(b.Context(), changes)
			t3 := time.Now()
			serr := s.save(want, generation, "")
			t4 := time.Now()
			if err != nil || werr != nil || serr != nil {
				b.Error(err, werr, serr)
				return
			}
			read += t1.Sub(t0)
			differ += t2.Sub(t1)
			write += t3.Sub(t2)
			save += t4.Sub(t3)
		}
		for name, d := range map[string]time.Duration{"read": read, "diff": differ, "write": write, "save": save} {
			b.ReportMetric(float64(d.Microseconds())/float64(i), name+"-us")
		}
	})
}
