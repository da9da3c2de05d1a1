//go:build netns

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
)

const (
	cutPods = `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: dev, uid: uid-a, labels: {app: a}}
spec: {nodeName: n1}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: dev, uid: uid-b, labels: {app: b}}
spec: {nodeName: n1}
`
	cutPolicy = cutPods + `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-443, namespace: dev}
spec:
  podSelector: {matchLabels: {app: a}}
  ingress:
  - ports: [{port: 443}]
`
)

// cutNode is a node with two pods and no policies.
func cutNode(t *testing.T) *node {
	t.Helper()
	n := newNode(t, "dev/a", "dev/b")
	n.objects = filepath.Join(t.TempDir(), "objects.yaml")
	n.write(n.objects, cutPods)
	for _, p := range n.pods {
		n.addEndpoint(p)
	}
	return n
}

func (n *node) to(name string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(n.pods[name].addrs.IPv4, port)
}

// marks is the marks of the tracked connections to a port of a pod, as conntrack(8) shows them.
func (n *node) marks(family string, args ...string) string {
	n.t.Helper()
	var out []string
	for line := range strings.Lines(n.host.Run("conntrack", append([]string{"-L", "-f", family}, args...)...)) {
		for _, word := range strings.Fields(line) {
			if mark, ok := strings.CutPrefix(word, "mark="); ok {
				out = append(out, mark)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestCutVerb(t *testing.T) {
	n := cutNode(t)
	n.load()
	a, b := n.pods["dev/a"], n.pods["dev/b"]
	doomed := startStream(t, "doomed", b.Namespace, n.to("dev/a", 80))
	doomed6 := startStream(t, "doomed6", b.Namespace, netip.AddrPortFrom(a.addrs.IPv6, 80))
	kept := startStream(t, "kept", b.Namespace, n.to("dev/a", 443))
	back := startStream(t, "back", a.Namespace, n.to("dev/b", 80))
	fromNode := startStream(t, "from the node", n.host, n.to("dev/a", 80))
	outside := startStream(t, "from outside", n.outside, n.to("dev/a", 7777))
	n.host.Run("conntrack", "-U", "-p", "tcp", "-d", a.addrs.IPv4.String(), "--mark", "0x4001")
	ping := b.Command("ping", "-i", "0.05", a.addrs.IPv4.String())
	var pongs lineCount
	ping.Stdout = &pongs
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ping.Process.Kill(); ping.Wait() })
	pongs.grows(t)

	n.write(n.objects, cutPolicy)
	n.load()
	for _, s := range []*stream{doomed, doomed6, kept, back, fromNode, outside} {
		s.flows() // established passes, until it is cut
	}
	plan := n.render("cut", "--dry-run")
	for _, want := range []string{
		"-p tcp -s 10.244.1.3 -d 10.244.1.2 --sport", "-f ipv6 -p tcp -s fd00:244:0:1::3 -d fd00:244:0:1::2", "-p icmp -s 10.244.1.3 -d 10.244.1.2 --icmp-type 8",
		"-p tcp -s 192.168.9.2 -d 10.244.1.2", "--mark 0x80000/0x80000",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan lacks %q:\n%s", want, plan)
		}
	}
	if lines := strings.Count(plan, "\n"); lines != 4 {
		t.Errorf("%d operations:\n%s", lines, plan)
	}
	doomed.flows()
	if did := n.render("cut"); did != plan {
		t.Errorf("it did what it had not said: %s", cmp.Diff(plan, did))
	}
	doomed.stops()
	doomed6.stops()
	outside.stops()
	pongs.stops(t)
	kept.flows()
	back.flows()
	fromNode.flows()
	if again := n.render("cut"); again != "" {
		t.Errorf("the second time: %s", again)
	}
	if got := n.marks("ipv4", "-p", "tcp", "--dport", "80", "-s", "10.244.1.3", "-d", "10.244.1.2"); got != fmt.Sprint(0x84001) {
		t.Errorf("the mark of the cut connection is %s", got)
	}

	// Allowed again, they go on where they were.
	n.write(n.objects, cutPods)
	n.load()
	if did := n.render("cut"); strings.Count(did, "--mark 0x0/0x80000\n") != 4 {
		t.Errorf("let go on: %s", did)
	}
	for _, s := range []*stream{doomed, doomed6, outside, kept} {
		s.flows()
	}
	pongs.grows(t)
	if got := n.marks("ipv4", "-p", "tcp", "--dport", "80", "-s", "10.244.1.3", "-d", "10.244.1.2"); got != fmt.Sprint(0x4001) {
		t.Errorf("the mark afterwards is %s", got)
	}

	// Another bit, and all marks cleared.
	n.write(n.objects, cutPolicy)
	n.load("--cut-mark", "0x2")
	n.render("cut", "--cut-mark", "0x2")
	doomed.stops()
	if got := n.marks("ipv4", "-p", "tcp", "--dport", "80", "-s", "10.244.1.3", "-d", "10.244.1.2"); got != fmt.Sprint(0x4003) {
		t.Errorf("the mark with another bit is %s", got)
	}
	n.render("cut", "--cut-mark", "0x2", "--clear")
	doomed.flows()
	if _, stderr, code := n.try("cut", "--cut=false"); code != 64 || !strings.Contains(stderr, "--cut=false") {
		t.Errorf("cut --cut=false: exit %d, %s", code, stderr)
	}
}

// loader does what policy-load does: it gives each new policy.nft to the kernel and says so. It returns when it
// last did.
func (n *node) loader() (last func() time.Time) {
	var at atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	n.t.Cleanup(func() { close(stop); <-done })
	go func() {
		defer close(done)
		loaded := ""
		for ; ; <-time.After(2 * time.Millisecond) {
			select {
			case <-stop:
				return
			default:
			}
			data, err := os.ReadFile(n.dir.PolicyNFT())
			if err != nil || string(data) == loaded {
				continue
			}
			m, err := ruleset.ParseManifest(n.dir.Policy(), data)
			if err != nil {
				n.t.Errorf("policy.nft: %v", err)
				return
			}
			if out, err := n.host.Try("nft", "-f", n.dir.PolicyNFT()); err != nil {
				continue // a file of it has changed meanwhile: the next manifest comes
			} else if out != "" {
				n.t.Logf("nft: %s", out)
			}
			loaded = string(data)
			at.Store(time.Now().UnixNano())
			text := fmt.Sprintf(`{"version": 1, "generation": %q, "kernel": 1, "boot": "x", "netns": 1, "endpoints": []}`, m.Generation())
			tmp := n.dir.PolicyLoaded() + ".new"
			if os.WriteFile(tmp, []byte(text), 0o644) != nil || os.Rename(tmp, n.dir.PolicyLoaded()) != nil {
				n.t.Error("policy.loaded.json cannot be written")
				return
			}
		}
	}()
	return func() time.Time { return time.Unix(0, at.Load()) }
}

// watch starts policy-render watch on the node.
func (n *node) watch(args ...string) {
	n.t.Helper()
	cmd := n.host.Command("policy-render", append([]string{"watch", "--run-dir", string(n.dir), "--objects", n.objects}, args...)...)
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("%s", log)
		}
	})
}

// replace writes the objects as a whole.
func (n *node) replace(text string) {
	n.t.Helper()
	n.write(n.objects+".new", text)
	if err := os.Rename(n.objects+".new", n.objects); err != nil {
		n.t.Fatal(err)
	}
}

func TestCutByWatch(t *testing.T) {
	n := cutNode(t)
	last := n.loader()
	n.watch()
	n.host.Eventually(patient, func() string {
		if _, err := os.Stat(n.dir.PolicyLoaded()); err != nil {
			return "nothing is loaded"
		}
		return ""
	})
	b := n.pods["dev/b"]
	doomed := startStream(t, "doomed", b.Namespace, n.to("dev/a", 80))
	kept := startStream(t, "kept", b.Namespace, n.to("dev/a", 443))
	fill(t, n.host, 2000)
	for range 3 {
		n.replace(cutPolicy)
		stopped := doomed.stops()
		took := stopped.Sub(last())
		t.Logf("cut %v after the ruleset changed", took)
		if took > 5*time.Second { // the next look at everything would come after 30
			t.Errorf("it took %v until the flow was cut", took)
		}
		kept.flows()
		n.replace(cutPods)
		doomed.flows()
	}
	// A label says whom a policy selects: that change cuts too.
	n.replace(strings.Replace(cutPolicy, "labels: {app: a}", "labels: {app: x}", 1))
	doomed.flows()
	n.replace(cutPolicy)
	doomed.stops()
	kept.flows()
}

func TestCutNot(t *testing.T) {
	n := cutNode(t)
	last := n.loader()
	n.watch("--cut=false")
	n.host.Eventually(patient, func() string {
		if last().Unix() == 0 {
			return "nothing is loaded"
		}
		return ""
	})
	b := n.pods["dev/b"]
	s := startStream(t, "established", b.Namespace, n.to("dev/a", 80))
	n.replace(cutPolicy)
	n.host.Eventually(patient, func() string {
		if err := ask(b.Namespace, "tcp", n.to("dev/a", 80), impatient); err == nil {
			return "a new connection is allowed"
		}
		return ""
	})
	for range 5 {
		s.flows()
	}
	if got := n.marks("ipv4", "-p", "tcp"); strings.Contains(got, fmt.Sprint(0x80000)) {
		t.Errorf("marks %s", got)
	}
}

// fill adds flows of other addresses to the table, of the kind that a busy node has.
func fill(t *testing.T, ns *nstest.Namespace, flows int) {
	t.Helper()
	var script strings.Builder
	for i := range flows {
		fmt.Fprintf(&script, "-I -p udp -s 10.%d.%d.%d -d 172.16.0.1 --sport %d --dport 53 -t 600\n", 100+i>>16, i>>8&255, i&255, 1024+i%60000)
	}
	cmd := ns.Command("conntrack", "-R", "-")
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("fill the table: %v\n%.500s", err, out)
	}
}

// TestDiffLive: what diff says a change would cut is what that change then cuts.
func TestDiffLive(t *testing.T) {
	n := cutNode(t)
	n.load()
	startStream(t, "doomed", n.pods["dev/b"].Namespace, n.to("dev/a", 80))
	startStream(t, "kept", n.pods["dev/b"].Namespace, n.to("dev/a", 443))
	next := filepath.Join(t.TempDir(), "next.yaml")
	n.write(next, cutPolicy)
	diff := func(args ...string) string {
		out, err := n.host.Try("policy-render", append([]string{"diff", "--run-dir", string(n.dir), "--live"}, args...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	text := diff(n.objects, next)
	if !strings.Contains(text, "newly denied:\n  dev/b and addresses of no pod in 0.0.0.0/0 and ::/0 -> dev/a: TCP 0-442, 444-65535; UDP; SCTP; other protocols\n") ||
		!regexp.MustCompile(`would cut 1 connections of this node:\n  TCP 10\.244\.1\.3:\d+ \(dev/b\) -> 10\.244\.1\.2:80 \(dev/a\)\n$`).MatchString(text) {
		t.Errorf("%s", text)
	}
	if out := diff("--output", "json", n.objects, next); !strings.Contains(out, `"toPod": "dev/a"`) {
		t.Errorf("%s", out)
	}
	if out := diff(next, n.objects); strings.Contains(out, "would cut") {
		t.Errorf("the other way round: %s", out)
	}
	n.write(n.objects, cutPolicy)
	n.load()
	if did := n.render("cut"); strings.Count(did, "\n") != 1 || !strings.Contains(did, "--dport 80 --mark 0x80000/0x80000") {
		t.Errorf("cut: %s", did)
	}
}
