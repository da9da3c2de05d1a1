//go:build netns

package node

import (
	"net/netip"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/probe"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// TestWithoutPolicies sees that packets of every protocol pass everywhere where nothing forbids it, so that what a
// policy test finds dropped was dropped by the policy.
func TestWithoutPolicies(t *testing.T) {
	n := New(t)
	n.Wait(false)
	a, b, world := n.Pod("dev/a", "app=web"), n.Pod("dev/b", ""), World{n}
	for i := range 2 {
		for _, protocol := range []uint8{probe.TCP, probe.UDP, probe.SCTP, probe.ICMP} {
			for _, test := range []struct {
				from, to       Place
				source, target netip.Addr
			}{
				{a, b, a.IPs[i], b.IPs[i]},
				{b, a, b.IPs[i], a.IPs[i]},
				{a, world, a.IPs[i], netip.MustParseAddr(External[2*i])},
				{a, world, a.IPs[i], netip.MustParseAddr(Remote[2*i])},
				{world, a, netip.MustParseAddr(External[2*i]), a.IPs[i]},
				{world, b, netip.MustParseAddr(Remote[2*i+1]), b.IPs[i]},
			} {
				p := probe.Packet{From: test.source, To: test.target, Protocol: protocol, Port: 80}
				if !n.Passes(test.from, test.to, p, true) {
					t.Errorf("%s does not pass", p)
				}
			}
		}
	}
}
