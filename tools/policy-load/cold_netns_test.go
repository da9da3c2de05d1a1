//go:build netns

package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// BenchmarkCold is a start from nothing: 1,000 policies, 200 pods, four selectors of 10,000 pods each among smaller
// ones, in two families. nft's peak memory is that of the same load by hand.
func BenchmarkCold(b *testing.B) {
	n := nstest.New(b, "cold")
	dir := state.Dir(b.TempDir())
	w := newWorld(200, 1000, 100, 100)
	for s := range 4 {
		w.sets[s*7+1] = nil
		for m := range 10000 {
			w.sets[s*7+1] = append(w.sets[s*7+1], m)
		}
	}
	w.write(b, dir)
	rss := func(s *os.ProcessState) float64 {
		return float64(s.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	}
	var times []time.Duration
	var ours float64
	for b.Loop() {
		cmd := n.Command("policy-load", "apply", "--run-dir", string(dir))
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		times = append(times, time.Since(start))
		ours = rss(cmd.ProcessState)
		b.StopTimer()
		n.Run("policy-load", "down", "--run-dir", string(dir))
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(times[len(times)/2].Seconds(), "p50-s")
	b.ReportMetric(ours, "peak-MiB")
	cmd := n.Command("nft", "-f", dir.PolicyNFT())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	b.ReportMetric(rss(cmd.ProcessState), "nft-peak-MiB")
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
