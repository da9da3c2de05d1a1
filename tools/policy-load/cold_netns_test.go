//go:build netns

package main

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// BenchmarkCold is a start from nothing: 1,000 policies, 200 pods, four selectors of 10,000 pods each among smaller
// ones, in two families; and the same load by nft, which is what is done where netlink is refused.
func BenchmarkCold(b *testing.B) {
	n := nstest.New(b, "cold")
	dir := state.Dir(b.TempDir())
	w := newWorld(200, 1000, 100, 100)
	w.spread = 100 // one selector for each policy
	for s := range 4 {
		w.sets[s*7+1] = nil
		for m := range 10000 {
			w.sets[s*7+1] = append(w.sets[s*7+1], m)
		}
	}
	w.write(b, dir)
	var times []time.Duration
	var ours float64
	for b.Loop() {
		start := time.Now()
		cmd := watched(b, n, dir)
		times = append(times, time.Since(start))
		ours = peak(b, cmd.Process.Pid)
		b.StopTimer()
		stop(b, cmd)
		n.Run("policy-load", "down", "--run-dir", string(dir))
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(times[len(times)/2].Seconds(), "p50-s")
	b.ReportMetric(ours, "peak-MiB")
	want, err := readPolicy(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	n.Do(func() {
		start := time.Now()
		if _, err := replace(b.Context(), want); err != nil {
			b.Error(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "by-nft-s")
	})
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage); err == nil {
		b.ReportMetric(float64(usage.Maxrss)/1024, "nft-peak-MiB")
	}
}

// BenchmarkLargeSet is one changed line in a set of 100,000.
func BenchmarkLargeSet(b *testing.B) {
	n := nstest.New(b, "large")
	dir := state.Dir(b.TempDir())
	objects := newWorld(10, 10, 10, 10).render()
	e := newEditor(b, dir, objects)
	set := e.objects["inet/sets/sel4-0001.nft"]
	set.Lines = nil
	for i := range 100000 {
		set.Lines = append(set.Lines, fmt.Sprintf(`10.%d.%d.%d comment "namespace-%d/pod-%d"`, 64+i>>16, i>>8&255, i&255, i%50, i))
	}
	slices.Sort(set.Lines)
	e.put(b, set)
	cmd := watched(b, n, dir, "--log-level", "warn")
	f := follow(b, dir)
	var times []time.Duration
	for b.Loop() {
		toggle(set, `10.250.0.1 comment "dev/new"`)
		start := e.put(b, set)
		f.until(b, e.manifest.Generation())
		times = append(times, time.Since(start))
	}
	report(b, times)
	b.ReportMetric(peak(b, cmd.Process.Pid), "peak-MiB")
	b.ReportMetric(float64(len(set.Text()))/1024/1024, "file-MiB")
}
