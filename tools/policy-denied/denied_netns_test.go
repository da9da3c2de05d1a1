//go:build netns

package main

import (
	"bufio"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// rules are of the kind that policy-render writes, for two pods.
const rules = `
table inet towpath-policy {
	chain forward { type filter hook forward priority filter; policy accept;
		ip saddr 10.244.1.9 log prefix "towpath ? unknown " group 100 snaplen 64 drop
		ip saddr 10.244.1.2 tcp dport 80 goto deny-ge-1
		ip6 saddr fd00:10:0:1::2 goto deny-ge-1
		ip saddr 10.244.1.2 udp dport 53 log prefix "somebody else" group 100 drop
	}
	chain deny-ge-1 { limit rate 10/second burst 20 packets log prefix "towpath E ge-1 " group 100 snaplen 64
		counter drop
	}
}
table bridge towpath-policy {
	chain prerouting { type filter hook prerouting priority filter; policy accept;
		iifname "veth1" arp saddr ip 10.244.1.77 log prefix "towpath S spoof " group 100 snaplen 64 drop
	}
}`

// TestNothingLoaded: who waits for denied packets where there are no policies is told so.
func TestNothingLoaded(t *testing.T) {
	host := nstest.New(t, "host")
	for _, loaded := range []bool{false, true} {
		dir := state.Dir(t.TempDir())
		if loaded {
			save(t, dir.PolicyLoaded(), state.PolicyLoaded{Version: state.Version})
		}
		cmd := host.Command("policy-denied", "watch", "--run-dir", string(dir))
		log, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(log)
		lines.Scan() // it waits
		if !loaded && lines.Scan() && !strings.Contains(lines.Text(), "loaded no policies") {
			t.Errorf("log: %q", lines.Text())
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		for lines.Scan() {
			t.Errorf("log, loaded %t: %q", loaded, lines.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestDenied lets a pod send what rules in a real kernel drop, and reads what is printed.
func TestDenied(t *testing.T) {
	dir := node(t)
	host, pod, other := nstest.New(t, "host"), nstest.New(t, "pod"), nstest.New(t, "other")
	host.Run("ip", "link", "add", "cni0", "type", "bridge")
	host.Run("ip", "link", "set", "cni0", "up")
	host.Run("ip", "addr", "add", "10.244.1.1/24", "dev", "cni0")
	host.Run("ip", "addr", "add", "fd00:10:0:1::1/64", "dev", "cni0", "nodad")
	nstest.Connect(host, "veth1", "", pod, "eth0", "10.244.1.2/24 10.244.1.9/24 10.244.1.77/24 fd00:10:0:1::2/64")
	host.Run("ip", "link", "set", "veth1", "master", "cni0")
	nstest.Connect(host, "veth9", "10.244.2.1/24 fd00:10:0:2::1/64", other, "eth0", "10.244.2.3/24 fd00:10:0:2::3/64")
	host.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for _, way := range [][]string{{"-4", "10.244.1.1"}, {"-6", "fd00:10:0:1::1"}} {
		pod.Run("ip", way[0], "route", "add", "default", "via", way[1])
	}
	load := host.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader(rules)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	next := start(t, host, dir, "--output", "json")
	cases := []struct {
		name string
		send []string
		want string
	}{
		{"egress", []string{"bash", "-c", "echo >/dev/tcp/10.244.2.3/80"}, "egress prod/web → dev/pod1:80/TCP: isolated by prod/deny-all-egress, prod/dns"},
		{"IPv6", []string{"ping", "-c1", "-W1", "fd00:10:0:2::3"}, "egress prod/web → dev/pod1 (ICMPv6 echo request): isolated by prod/deny-all-egress, prod/dns"},
		{"others' log, then unknown", []string{"bash", "-c", "echo >/dev/udp/10.244.2.3/53; ping -c1 -W1 -I 10.244.1.9 10.244.2.3"}, "unknown 10.244.1.9 → dev/pod1 (ICMP echo request): no pod of this node has 10.244.1.9: addresses without rules are closed"},
		{"spoofed ARP", []string{"bash", "-c", "ip neigh flush all; ping -c1 -W1 -I 10.244.1.77 10.244.1.1"}, "spoof 10.244.1.77 → 10.244.1.1 (ARP who has 10.244.1.1): prod/web claims 10.244.1.77, which is not its address"},
	}
	var wanted []string
	for _, c := range cases {
		wanted = append(wanted, c.want)
		cmd := pod.Command("timeout", append([]string{"2"}, c.send...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var d denial
		for seen := ""; seen != c.want; { // what the kernel sends again, or for an earlier case, is denied again
			line := next()
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatalf("%s: %v: %q", c.name, err, line)
			}
			_, seen, _ = strings.Cut(d.String(), " ")
			if t.Log(seen); !slices.Contains(wanted, seen) {
				t.Fatalf("%s: not expected", c.name)
			}
		}
		if time.Since(d.Time).Abs() > time.Minute {
			t.Errorf("%s: %s", c.name, d.Time)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	if out, err := host.Try("policy-denied", "watch", "--run-dir", string(dir)); err == nil || !strings.Contains(out, "has it, and a group has one receiver") {
		t.Errorf("a second receiver: %v %s", err, out)
	}
}

// TestDeniedAfterChange: the policies are those of the chain as its file is now.
func TestDeniedAfterChange(t *testing.T) {
	dir := node(t)
	host := nstest.New(t, "host")
	host.Run("nft", `add table inet t; add chain inet t out { type filter hook output priority 0; };
		add rule inet t out log prefix "towpath E ge-new " group 100; add rule inet t out drop`)
	next := start(t, host, dir, "--count", "2")
	_, _ = host.Try("ping", "-c1", "-W0.1", "127.0.0.1")
	if got := next(); !strings.HasSuffix(got, "egress 127.0.0.1 → 127.0.0.1 (ICMP echo request): isolated by policies that are no longer there (chain deny-ge-new)") {
		t.Error(got)
	}
	o := &ruleset.Object{ID: ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: "deny-ge-new"}, Notes: []string{"egress: a/b"}, Lines: []string{"drop"}}
	write(t, filepath.Join(dir.Policy(), o.Path()), string(o.Text()))
	_, _ = host.Try("ping", "-c1", "-W0.1", "127.0.0.1")
	if got := next(); !strings.HasSuffix(got, ": isolated by a/b") {
		t.Error(got)
	}
	if got := next(); got != "" {
		t.Errorf("after --count 2: %q", got)
	}
}

// start runs policy-denied and returns what reads its next line, "" at the end.
func start(t *testing.T, host *nstest.Namespace, dir state.Dir, args ...string) (next func() string) {
	t.Helper()
	cmd := host.Command("policy-denied", append([]string{"watch", "--run-dir", string(dir)}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	ready := bufio.NewScanner(log)
	if !ready.Scan() || !strings.Contains(ready.Text(), "waiting for denied packets") {
		t.Fatalf("log: %q", ready.Text())
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		for range lines {
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return func() string {
		select {
		case line := <-lines:
			return line
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was printed")
			return ""
		}
	}
}
