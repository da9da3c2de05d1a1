//go:build netns

package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/objects"
	"github.com/towpath/towpath/tests/probe"
)

// flip waits until a packet has another fate, and returns how long after an instant it was sent.
func (s *site) flip(p probe.Probe, want bool, since time.Time) time.Duration {
	s.b.Helper()
	for {
		took := time.Since(since)
		if s.Pass([]probe.Probe{p})[0] == want {
			return took
		}
		if took > time.Minute {
			s.b.Fatalf("%s passes: %v, a minute after the change", p, !want)
		}
		<-time.After(200 * time.Microsecond)
	}
}

// BenchmarkChange is one change, from the file's appearance to the first packet with the new fate: a pod of another node gets a
// label or loses it, by which a policy of a pod of this node lets it in; a policy opens another port.
func BenchmarkChange(b *testing.B) {
	for _, c := range sizes {
		for _, what := range []string{"label", "policy"} {
			b.Run(name(c)+"/"+what, func(b *testing.B) {
				s := newSite(b, c)
				visitor := objects.Pod{
					Namespace: "ns-0", Name: "visitor", App: "visitor", Tier: "none", Node: "node2", Address: netip.MustParseAddr("10.250.0.1"),
				}
				manifest := func(on bool) {
					v := visitor
					if on {
						v.App = "guest"
					}
					s.write("visitor", v.Manifest())
				}
				opened := func(port int) {
					s.write("guests", fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: ns-0, name: guests}\n"+
						"spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: guest}}}], ports: [{port: %d}]}]}\n", port))
				}
				manifest(what == "policy")
				opened(7)
				render, load := s.policies()
				p := probe.Probe{Packet: probe.Packet{From: visitor.Address, To: c.Pod(0).Address, Protocol: probe.TCP, Port: 7}}
				on := what == "policy"
				s.flip(p, on, time.Now())
				var all []time.Duration
				for b.Loop() {
					on = !on
					start := time.Now()
					switch {
					case what == "label":
						manifest(on)
					case on:
						opened(7)
					default:
						opened(8)
					}
					all = append(all, s.flip(p, on, start))
				}
				report(b, all)
				b.ReportMetric(memory(b, render), "render-MiB")
				b.ReportMetric(memory(b, load), "load-MiB")
			})
		}
	}
}
