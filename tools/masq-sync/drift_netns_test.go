//go:build netns

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// prompt is far more than a repair by event takes, and far less than the period of 30 s.
const prompt = 12 * time.Second

func (n *node) planIsEmpty() bool {
	stdout, stderr, code := n.masq("plan")
	return code == 0 && stdout == "" && stderr == ""
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.node.Run("iptables-nft", "-P", "FORWARD", "DROP")
	n.watch()
	n.eventually("start", prompt, n.planIsEmpty)
	for _, drift := range []struct {
		what    string
		command []string
	}{
		{"table deleted", []string{"nft", "delete table inet towpath-masq"}},
		{"chain flushed", []string{"nft", "flush chain inet towpath-masq postrouting"}},
		{"rule added", []string{"nft", "insert rule inet towpath-masq forward drop"}},
		{"policy changed", []string{"nft", "chain inet towpath-masq forward { policy drop; }"}},
		{"set added", []string{"nft", "add set inet towpath-masq s { type ipv4_addr; }"}},
		{"jump removed", []string{"iptables-nft", "-D", "FORWARD", "1"}},
		{"pushed in above", []string{"iptables-nft", "-I", "FORWARD", "1", "-j", "DROP"}},
		{"own chain flushed", []string{"iptables-nft", "-F", ownChain}},
		{"FORWARD flushed", []string{"iptables-nft", "-F", "FORWARD"}},
		{"ip6 FORWARD policy drop, a table that was not there", []string{"ip6tables-nft", "-P", "FORWARD", "DROP"}},
		{"ruleset flushed", []string{"nft", "flush ruleset"}},
		{"FORWARD policy drop after that", []string{"iptables-nft", "-P", "FORWARD", "DROP"}},
		{"forwarding off", []string{"sysctl", "-qw", "net.ipv4.ip_forward=0"}},
		{"IPv6 forwarding off", []string{"sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"}},
	} {
		n.node.Run(drift.command[0], drift.command[1:]...)
		took := n.eventually(drift.what, prompt, n.planIsEmpty)
		t.Logf("%s: repaired within %v", drift.what, took.Round(time.Millisecond))
	}
	n.sees("after all that", n.pod, world.IPv4.peer, world.IPv4.pod)
	n.sees("after all that", n.pod, world.IPv6.outside, world.IPv6.node)
}

func TestLeaseChangesAreFollowed(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.watch()
	n.eventually("start", prompt, n.planIsEmpty)
	table := func() string {
		out, _ := n.node.Try("nft", "list", "table", "inet", "towpath-masq")
		return out
	}
	n.write(ipv4Lease)
	n.eventually("IPv6 gone", prompt, func() bool { return !strings.Contains(table(), "ip6") })
	n.write(unmasqueraded(ipv4Lease))
	n.eventually("masquerade gone", prompt, func() bool { return !strings.Contains(table(), "masquerade") })
	n.write(lease("10.0.0.0/8", "10.1.0.0/24", "", ""))
	n.eventually("other subnet", prompt, func() bool { return strings.Contains(table(), "ip daddr 10.1.0.0/24") })

	// A broken or missing lease removes nothing, and the last good one is still defended.
	good := table()
	for what, broken := range map[string]func() error{
		"truncated": func() error { return os.WriteFile(n.dir.Lease(), []byte(`{"version":1,`), 0o644) },
		"removed":   func() error { return os.Remove(n.dir.Lease()) },
	} {
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		n.node.Run("nft", "delete table inet towpath-masq")
		n.eventually("lease "+what, prompt, func() bool { return table() == good })
	}
}

// TestIdleExecutesNothing: whole periods pass, other programs change nftables, and no program is run;
// then a change in a legacy table, of which the kernel does not tell, is found by the period.
func TestIdleExecutesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, v := range variants {
		n.node.Run(v.Program, "-P", "FORWARD", "DROP")
	}
	executed, path := record(t, "nft", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy",
		"iptables-nft-restore", "ip6tables-nft-restore", "iptables-legacy-restore", "ip6tables-legacy-restore")
	n.watch(path)
	n.eventually("start", prompt, n.planIsEmpty)
	lines := func() []string {
		text, err := os.ReadFile(executed)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	// What the start itself still runs.
	settled := len(lines())
	for last := -1; last != settled; settled = len(lines()) {
		last = settled
		<-time.After(2 * time.Second)
	}
	busy := time.After(33 * time.Second)
	n.node.Run("nft", "table ip kube-proxy { chain services { }; set s { type ipv4_addr; }; }")
	for i := 0; ; i++ {
		n.node.Run("nft", "add rule ip kube-proxy services accept; flush set ip kube-proxy s; add element ip kube-proxy s { 10.0.0.1 }")
		n.node.Run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
		select {
		case <-busy:
		case <-time.After(500 * time.Millisecond):
			continue
		}
		break
	}
	if now := lines(); len(now) != settled {
		t.Errorf("programs were executed while nothing of ours changed:\n%s", strings.Join(now[settled:], "\n"))
	}

	n.node.Run("iptables-legacy", "-D", "FORWARD", "1")
	took := n.eventually("legacy jump removed", 90*time.Second, func() bool {
		return strings.Contains(n.node.Run("iptables-legacy", "-S", "FORWARD"), ownChain)
	})
	t.Logf("legacy jump removed: repaired within %v", took.Round(time.Millisecond))
	for _, line := range lines()[settled:] {
		if !strings.HasPrefix(line, "iptables-legacy") {
			t.Errorf("the legacy change ran %q", line)
		}
	}
}

func TestMissingPrograms(t *testing.T) {
	n := newNode(t)
	// Only what is needed to get there, and nft.
	tools := func(names ...string) string {
		dir := t.TempDir()
		for _, name := range names {
			at, err := filepath.EvalSymlinks(mustLook(t, name))
			if err == nil {
				err = os.Symlink(at, filepath.Join(dir, name))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	n.node.Run("iptables-nft", "-P", "FORWARD", "DROP")
	n.node.Run("ip6tables-legacy", "-P", "FORWARD", "DROP")
	t.Setenv("PATH", tools("ip", "nft", "masq-sync", "sysctl", "cat"))
	_, stderr, code := n.masq("apply")
	if code != 0 {
		t.Fatalf("without iptables: exit %d\n%s", code, stderr)
	}
	for _, part := range []string{`program \"iptables-nft\" is missing`, `program \"ip6tables-legacy\" is missing`, `install the package \"iptables\"`, "cannot open chain FORWARD"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("the warning lacks %s:\n%s", part, stderr)
		}
	}
	if out := n.node.Run("nft", "list", "table", "inet", "towpath-masq"); !strings.Contains(out, "masquerade") {
		t.Errorf("without iptables the rest is not done:\n%s", out)
	}
	n.mustMasq("down")

	t.Setenv("PATH", tools("ip", "masq-sync"))
	_, stderr, code = n.masq("apply")
	if code != 69 || !strings.Contains(stderr, `hint: install the package "nftables"`) {
		t.Errorf("without nft: exit %d\n%s", code, stderr)
	}
}

// TestBadInput: the kernel stays as it is, and the message names file and key.
func TestBadInput(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.mustMasq("apply")
	good, err := os.ReadFile(n.dir.Lease())
	if err != nil {
		t.Fatal(err)
	}
	before := n.snapshot()
	replace := func(old, new string) string {
		s := strings.Replace(string(good), old, new, 1)
		if s == string(good) {
			t.Fatalf("the lease has no %s", old)
		}
		return s
	}
	for name, c := range map[string]struct {
		lease string
		key   string
	}{
		"empty":            {"", "empty"},
		"truncated":        {string(good[:len(good)/2]), "truncated"},
		"no JSON":          {"network: 10.0.0.0/8", "line 1"},
		"huge":             {strings.Repeat(" ", state.MaxSize) + string(good), "larger than"},
		"newer":            {replace(`"version": 1`, `"version": 2`), `"version"`},
		"no version":       {replace(`"version": 1,`, ``), `"version"`},
		"no prefix":        {replace(`"10.244.0.0/16"`, `"10.244.0.0"`), `"network.ipv4"`},
		"wrong type":       {replace(`"ipMasq": true`, `"ipMasq": "yes"`), `"ipMasq"`},
		"subnet elsewhere": {replace(`"10.244.1.0/24"`, `"10.245.1.0/24"`), `"subnet.ipv4"`},
		"host bits":        {replace(`"10.244.1.0/24"`, `"10.244.1.1/24"`), `"subnet.ipv4"`},
		"injection":        {replace(`"10.244.1.0/24"`, `"10.244.1.0/24; flush ruleset"`), `"subnet.ipv4"`},
		"everything":       {replace(`"10.244.0.0/16"`, `"0.0.0.0/0"`), `"network.ipv4"`},
		"path":             {replace(`"eth0"`, `"../../.."`), `"interface.name"`},
	} {
		if err := os.WriteFile(n.dir.Lease(), []byte(c.lease), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"plan", "apply", "watch"} {
			stdout, stderr, code := n.masq(verb)
			if code != 65 || stdout != "" || !strings.Contains(stderr, n.dir.Lease()) || !strings.Contains(stderr, c.key) {
				t.Errorf("%s, %s: exit %d\n%s%s", name, verb, code, stdout, stderr)
			}
		}
	}
	os.Remove(n.dir.Lease())
	if _, stderr, code := n.masq("apply"); code != 75 || !strings.Contains(stderr, n.dir.Lease()) {
		t.Errorf("no lease: exit %d\n%s", code, stderr)
	}

	// The program's own memory is a file like any other.
	os.WriteFile(n.dir.Lease(), good, 0o644)
	record, err := os.ReadFile(n.dir.Masq())
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string]string{
		"empty": "", "truncated": string(record[:len(record)/2]), "newer": strings.Replace(string(record), `"version": 1`, `"version": 9`, 1),
		"path": strings.Replace(string(record), "net/ipv4/ip_forward", "net/../kernel/panic", 1),
	} {
		if err := os.WriteFile(n.dir.Masq(), []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"plan", "apply", "down"} {
			if stdout, stderr, code := n.masq(verb); code != 65 || stdout != "" || !strings.Contains(stderr, n.dir.Masq()) {
				t.Errorf("masq.json %s, %s: exit %d\n%s%s", name, verb, code, stdout, stderr)
			}
		}
	}
	if after := n.snapshot(); after != before {
		t.Errorf("bad input changed the kernel:\n%s", after)
	}
}

// BenchmarkPlanUnchanged is what a period, or a hint that was none, costs.
func BenchmarkPlanUnchanged(b *testing.B) {
	n := nstest.New(b, "bench")
	dir := state.Dir(b.TempDir())
	if _, err := state.Save(dir.Lease(), dualLease); err != nil {
		b.Fatal(err)
	}
	n.Run("iptables-legacy", "-P", "FORWARD", "DROP")
	n.Run("masq-sync", "apply", "--run-dir", string(dir))
	n.Do(func() {
		s := &step{options: defaults, machine: machine{dir: dir, log: slog.New(slog.DiscardHandler)}, warned: map[string]string{}}
		for b.Loop() {
			if ops, err := s.Plan(b.Context()); err != nil || len(ops) > 0 {
				b.Errorf("%v, %v", ops, err)
				return
			}
		}
	})
}
