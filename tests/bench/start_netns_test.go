//go:build netns

package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
)

// BenchmarkStart is a pod's ADD with and without the wait for its policies, in turn, by the real programs, in clusters of a size.
// delay is what the wait adds to each percentile.
func BenchmarkStart(b *testing.B) {
	for _, c := range sizes[:2] {
		c.Local = 0
		b.Run(name(c), func(b *testing.B) {
			n := node.New(b)
			if err := c.Write(n.Objects); err != nil {
				b.Fatal(err)
			}
			n.Policies()
			first := n.Pod("ns-0/first", "app=app-1")
			var all [2][]time.Duration // without, with
			for i := 0; b.Loop(); i++ {
				for with := range 2 {
					b.StopTimer()
					n.Wait(with == 1)
					p := n.Prepare(fmt.Sprintf("ns-%d/new-%d-%d", i%100, i, with), fmt.Sprintf("app=app-%d tier=front", i%10))
					<-time.After(50 * time.Millisecond) // as in a cluster, the object is there before the runtime is asked
					b.StartTimer()
					if err := p.Add(); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					all[with] = append(all[with], p.Took)
					p.Remove()
					if err := os.Remove(n.Objects + "/pod-" + strings.ReplaceAll(p.Pod, "/", "-") + ".yaml"); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
			first.Remove()
			for i := range all {
				slices.Sort(all[i])
			}
			for _, percent := range []int{50, 99} {
				at := min(len(all[0])-1, len(all[0])*percent/100)
				for i, what := range []string{"without", "with"} {
					b.ReportMetric(float64(all[i][at].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", what, percent))
				}
				b.ReportMetric(float64((all[1][at]-all[0][at]).Microseconds())/1000, fmt.Sprintf("delay-p%d-ms", percent))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
