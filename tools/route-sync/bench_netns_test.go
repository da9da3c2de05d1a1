//go:build netns

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nl"
)

// listener hears the kernel's routes.
type listener struct {
	events *nl.Events
	told   <-chan struct{}
	b      *testing.B
}

func (n *node) listen(b *testing.B) *listener {
	l := &listener{b: b}
	var err error
	n.Do(func() { l.events, err = nl.Subscribe(nl.WatchRoutes) })
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	b.Cleanup(func() { stop(); l.events.Close() })
	l.told = l.events.Ready(ctx)
	return l
}

// wait returns when want says so of the events so far.
func (l *listener) wait(want func(nl.Event) bool) {
	limit := time.After(2 * time.Minute)
	for done := false; !done; {
		select {
		case <-l.told:
		case <-limit:
			l.b.Fatal("the kernel was not told")
		}
		if err := l.events.Drain(func(e nl.Event) { done = want(e) || done }); err != nil {
			l.b.Fatal(err)
		}
	}
}

func (n *node) crowd(count int) *node {
	n.device()
	n.files()
	for i := 2; i <= count+1; i++ {
		n.knows(peerOf(i))
	}
	return n
}

// BenchmarkStart is the program from its start until everything is in the kernel: from an empty one,
// and on one where nothing has to change. CPU and memory are the process's own.
func BenchmarkStart(b *testing.B) {
	for _, count := range []int{1000, 5000} {
		for _, kind := range []string{"empty", "unchanged"} {
			b.Run(fmt.Sprintf("%s/peers=%d", kind, count), func(b *testing.B) {
				n := newNode(b, 1, typeVXLAN, false, false).alone().crowd(count)
				if kind == "unchanged" {
					n.Exec("apply")
				}
				var seconds, cpu, rss float64
				runs := 0
				for b.Loop() {
					b.StopTimer()
					if kind == "empty" {
						n.Exec("down")
					}
					l := n.listen(b)
					b.StartTimer()
					start := time.Now()
					w := n.watch("--log-level", "error")
					if kind == "empty" {
						seen := 0
						l.wait(func(e nl.Event) bool {
							if e.What == nl.RouteEvent && !e.Gone && e.Route.Protocol == nl.ProtocolTowpath {
								seen++
							}
							return seen == count
						})
					} else {
						n.ready()
					}
					seconds += time.Since(start).Seconds()
					b.StopTimer()
					n.ready()
					rss = max(rss, peak(b, w.Process.Pid))
					w.stop(b)
					usage := w.ProcessState.SysUsage().(*syscall.Rusage)
					cpu += time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
					runs++
					b.StartTimer()
				}
				b.ReportMetric(seconds/float64(runs), "s")
				b.ReportMetric(cpu/float64(runs), "cpu-s")
				b.ReportMetric(rss, "peak-MiB")
			})
		}
	}
}

// peak is the most memory that a process ever had, MiB.
func peak(b *testing.B, pid int) (mib float64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kib := 0; strings.HasPrefix(line, "VmHWM:") {
			fmt.Sscanf(line, "VmHWM: %d kB", &kib)
			mib = float64(kib) / 1024
		}
	}
	return mib
}

// BenchmarkJoin is one more peer among many: from just before its file is written until the kernel
// tells of its route; then it leaves again.
func BenchmarkJoin(b *testing.B) {
	for _, count := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("peers=%d", count), func(b *testing.B) {
			n := newNode(b, 1, typeVXLAN, false, false).alone().crowd(count)
			w := n.watch("--log-level", "error")
			n.ready()
			l := n.listen(b)
			guest := peerOf(9999)
			guest.Subnet.IPv4 = netip.MustParsePrefix("10.245.255.0/24")
			var joins, leaves []time.Duration
			for b.Loop() {
				start := time.Now()
				n.knows(guest)
				l.wait(func(e nl.Event) bool { return !e.Gone && e.Route.Dst == guest.Subnet.IPv4 })
				joins = append(joins, time.Since(start))
				start = time.Now()
				os.Remove(n.Dir.Peer(guest.Node))
				l.wait(func(e nl.Event) bool { return e.Gone && e.Route.Dst == guest.Subnet.IPv4 })
				leaves = append(leaves, time.Since(start))
			}
			for name, all := range map[string][]time.Duration{"join": joins, "leave": leaves} {
				slices.Sort(all)
				for _, p := range []int{50, 99} {
					at := all[min(len(all)*p/100, len(all)-1)]
					b.ReportMetric(float64(at.Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", name, p))
				}
			}
			w.stop(b)
		})
	}
}

// BenchmarkPeriod is a look at everything that finds nothing, as there is one every 30 s.
func BenchmarkPeriod(b *testing.B) {
	for _, count := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("peers=%d", count), func(b *testing.B) {
			n := newNode(b, 1, typeVXLAN, false, false).alone().crowd(count)
			n.Exec("apply")
			past := time.Now().Add(-time.Minute)
			if err := os.Chtimes(n.Dir.Peers(), past, past); err != nil {
				b.Fatal(err)
			}
			conn, socket := n.sockets()
			e := &engine{files: files{run: n.Dir}, failed: map[string]string{}, conflicts: map[string]string{}}
			if err := e.files.readHead(); err != nil {
				b.Fatal(err)
			}
			if _, err := e.files.readPeers(); err != nil {
				b.Fatal(err)
			}
			if err := e.observe(conn, socket); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				changed, err := e.files.readPeers()
				same, failed := e.verify(conn, socket)
				if len(changed) > 0 || err != nil || !same || failed != nil {
					b.Fatal(changed, err, same, failed)
				}
			}
		})
	}
}
