//go:build netns

package scale

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// group is a process and those that it started.
type group struct {
	b     *testing.B
	cmd   *exec.Cmd
	log   string
	began time.Time
}

// use is what a process has taken of the machine.
type use struct {
	name      string
	rss, peak float64 // MiB
	cpu       float64 // seconds, with that of children that ended
}

// pids are the processes, the first one first.
func (g *group) pids() []int {
	out := []int{g.cmd.Process.Pid}
	for i := 0; i < len(out); i++ {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", out[i]))
		for _, t := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", out[i], t.Name()))
			for _, word := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil {
					out = append(out, pid)
				}
			}
		}
	}
	return out
}

func (g *group) uses() map[int]use {
	all := map[int]use{}
	for _, pid := range g.pids() {
		status, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		stat, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err1 != nil || err2 != nil {
			continue // it ended
		}
		u := use{name: word(string(status), "Name:"), rss: number(string(status), "VmRSS:") / 1024, peak: number(string(status), "VmHWM:") / 1024}
		_, rest, _ := strings.Cut(string(stat), ") ")
		for _, ticks := range strings.Fields(rest)[11:15] {
			n, _ := strconv.ParseFloat(ticks, 64)
			u.cpu += n / 100
		}
		all[pid] = u
	}
	return all
}

func word(text, key string) string {
	_, rest, _ := strings.Cut(text, key)
	return strings.Fields(rest)[0]
}

func number(text, key string) float64 {
	n, _ := strconv.ParseFloat(word(text, key), 64)
	return n
}

// report reports the sums, and logs each process.
func (g *group) report(who string) (rss, peak, cpu float64) {
	g.b.Helper()
	all := g.uses()
	for _, pid := range slices.Sorted(maps.Keys(all)) {
		u := all[pid]
		g.b.Logf("%s %s: RSS %.1f MiB, peak %.1f MiB, %.2f CPU-s", who, u.name, u.rss, u.peak, u.cpu)
		rss, peak, cpu = rss+u.rss, peak+u.peak, cpu+u.cpu
	}
	g.b.ReportMetric(rss, who+"-MiB")
	g.b.ReportMetric(peak, who+"-peak-MiB")
	g.b.ReportMetric(cpu, who+"-cpu-s")
	return rss, peak, cpu
}

// load is the machine's load average, which says how far a figure of time can be trusted.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// ms reports percentiles.
func ms(b *testing.B, who string, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(all[min(len(all)-1, len(all)*p/100)].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", who, p))
	}
}
