//go:build netns

package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/probe"
	"github.com/towpath/towpath/tools/policy-render/model"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// families are the kinds of clusters.
var families = []struct {
	name   string
	v4, v6 bool
	share  int // of a hundred clusters
}{{"IPv4", true, false, 40}, {"IPv6", false, true, 30}, {"dual stack", true, true, 30}}

// TestThreeJudges compares the verdicts of the three for every packet. TOWPATH_ORACLE_SEED=N begins at another seed, and
// TOWPATH_ORACLE_CLUSTERS=N asks about so many clusters, of 1,000 packets each.
func TestThreeJudges(t *testing.T) {
	clusters, first := number(t, "TOWPATH_ORACLE_CLUSTERS", 150), number(t, "TOWPATH_ORACLE_SEED", 1)
	render := program(t)
	start := time.Now()
	all := tally{}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := probe.NewRouter(t, netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64"))
			sum := tally{}
			for i := range clusters * f.share / 100 {
				c := generate(uint64(first+i), f.v4, f.v6)
				differences := judge(t, c, r, render, c.objects(), &sum)
				r.Forget()
				if len(differences) > 0 {
					dump(t, c.objects())
					t.Fatalf("seed %d:\n%s", first+i, strings.Join(differences, "\n"))
				}
			}
			t.Log(sum.String())
			all.add(sum)
			sum.varied(t)
		})
	}
	t.Logf("together %s in %s", all.String(), time.Since(start).Round(time.Second))
}

// TestDifferencesAreFound takes one policy away from what the kernel knows, in each of ten clusters, and wants that to be seen.
func TestDifferencesAreFound(t *testing.T) {
	r := probe.NewRouter(t, netip.MustParsePrefix("10.244.1.0/24"))
	found := 0
	for seed := range uint64(11) {
		c := generate(seed+1, true, false)
		if len(c.policies) == 0 || c.lax {
			continue
		}
		objects := c.objects() // the last is a policy
		if len(judge(t, c, r, program(t), objects[:len(objects)-1], &tally{})) > 0 {
			found++
		}
		r.Forget()
	}
	t.Logf("in %d of 10 clusters the last policy decides a packet", found)
	if found < 3 {
		t.Error("differences are not found")
	}
}

func program(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "policy-render"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run the tests with make test", err)
	}
	return path
}

func number(t *testing.T, name string, otherwise int) int {
	n := otherwise
	if s := os.Getenv(name); s != "" {
		if _, err := fmt.Sscan(s, &n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return n
}

// tally counts what was compared, to show that verdicts of every kind were among it.
type tally struct {
	tuples, kernel, allowed, isolated, again int
}

func (a *tally) add(b tally) {
	a.tuples, a.kernel, a.allowed, a.isolated, a.again = a.tuples+b.tuples, a.kernel+b.kernel, a.allowed+b.allowed, a.isolated+b.isolated, a.again+b.again
}

func (a *tally) String() string {
	return fmt.Sprintf("%d tuples (%d with an end that policies isolate): %d packets through the kernel, %d of them allowed; %d sent twice",
		a.tuples, a.isolated, a.kernel, a.allowed, a.again)
}

func (a *tally) varied(t *testing.T) {
	if a.kernel < a.tuples/2 || a.isolated < a.tuples/3 || a.allowed < a.kernel/10 || a.allowed > a.kernel*9/10 {
		t.Errorf("the packets are all alike: %s", a.String())
	}
}

// judge compares the verdicts on 1,000 packets of one cluster, which the kernel knows by its objects, and returns the
// differences. A cluster that is lax is not for the kernel.
func judge(t *testing.T, c *cluster, r *probe.Router, render string, objects []any, sum *tally) []string {
	t.Helper()
	var differences []string
	tuples := c.tuples(1000)
	m, ref := compile(t, c), newReference(c)
	if !c.lax {
		load(t, r, render, objects)
	}

	type question struct {
		tuple
		want bool
		why  string
	}
	var asked []question
	var probes []probe.Probe
	for _, tp := range tuples {
		sum.tuples++
		from, to := c.owner[tp.from], c.owner[tp.to]
		want, why, isolated := true, "", false
		for _, end := range []struct {
			dir     model.Direction
			subject *model.Pod
			own     netip.Addr
			peer    netip.Addr
		}{{model.Egress, from, tp.from, tp.to}, {model.Ingress, to, tp.to, tp.from}} {
			if end.subject == nil {
				continue
			}
			v := m.Judge(end.dir, end.subject.Key, end.own, end.peer, tp.protocol, tp.port)
			isolated = isolated || len(v.Isolating) > 0
			if said := ref.allowed(end.dir, tp); said != v.Allowed {
				differences = append(differences, fmt.Sprintf("%s, %s: evaluator %v, reference %v", tp, direction(end.dir), v.Allowed, said))
			}
			if end.subject.Node == node {
				want = want && v.Allowed
				why += fmt.Sprintf("; %s %v by %s", direction(end.dir), v.Allowed, because(v))
			}
		}
		if isolated {
			sum.isolated++
		}
		fromHere, toHere := from != nil && from.Node == node, to != nil && to.Node == node
		if !c.lax && (fromHere || toHere) {
			asked = append(asked, question{tp, want, why})
			probes = append(probes, probe.Probe{Packet: probe.Packet{From: tp.from, To: tp.to, Protocol: uint8(tp.protocol), Port: tp.port}, FromPods: fromHere})
		}
	}
	sum.kernel += len(probes)
	passed := r.Pass(probes)
	for i := range asked {
		if asked[i].want && !passed[i] { // lost on a busy machine? What is denied never arrives, however often it is sent
			sum.again++
			passed[i] = r.Pass(probes[i : i+1])[0]
		}
		if passed[i] {
			sum.allowed++
		}
		if passed[i] != asked[i].want {
			differences = append(differences, fmt.Sprintf("%s: kernel %v, evaluator %v%s", asked[i].tuple, passed[i], asked[i].want, asked[i].why))
		}
	}
	return differences
}

func (t tuple) String() string {
	return probe.Packet{From: t.from, To: t.to, Protocol: uint8(t.protocol), Port: t.port}.String()
}

func direction(d model.Direction) string { return [...]string{"ingress", "egress"}[d] }

func because(v model.Verdict) string {
	switch {
	case v.Policy != nil:
		return fmt.Sprintf("%s rule %d", v.Policy.Key, v.Rule.Index)
	case len(v.Isolating) > 0:
		return fmt.Sprintf("none of %d policies", len(v.Isolating))
	}
	return "no policy"
}

// compile gives the cluster to the evaluator, in the other order.
func compile(t *testing.T, c *cluster) *model.Cluster {
	t.Helper()
	m := model.New(node)
	for i := len(c.policies) - 1; i >= 0; i-- {
		if err := m.SetPolicy(c.policies[i].DeepCopy()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c.pods {
		m.SetPod(c.pods[i])
	}
	for _, n := range c.namespaces {
		m.SetNamespace(n)
	}
	m.Commit()
	return m
}

// load renders the objects, as any user would, and gives the script to the router's kernel.
func load(t *testing.T, r *probe.Router, render string, objects []any) {
	t.Helper()
	cmd := exec.Command(render, "apply", "--node", node, "--objects", "-", "--output", "-")
	cmd.Stdin = bytes.NewReader(list(t, objects))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	script, err := cmd.Output()
	if err != nil {
		dump(t, objects)
		t.Fatalf("policy-render: %v\n%s", err, stderr.String())
	}
	nft := r.Command("nft", "-f", "-")
	nft.Stdin = bytes.NewReader(script)
	if out, err := nft.CombinedOutput(); err != nil {
		dump(t, objects)
		t.Fatalf("nft: %v\n%s\n%s", err, out, script)
	}
}

func list(t *testing.T, objects []any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// dump leaves the objects where a person finds them; TOWPATH_ORACLE_DUMP=FILE names the place.
func dump(t *testing.T, objects []any) {
	if path := os.Getenv("TOWPATH_ORACLE_DUMP"); path != "" {
		if err := os.WriteFile(path, list(t, objects), 0o644); err != nil {
			t.Error(err)
		}
	}
}
