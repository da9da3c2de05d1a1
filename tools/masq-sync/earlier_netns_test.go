//go:build netns

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// flannelRules are what flanneld makes with one of the iptables programs.
func flannelRules(n *node, program, network, subnet, multicast string) {
	n.t.Helper()
	for _, args := range []string{
		"-t nat -N FLANNEL-POSTRTG",
		"-t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN",
		"-t nat -A FLANNEL-POSTRTG -s " + subnet + " -d " + network + " -j RETURN",
		"-t nat -A FLANNEL-POSTRTG -s " + network + " -d " + subnet + " -j RETURN",
		"-t nat -A FLANNEL-POSTRTG ! -s " + network + " -d " + subnet + " -j RETURN",
		"-t nat -A FLANNEL-POSTRTG -s " + network + " ! -d " + multicast + " -j MASQUERADE --random-fully",
		"-t nat -A FLANNEL-POSTRTG ! -s " + network + " -d " + network + " -j MASQUERADE --random-fully",
		"-t nat -A POSTROUTING -m comment --comment flanneld-masq -j FLANNEL-POSTRTG",
		"-t filter -N FLANNEL-FWD",
		"-t filter -A FLANNEL-FWD -s " + network + " -m comment --comment flanneld-forward -j ACCEPT",
		"-t filter -A FLANNEL-FWD -d " + network + " -m comment --comment flanneld-forward -j ACCEPT",
		"-t filter -A FORWARD -m comment --comment flanneld-forward -j FLANNEL-FWD",
		"-t nat -A POSTROUTING -m comment --comment somebody-else",
	} {
		n.node.Run(program, strings.Fields(args)...)
	}
}

// calicoRules are some of what Calico leaves: chains that lead to each other, and rules in others' chains.
func calicoRules(n *node, program string) {
	n.t.Helper()
	for _, table := range []string{"filter", "nat", "raw", "mangle"} {
		base := map[string]string{"filter": "FORWARD", "nat": "POSTROUTING", "raw": "PREROUTING", "mangle": "PREROUTING"}[table]
		run := func(args ...string) { n.t.Helper(); n.node.Run(program, append([]string{"-t", table}, args...)...) }
		run("-N", "cali-"+base)
		run("-N", "cali-to-wl-dispatch")
		run("-A", "cali-"+base, "-m", "comment", "--comment", "cali:vjrMJCRpqwy5oRoX", "-j", "cali-to-wl-dispatch")
		run("-I", base, "-m", "comment", "--comment", "cali:wUHhoiAYhphO9Mso", "-j", "cali-"+base)
		run("-A", base, "-m", "comment", "--comment", "cali:S93hcgKJrXEqnTfs", "-m", "mark", "--mark", "0x10000/0x10000", "-j", "ACCEPT")
	}
}

// flannelTable is the rules of flanneld's nftables mode that matter.
const flannelTable = `table ip flannel-ipv4 {
	chain postrtg { type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.244.0.0/16 ip daddr != { 224.0.0.0/4, 10.244.0.0/16 } masquerade fully-random
	}
	chain forward { type filter hook forward priority filter; policy accept; ip saddr 10.244.0.0/16 accept; }
}
table ip6 flannel-ipv6 {
	chain postrtg { type nat hook postrouting priority srcnat; policy accept; }
}`

func (n *node) leavings() string {
	n.t.Helper()
	var left []string
	for _, line := range strings.Split(n.snapshot(), "\n") {
		if strings.Contains(line, "FLANNEL") || strings.Contains(line, "cali") || strings.Contains(line, "flannel") {
			left = append(left, line)
		}
	}
	return strings.Join(left, "\n")
}

// everything is the rules of all tables, in iptables' words.
func (n *node) everything() string {
	n.t.Helper()
	return n.node.Run("iptables-nft-save") + n.node.Run("iptables-legacy-save")
}

// stream is a TCP connection from the pod to outside: each word that it sends comes back.
func stream(n *node) (say func(word string) error) {
	n.t.Helper()
	var l net.Listener
	var err error
	n.outside.Do(func() { l, err = net.Listen("tcp", "192.168.9.2:7778") })
	if err != nil {
		n.t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for lines := bufio.NewScanner(c); lines.Scan(); {
			fmt.Fprintf(c, "%s from %s\n", lines.Text(), c.RemoteAddr())
		}
	}()
	var c net.Conn
	n.pod.Do(func() { c, err = net.Dial("tcp", "192.168.9.2:7778") })
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close(); c.Close() })
	answers := bufio.NewReader(c)
	first := ""
	return func(word string) error {
		c.SetDeadline(time.Now().Add(patient))
		fmt.Fprintln(c, word)
		answer, err := answers.ReadString('\n')
		_, source, _ := strings.Cut(answer, " from ")
		if first == "" {
			first = source
		}
		if err == nil && source != first {
			err = fmt.Errorf("it came from %q, now from %q", first, source)
		}
		return err
	}
}

// TestTakesOver: flannel's and Calico's rules go when ours stand; what is open stays open, with its source, and
// nothing of anybody else is touched; without the flag they stay.
func TestTakesOver(t *testing.T) {
	bare := t.TempDir() // a container with nft and no iptables
	for _, p := range []string{"nft", "masq-sync"} {
		if err := os.Symlink(mustLook(t, p), filepath.Join(bare, p)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, path string
		make       func(n *node)
	}{
		{"iptables-nft", "", func(n *node) {
			flannelRules(n, "iptables-nft", "10.244.0.0/16", "10.244.1.0/24", "224.0.0.0/4")
			flannelRules(n, "ip6tables-nft", "fd00:244::/48", "fd00:244:0:1::/64", "ff00::/8")
			calicoRules(n, "iptables-nft")
		}},
		{"iptables-legacy", "", func(n *node) {
			flannelRules(n, "iptables-legacy", "10.244.0.0/16", "10.244.1.0/24", "224.0.0.0/4")
			calicoRules(n, "iptables-legacy")
			n.node.Run("iptables-legacy", "-P", "FORWARD", "DROP")
		}},
		{"nft", "", func(n *node) { n.node.Run("nft", flannelTable) }},
		{"iptables-nft, without the program", bare, func(n *node) {
			flannelRules(n, "iptables-nft", "10.244.0.0/16", "10.244.1.0/24", "224.0.0.0/4")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.node.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
			c.make(n)
			say := stream(n)
			if err := say("flannel"); err != nil {
				t.Fatal(err)
			}
			if n.mustMasq("apply"); n.leavings() == "" {
				t.Error("flannel's rules are gone without being asked for")
			}
			args := []string{"--take-over"}
			out := ""
			if c.path == "" {
				out = n.mustMasq("apply", args...)
			} else {
				data, err := n.node.Command("env", "PATH="+c.path, "masq-sync", "apply", "--take-over", "--run-dir", string(n.dir)).Output()
				if out = string(data); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			if left := n.leavings(); left != "" {
				t.Errorf("left:\n%s\nafter\n%s", left, out)
			}
			if err := say("towpath"); err != nil {
				t.Errorf("the connection: %v", err)
			}
			n.sees("pod to outside", n.pod, world.IPv4.outside, world.IPv4.node)
			n.sees("pod to pod", n.peer, world.IPv4.pod, world.IPv4.peer)
			if out := n.mustMasq("apply", args...); out != "" {
				t.Errorf("a second time:\n%s", out)
			}
			if c.name != "nft" && !strings.Contains(n.everything(), "somebody-else") {
				t.Error("somebody else's rule is gone")
			}
			// And back: not before flannel has its rules again, and then without a gap.
			if _, stderr, code := n.masq("down", "--hand-back"); code != 75 || !strings.Contains(stderr, "hint: start flanneld") {
				t.Errorf("handed back to nobody: exit %d, %s", code, stderr)
			}
			switch c.name {
			case "nft":
				c.make(n)
			case "iptables-legacy":
				flannelRules(n, "iptables-legacy", "10.244.0.0/16", "10.244.1.0/24", "224.0.0.0/4")
			default:
				flannelRules(n, "iptables-nft", "10.244.0.0/16", "10.244.1.0/24", "224.0.0.0/4")
			}
			n.mustMasq("down", "--hand-back")
			if s := n.snapshot(); strings.Contains(strings.ToLower(s), "towpath") || !strings.Contains(s, "net.ipv4.ip_forward = 1") {
				t.Errorf("not handed back:\n%s", s)
			}
			if err := say("flannel again"); err != nil {
				t.Errorf("the connection: %v", err)
			}
			n.sees("pod to outside", n.pod, world.IPv4.outside, world.IPv4.node)
		})
	}
}

// TestTakesOverWhileFlannelLives: what flanneld puts back in its last seconds goes too.
func TestTakesOverWhileFlannelLives(t *testing.T) {
	n := newNode(t)
	n.watch("TOWPATH_TAKE_OVER=true")
	n.eventually("ours stand", patient, func() bool { return strings.Contains(n.snapshot(), "towpath-masq") })
	n.node.Run("nft", flannelTable)
	flannelRules(n, "iptables-nft", "10.244.0.0/16", "10.244.1.0/24", "224.0.0.0/4")
	n.eventually("flannel's are gone", 90*time.Second, func() bool { return n.leavings() == "" })
}
