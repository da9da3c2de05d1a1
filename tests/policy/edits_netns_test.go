//go:build netns

package policy

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/node"
)

// edits is how many random changes of manifests TestEdits makes.
const edits = 300

// TestEdits: after any changes, one by one or many at once, the files are those that a fresh start writes, and the kernel holds what
// it holds when those are loaded as a whole.
func TestEdits(t *testing.T) {
	s := running(t)
	s.pods["mark/a"] = s.Pod("mark/a", "app=mark")
	e := &editor{Rand: rand.New(rand.NewPCG(3, 6)), s: s}
	defer func() {
		t.Logf("at the end there are %d policies and %d pods of other nodes; %d files", len(e.policies), len(e.remotes), len(files(t, string(s.Run))))
	}()
	fresh := nstest.New(t, "fresh")
	for i := range edits {
		e.edit()
		if e.IntN(3) > 0 {
			<-time.After(time.Duration(e.IntN(20)) * time.Millisecond) // else it comes together with the next
		}
		if i%20 < 19 {
			continue
		}
		// The mark is alone in its namespace: when its policy has changed, so have all before it.
		s.Set("mark", policy("mark/a", fmt.Sprintf("{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: %d}]}]}", 1000+i)))
		s.until(t, 20*time.Second, fmt.Sprintf("external -> mark/a %d/TCP: allow", 1000+i))
		// As they are now, in a run directory of its own.
		run := filepath.Join(t.TempDir(), "run")
		for _, name := range []string{"lease.json", "endpoints"} {
			if err := os.MkdirAll(run, 0o755); err != nil {
				t.Fatal(err)
			}
			nstest.Run(t, "cp", "-a", filepath.Join(string(s.Run), name), run)
		}
		nstest.Run(t, node.Binary(t, "policy-render"), "apply", "--run-dir", run, "--objects", s.Objects)
		s.Eventually(20*time.Second, func() string {
			if diff := cmp.Diff(files(t, run), files(t, string(s.Run))); diff != "" {
				return "the files (-fresh +watched):\n" + diff
			}
			return ""
		})
		fresh.Run("nft", "-f", filepath.Join(run, "policy.nft"))
		want := tables(fresh)
		s.Eventually(20*time.Second, func() string {
			if diff := cmp.Diff(want, s.tables()); diff != "" {
				return "the tables (-loaded as a whole +changed by and by):\n" + diff
			}
			return ""
		})
	}
}

// files are the contents of policy/.
func files(t *testing.T, run string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"inet/*/*.nft", "bridge/*/*.nft", "pods/*"} {
		list, err := filepath.Glob(filepath.Join(run, "policy", pattern))
		if err != nil || len(list) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, path := range list {
			if text, err := os.ReadFile(path); err == nil { // else it has just been removed
				all[strings.TrimPrefix(path, run)] = string(text)
			}
		}
	}
	return all
}

type editor struct {
	*rand.Rand
	s        *scene
	policies map[int]bool
	remotes  map[int]bool
}

func (e *editor) one(of ...string) string { return of[e.IntN(len(of))] }

// edit makes, changes or removes a policy, a pod of another node or a label of a namespace or a pod.
func (e *editor) edit() {
	if e.policies == nil {
		e.policies, e.remotes = map[int]bool{}, map[int]bool{}
	}
	switch n := e.IntN(14); {
	case n < 3: // remove a policy
		if i := e.IntN(12); e.policies[i] {
			e.s.Set(fmt.Sprintf("policy-%d", i), "")
			delete(e.policies, i)
		}
	case n < 8:
		i := e.IntN(12)
		e.s.Set(fmt.Sprintf("policy-%d", i), policy(fmt.Sprintf("%s/p%d", []string{"dev", "prod"}[i%2], i), e.spec()))
		e.policies[i] = true
	case n < 9:
		if i := e.IntN(8); e.remotes[i] {
			e.s.Set(fmt.Sprintf("remote-%d", i), "")
			delete(e.remotes, i)
		}
	case n < 11:
		i := e.IntN(8)
		e.s.Set(fmt.Sprintf("remote-%d", i), remote(fmt.Sprintf("%s/r%d", e.one("dev", "prod"), i), "app: "+e.one("web", "db", "client"), e.one("", spec),
			fmt.Sprintf("10.244.3.%d", 2+(i+e.IntN(2))%8), fmt.Sprintf("fd00:10:244:3::%x", 2+i)))
		e.remotes[i] = true
	case n < 12:
		e.s.Namespaces("dev env="+e.one("dev", "test"), "prod env="+e.one("prod", "test")+e.one("", " team=a"), "mark")
	default:
		p := e.s.pods[e.one("dev/web", "dev/db", "prod/client", "prod/web")]
		p.Labels, p.Extra = "app="+e.one("web", "db", "client")+e.one("", " tier=front"), e.one("", spec)
		p.Write()
	}
}

func (e *editor) spec() string {
	peer := func() string {
		return e.one("{podSelector: {matchLabels: {app: web}}}", "{namespaceSelector: {matchLabels: {env: test}}}", "{namespaceSelector: {}}", "{podSelector: {}}",
			"{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}}",
			"{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.2.0/24]}}", "{ipBlock: {cidr: 'fd00::/8'}}", "{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24, 192.0.2.0/25, 10.0.0.0/8]}}")
	}
	rule := func(key string) string {
		return "{" + e.one("", key+": ["+peer()+"]", key+": ["+peer()+", "+peer()+"]") + e.one("", ", ports: [{port: 80}]", ", ports: [{port: http}]", ", ports: [{port: 8000, endPort: 8010}, {protocol: SCTP}]", ", ports: [{}]") + "}"
	}
	text := fmt.Sprintf("{podSelector: {%s}, policyTypes: [%s], ingress: [%s], egress: [%s]}",
		e.one("", "matchLabels: {app: web}", "matchExpressions: [{key: tier, operator: Exists}]"), e.one("Ingress", "Egress", "Ingress, Egress"),
		e.one("", rule("from"), rule("from")+", "+rule("from")), e.one("", rule("to"), rule("to")+", "+rule("to")))
	return strings.ReplaceAll(text, "{, ", "{")
}
