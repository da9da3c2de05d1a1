//go:build netns

package policy

import (
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
)

// running is a scene whose policies are kept by running programs.
func running(t *testing.T, flags ...string) *scene {
	t.Helper()
	s := &scene{Node: node.New(t), t: t, pods: map[string]*node.Pod{}}
	s.Flags = flags
	s.Namespaces("dev env=dev", "prod env=prod team=a")
	s.Policies()
	s.people()
	return s
}

// until waits until a packet of this kind has the wanted fate, and returns how long that took.
func (s *scene) until(t *testing.T, limit time.Duration, line string) time.Duration {
	t.Helper()
	for start := time.Now(); ; {
		ok := true
		for family := range 2 {
			from, to, p, want := s.parse(t, line, family)
			ok = ok && s.Passes(from, to, p, false) == want
		}
		if ok {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("not within %s: %s", limit, line)
		}
	}
}

var cuts = []struct{ name, policy string }{
	{"by ingress", policy("dev/a", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: 81}]}]}")},
	{"by egress", policy("prod/a", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{ports: [{port: 81}]}]}")},
	{"by a peer's labels", policy("dev/a", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: 81}]}, {from: [{namespaceSelector: {}, podSelector: {matchLabels: {tier: none}}}]}]}")},
}

// TestCut: connections that a change forbids end, in both families and whichever end's policy forbids them; others, of
// the same pods too, lose no byte.
func TestCut(t *testing.T) {
	s := running(t)
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			defer s.in(t)()
			var cut, kept []*stream
			for family := range 2 {
				cut = append(cut, open(t, s.pods["prod/client"], s.pods["dev/web"], family, 80))
				kept = append(kept, open(t, s.pods["prod/client"], s.pods["dev/web"], family, 81),
					open(t, s.pods["prod/web"], s.pods["dev/db"], family, 80), open(t, s.pods["dev/web"], s.pods["prod/web"], family, 80))
			}
			start := time.Now()
			s.Set("policies", c.policy)
			for family, one := range cut {
				t.Logf("%s: the last byte came %s after the policy was written", []string{"IPv4", "IPv6"}[family], one.stops(start, 20*time.Second).Round(100*time.Microsecond))
			}
			for _, one := range kept {
				one.moves(10 * time.Second)
			}
			for _, one := range cut { // for good: the ends go on trying, and may not be let through again
				one.moved(t, 2*time.Second, false)
			}
			s.Set("policies", "# none\n")
			s.until(t, 20*time.Second, "prod/client -> dev/web 80/TCP: allow")
		})
	}
}

// TestCutByTraffic forbids a flow of datagrams whose ends never stop sending.
func TestCutByTraffic(t *testing.T) {
	s := running(t)
	client, web := s.pods["prod/client"], s.pods["dev/web"]
	for family := range 2 {
		_, _, p, _ := s.parse(t, "prod/client -> dev/web 80/UDP: allow", family)
		p = s.Next(p)
		back := p
		back.From, back.To, back.SourcePort, back.Port = p.To, p.From, p.Port, p.SourcePort
		exchange := func(limit time.Duration) (there, back2 bool) {
			s.Send(client, p)
			there = s.Arrives(web, p, limit)
			s.Send(web, back)
			return there, s.Arrives(client, back, limit)
		}
		if there, back := exchange(3 * time.Second); !there || !back {
			t.Fatalf("%s: arrives %v, the reply %v", p, there, back)
		}
		start := time.Now()
		s.Set("policies", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress]}"))
		var took time.Duration
		for quiet := 0; quiet < 20; {
			there, back := exchange(20 * time.Millisecond)
			if quiet++; there || back {
				quiet, took = 0, time.Since(start)
			}
			if time.Since(start) > 20*time.Second {
				t.Fatalf("%s: the flow goes on", p)
			}
		}
		t.Logf("%s: the last packet came %s after the policy was written", p, took.Round(100*time.Microsecond))
		s.Set("policies", "# none\n")
		s.until(t, 20*time.Second, "prod/client -> dev/web 80/UDP: allow")
	}
}

// TestNoCut: --cut=false keeps what is established, and forbids what is new.
func TestNoCut(t *testing.T) {
	s := running(t, "--cut=false")
	var kept []*stream
	for family := range 2 {
		kept = append(kept, open(t, s.pods["prod/client"], s.pods["dev/web"], family, 80))
	}
	s.Set("policies", cuts[0].policy)
	s.until(t, 20*time.Second, "prod/client -> dev/web 80/TCP: deny")
	for _, one := range kept {
		one.moved(t, 1500*time.Millisecond, true)
	}
}
