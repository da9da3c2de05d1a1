package explain

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

var storyPolicies = map[string]string{
	"dev/deny-all-ingress": `{podSelector: {}, policyTypes: [Ingress]}`,
	"dev/allow-myapp-ingress": `{podSelector: {matchLabels: {app: myapp}}, ingress: [
		{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.2.2/32]}}, {ipBlock: {cidr: 'fd00::/16'}}], ports: [{port: 80}]}]}`,
}

func explainText(t *testing.T, s *Setting, from, to, port string) string {
	t.Helper()
	f, err1 := ParseEnd(from)
	d, err2 := ParseEnd(to)
	p, err3 := ParsePort(port)
	err := errors.Join(err1, err2, err3)
	if err == nil {
		var a *Answer
		if a, err = s.Explain(f, d, p); err == nil {
			return a.Text()
		}
	}
	out := fmt.Sprintf("exit %d: %v\n", exit.Of(err), err)
	for _, h := range exit.Hints(err) {
		out += "hint: " + h + "\n"
	}
	return out
}

var update = flag.Bool("update", false, "rewrite golden files")

var wordyPolicies = map[string]string{
	"prod/web-out": `{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [
		{to: [{podSelector: {matchLabels: {app: db}}}, {namespaceSelector: {matchLabels: {team: c}}, podSelector: {}}],
		 ports: [{port: 5432}, {port: 53, protocol: UDP}]},
		{to: [{namespaceSelector: {matchLabels: {team: a}}}], ports: [{port: http}]},
		{to: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}`,
	"dev/in": `{podSelector: {matchLabels: {app: myapp}}, ingress: [
		{from: [{podSelector: {matchLabels: {app: other}}}], ports: [{port: web}, {port: dns, protocol: UDP}]}]}`,
	"dev/broken": `{podSelector: {matchLabels: {app: agent}}, policyTypes: [Ingress, Egress]}`,
	"prod/db-in": `{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 0.0.0.0/1}}]}, {from: [{podSelector: {matchExpressions: [{key: x, operator: Exists}, {key: app, operator: NotIn, values: [web, new]}]}}]}]}`,
}

// TestExplain compares the words with testdata/explain.txt, whose headings are the questions.
func TestExplain(t *testing.T) {
	page, err := os.ReadFile("testdata/explain.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for section := range strings.SplitSeq(string(page), "\n## ") {
		heading, _, _ := strings.Cut(strings.TrimPrefix(section, "## "), "\n")
		words := strings.Fields(heading)
		policies := map[string]map[string]string{"none": nil, "story": storyPolicies, "wordy": wordyPolicies}[words[0]]
		s := story(t, policies)
		s.EgressAllowed = len(words) > 4
		if got.Len() > 0 {
			got.WriteString("\n")
		}
		fmt.Fprintf(&got, "## %s\n%s", heading, explainText(t, s, words[1], words[2], words[3]))
	}
	if *update {
		if err := os.WriteFile("testdata/explain.txt", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(page), got.String()); d != "" {
		t.Errorf("(-testdata/explain.txt +got)\n%s", d)
	}
}

// TestExplainIsJudge: of random clusters, the verdict is the model's, and each fact of the words is one of the model.
func TestExplainIsJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 300 {
		s, pods := randomSetting(t, r)
		ends := []End{{}, {Addr: netip.MustParseAddr("203.0.113.9")}, {Addr: netip.MustParseAddr("192.168.0.1")}, {Addr: netip.MustParseAddr("10.1.0.5")}}
		for _, p := range pods {
			ends = append(ends, End{Pod: p.Key})
		}
		for range 40 {
			from, to := ends[r.IntN(len(ends))], ends[r.IntN(len(ends))]
			port := Port{Protocol: protocols[r.IntN(3)], Number: uint16(79 + r.IntN(5))}
			if from.external() && to.external() {
				continue
			}
			a, err := s.Explain(from, to, port)
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(a.Text(), "\n")
			if line != a.Verdict || len(a.Paths) > 0 && a.Verdict != a.Paths[0].Verdict {
				t.Fatalf("first line %q, verdict %q", line, a.Verdict)
			}
			for _, p := range a.Paths {
				want := true
				if pod := s.Cluster.PodByAddr(p.From); pod != nil {
					want = s.Cluster.Judge(model.Egress, pod.Key, p.From, p.To, port.Protocol, port.Number).Allowed
				}
				if pod := s.Cluster.PodByAddr(p.To); pod != nil {
					want = want && s.Cluster.Judge(model.Ingress, pod.Key, p.To, p.From, port.Protocol, port.Number).Allowed
				}
				if p.Verdict != verdict(want) {
					t.Fatalf("%v\nis judged %v", a.Text(), want)
				}
				seen[p.Verdict]++
			}
			s.checkRules(t, from, to, port, seen)
		}
	}
	for _, what := range []string{allow, deny, "match", "peer", "port", "far"} {
		if seen[what] < 100 {
			t.Errorf("only %d cases of %s", seen[what], what)
		}
	}
}

// checkRules: the closeness of every rule, and the reason for every set, agree with the model.
func (s *Setting) checkRules(t *testing.T, from, to End, port Port, seen map[string]int) {
	t.Helper()
	nodes := s.nodes()
	source, _ := s.find(from, nodes)
	dest, _ := s.find(to, nodes)
	namespaces := map[string]map[string]string{}
	for _, n := range s.Cluster.Namespaces() {
		namespaces[n.Name] = n.Labels
	}
	var fa, ta netip.Addr
	for _, f := range state.Families {
		if !first(source.addrs, f, &fa) || !first(dest.addrs, f, &ta) || source.dead+dest.dead != "" {
			continue
		}
		for _, k := range []*packet{{model.Egress, source, dest, fa, ta, port, namespaces}, {model.Ingress, dest, source, ta, fa, port, namespaces}} {
			if !k.subject.subject() {
				continue
			}
			for _, p := range s.Cluster.Isolating(k.dir, k.subject.key) {
				for i := range p.Rules[k.dir] {
					rule := &p.Rules[k.dir][i]
					closeness, words := k.judgeRule(rule)
					seen[[]string{"far", "port", "peer", "match"}[closeness]]++
					if (closeness == matches) != rule.Matches(k.dir, k.subjectAddr, k.peerAddr, port.Protocol, port.Number) || words == "" {
						t.Fatalf("%s %d: %s", p.Key, i, words)
					}
					if (closeness >= peerMatches) != rule.MatchesPeer(k.peerAddr) {
						t.Fatalf("%s %d: %s", p.Key, i, words)
					}
					for _, set := range rule.Peers {
						lacking, words := k.setMiss(set)
						if set.Contains(k.peerAddr) {
							continue
						}
						if lacking == 0 || strings.HasSuffix(words, " ") {
							t.Fatalf("%s does not hold %s (%+v): %q", set.Key(), k.peer.name, k.peer.pod, words)
						}
					}
				}
			}
		}
	}
}
