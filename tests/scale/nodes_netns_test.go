//go:build netns

package scale

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/tests/objects"
)

// network are the stages that do what flanneld does.
var network = []string{"subnet-lease", "vxlan-setup", "route-sync"}

const prefix = "flannel.alpha.coreos.com/"

// settle is how long after the last route a program's memory is read.
const settle = 5 * time.Second

// sides runs f with our programs and with flanneld, each in a namespace of its own, one after the other.
func sides(b *testing.B, s *site, f func(who string, g *group)) {
	b.Helper()
	b.Logf("load average %s", load())
	g := s.ours(network...)
	f("ours", g)
	g.stop()
	s.leave()
	s.namespace()
	s.api.Do("PATCH", "/api/v1/nodes/node-0", fmt.Sprintf(`{"metadata":{"annotations":{%q:null,%q:null,%q:null,%q:null}}}`,
		prefix+"backend-data", prefix+"backend-type", prefix+"kube-subnet-manager", prefix+"public-ip"))
	if g = s.flanneld(); g == nil {
		b.Log("PEER_FLANNELD names no program to compare with")
		return
	}
	f("flanneld", g)
	g.stop()
	b.Logf("load average %s", load())
}

// BenchmarkNodes is a node that starts in a cluster of so many: to the last route, and what that took. The supervisor counts as ours.
func BenchmarkNodes(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			for b.Loop() {
				s := newSite(b, n, objects.Cluster{})
				var took, memory, cpu []float64
				sides(b, s, func(who string, g *group) {
					t := s.programmed(g)
					b.ReportMetric(t.Seconds(), who+"-s")
					<-time.After(settle)
					_, peak, used := g.report(who)
					took, memory, cpu = append(took, t.Seconds()), append(memory, peak), append(cpu, used)
				})
				if len(took) == 2 {
					b.ReportMetric(took[0]/took[1], "time-ratio")
					b.ReportMetric(memory[0]/memory[1], "memory-ratio")
					b.ReportMetric(cpu[0]/cpu[1], "cpu-ratio")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkJoin is one node that joins a cluster of so many, and leaves it: from the request to the last of what the kernel gets
// for it, or loses.
func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			s := newSite(b, n, objects.Cluster{})
			rounds := 0
			for b.Loop() {
				rounds++
			}
			rounds = max(rounds, 20)
			sides(b, s, func(who string, g *group) {
				s.programmed(g)
				<-time.After(settle)
				joins, leaves, answers := s.joins(rounds)
				ms(b, who+"-join", joins)
				ms(b, who+"-leave", leaves)
				ms(b, who+"-answer", answers)
			})
			b.ReportMetric(0, "ns/op")
		})
	}
}

// joins lets nodes come and go, and says how long each took until the kernel had the route, and had it no more, and how long the
// API server took to answer the request that brought it.
func (s *site) joins(rounds int) (joins, leaves, answers []time.Duration) {
	s.b.Helper()
	var events *nl.Events
	var err error
	s.Do(func() { events, err = nl.Subscribe(nl.WatchRoutes | nl.WatchNeighs) })
	if err != nil {
		s.b.Fatal(err)
	}
	defer events.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready := events.Ready(ctx)
	await := func(n objects.Node, gone bool) time.Time {
		s.b.Helper()
		left := map[nl.What]bool{nl.RouteEvent: true, nl.NeighEvent: true, nl.FDBEvent: true}
		for deadline := time.After(time.Minute); len(left) > 0; {
			select {
			case <-ready:
			case <-deadline:
				s.b.Fatalf("%s, gone %v: the kernel tells nothing of %v", n.Name(), gone, left)
			}
			if err := events.Drain(func(e nl.Event) {
				about := e.What == nl.RouteEvent && e.Route.Dst == n.Subnet() || e.What == nl.FDBEvent && e.FDB.MAC.String() == n.MAC() ||
					e.What == nl.NeighEvent && e.Neigh.IP == n.Subnet().Addr()
				if about && e.Gone == gone {
					delete(left, e.What)
				}
			}); err != nil {
				s.b.Fatal(err)
			}
		}
		return time.Now()
	}
	for i := range rounds {
		n := objects.Node{Number: s.nodes + 1 + i%100}
		object := fmt.Sprintf(`{"metadata":{"name":%q,"annotations":%s},"spec":{"podCIDR":"%s","podCIDRs":["%[3]s"]}}`, n.Name(), n.Annotations(), n.Subnet())
		start := time.Now()
		s.api.Do("POST", "/api/v1/nodes", object)
		answers = append(answers, time.Since(start))
		joins = append(joins, await(n, false).Sub(start))
		start = time.Now()
		s.api.Do("DELETE", "/api/v1/nodes/"+n.Name(), "")
		leaves = append(leaves, await(n, true).Sub(start))
	}
	return joins, leaves, answers
}

// BenchmarkWhole is all programs of a node together: their memory, and what they do when nothing happens.
func BenchmarkWhole(b *testing.B) {
	for _, size := range []struct {
		nodes, pods, policies int
		idle                  time.Duration
	}{{1000, 1000, 100, time.Minute}, {5000, 10_000, 1000, time.Minute}} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d", size.nodes, size.pods), func(b *testing.B) {
			for b.Loop() {
				s := newSite(b, size.nodes, objects.Cluster{Pods: size.pods, Policies: size.policies, Local: 110})
				b.Logf("load average %s", load())
				g := s.ours()
				b.ReportMetric(s.programmed(g).Seconds(), "routes-s")
				s.await(filepath.Join(s.dir, "net.d/10-towpath.conflist"))
				b.ReportMetric(time.Since(g.began).Seconds(), "ready-s")
				<-time.After(2 * settle)
				g.report("whole")
				before, first := g.uses(), s.newest()
				<-time.After(size.idle)
				after, last := g.uses(), s.newest()
				var cpu float64
				for pid, u := range after {
					used := u.cpu - before[pid].cpu
					cpu += used
					if used > 0 {
						b.Logf("idle %s: %.2f CPU-s in %s", u.name, used, size.idle)
					}
					if _, old := before[pid]; !old {
						b.Errorf("%s began while nothing happened", u.name)
					}
				}
				b.ReportMetric(100*cpu/size.idle.Seconds(), "idle-percent")
				b.ReportMetric(float64(last-first-1), "idle-new-pids") // threads count too, also the API server's
				b.Logf("load average %s", load())
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// newest is the number of a process that is made now: all since the last one had numbers in between.
func (s *site) newest() int {
	s.b.Helper()
	cmd := s.Command("true")
	if err := cmd.Run(); err != nil {
		s.b.Fatal(err)
	}
	return cmd.Process.Pid
}
