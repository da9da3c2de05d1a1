//go:build netns

package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestGoldensPassNFT(t *testing.T) {
	n := nstest.New(t, "golden")
	files, _ := filepath.Glob("testdata/tables/*.nft")
	if len(files) != len(tables(t)) {
		t.Fatalf("%d golden files for %d tables", len(files), len(tables(t)))
	}
	n.Do(func() {
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err == nil {
				err = nft.Check(t.Context(), string(text))
			}
			if err != nil {
				t.Errorf("%s: %v", f, err)
			}
		}
	})
}

// TestPlanLinesAreCommands: what plan prints can be typed, and makes what apply makes.
func TestPlanLinesAreCommands(t *testing.T) {
	t.Parallel()
	typed, applied := newNode(t), newNode(t)
	for _, n := range []*node{typed, applied} {
		n.node.Run("iptables-nft", "-P", "FORWARD", "DROP")
		n.node.Run("ip6tables-legacy", "-P", "FORWARD", "DROP")
	}
	for line := range strings.Lines(typed.mustMasq("plan")) {
		if !strings.HasPrefix(line, "write ") {
			typed.node.Run("sh", "-c", line)
		}
	}
	applied.mustMasq("apply")
	if d := cmp.Diff(applied.snapshot(), typed.snapshot()); d != "" {
		t.Errorf("(-applied +typed)\n%s", d)
	}
}

func TestMasquerade(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.mustMasq("apply")
	if out := n.mustMasq("apply"); out != "" {
		t.Errorf("a second apply does\n%s", out)
	}
	if out := n.mustMasq("plan"); out != "" {
		t.Errorf("a plan after apply:\n%s", out)
	}
	check := func(random string) {
		t.Helper()
		if out := n.node.Run("nft", "list", "table", "inet", "towpath-masq"); strings.Count(out, "masquerade"+random+" comment") != 4 {
			t.Errorf("not four rules with masquerade%s:\n%s", random, out)
		}
		for _, f := range state.Families {
			a := world.Of(f)
			n.sees("pod to outside", n.pod, a.outside, a.node)
			n.sees("pod to another node's pod", n.pod, a.peer, a.pod)
			n.sees("another node's pod to pod", n.peer, a.pod, a.peer)
			n.sees("outside to own pod", n.outside, a.pod, a.outside)
			n.sees("outside to another node's pod", n.outside, a.peer, a.toPeer)
		}
	}
	check(" fully-random")
	n.mustMasq("apply", "--random-fully=false")
	check("")

	// What kube-proxy marked is kube-proxy's to masquerade, whatever other bits the mark has.
	for mark, masqueraded := range map[string]bool{"0x4000": false, "0x4001": false, "0xc00f": false, "0x1": true, "0x8000": true} {
		n.node.Run("nft", `table inet marker { chain forward { type filter hook forward priority mangle; }; }; flush table inet marker; `+
			`add rule inet marker forward meta mark set `+mark)
		for _, f := range state.Families {
			a := world.Of(f)
			source := a.pod
			if masqueraded {
				source = a.node
			}
			n.sees("pod to outside, mark "+mark, n.pod, a.outside, source)
		}
	}
	n.node.Run("nft", "delete table inet marker")

	n.write(unmasqueraded(dualLease))
	n.mustMasq("apply")
	for _, f := range state.Families {
		a := world.Of(f)
		n.sees("pod to outside, ipMasq false", n.pod, a.outside, a.pod)
		n.sees("outside to another node's pod, ipMasq false", n.outside, a.peer, a.outside)
	}
}

// TestMulticastKeepsItsSource: its receivers are on the link, and answer the sender itself.
func TestMulticastKeepsItsSource(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.mustMasq("apply")
	// Counted where it leaves, since a receiver would need a group and a route back.
	n.node.Run("nft", `table inet count { chain out { type filter hook postrouting priority 200; `+
		`ip daddr 239.1.2.3 ip saddr 10.244.1.1 counter; ip6 daddr ff05::123 ip6 saddr fd00:244:0:1::1 counter; `+
		`ip daddr 192.168.9.2 ip saddr 192.168.9.1 counter; ip6 daddr fd00:9::2 ip6 saddr fd00:9::1 counter; }; }`)
	n.node.Run("ip", "route", "add", "239.0.0.0/8", "dev", "eth0")
	for _, c := range [][2]string{
		{"10.244.1.1", "239.1.2.3"}, {"10.244.1.1", "192.168.9.2"}, {"fd00:244:0:1::1", "ff05::123%eth0"}, {"fd00:244:0:1::1", "fd00:9::2"},
	} {
		n.node.Do(func() {
			d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(c[0]), 0))}
			conn, err := d.Dial("udp", netip.AddrPortFrom(addr(c[1]), 9).String())
			if err != nil {
				t.Error(err)
				return
			}
			conn.Write([]byte("x"))
			conn.Close()
		})
	}
	out := n.node.Run("nft", "list", "table", "inet", "count")
	if strings.Count(out, "counter packets 1 ") != 4 {
		t.Errorf("not one packet of each kind:\n%s", out)
	}
}

func TestForwardIsOpened(t *testing.T) {
	for _, v := range variants {
		t.Run(v.Program, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			a := world.Of(v.Family)
			for _, name := range []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"} {
				n.node.Run("sysctl", "-qw", name)
			}
			n.sees("before the policy", n.pod, a.peer, a.pod)
			n.node.Run(v.Program, "-P", "FORWARD", "DROP")
			n.node.Run(v.Program, "-A", "FORWARD", "-p", "tcp", "-j", "REJECT")
			n.blocked("FORWARD policy drop", n.pod, a.peer)
			n.blocked("FORWARD policy drop", n.outside, a.pod)
			before := n.snapshot()

			n.mustMasq("apply", "--forward-rules=false")
			n.blocked("--forward-rules=false", n.pod, a.peer)

			n.mustMasq("apply")
			n.sees("opened", n.pod, a.peer, a.pod)
			n.sees("opened", n.pod, a.outside, a.node)
			n.sees("opened", n.outside, a.pod, a.outside)
			n.sees("opened", n.peer, a.pod, a.peer)
			if out := n.mustMasq("plan"); out != "" {
				t.Errorf("plan after apply:\n%s", out)
			}

			// Someone pushes in above us, doubles our jump and spoils our chain.
			n.node.Run(v.Program, "-I", "FORWARD", "1", "-j", "DROP")
			n.node.Run(v.Program, "-A", "FORWARD", "-j", ownChain)
			n.node.Run(v.Program, "-I", ownChain, "1", "-j", "DROP")
			n.blocked("spoilt", n.pod, a.peer)
			n.mustMasq("apply")
			n.sees("repaired", n.pod, a.peer, a.pod)
			if out := n.node.Run(v.Program, "-S"); strings.Count(out, "-j "+ownChain) != 1 || !strings.Contains(out, "-P FORWARD DROP") {
				t.Errorf("after the repair:\n%s", out)
			}
			n.node.Run(v.Program, "-D", "FORWARD", "-j", "DROP")

			n.mustMasq("down")
			if d := cmp.Diff(before, n.snapshot()); d != "" {
				t.Errorf("down left (-before +after)\n%s", d)
			}
		})
	}
}

// TestKubeProxyIsAskedFirst: what kube-proxy turns away in FORWARD (a Service without endpoints, a client that
// loadBalancerSourceRanges lack) stays turned away, whichever of the two programs starts first.
func TestKubeProxyIsAskedFirst(t *testing.T) {
	for _, v := range variants {
		t.Run(v.Program, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			a := world.Of(v.Family)
			jump := []string{"-m", "conntrack", "--ctstate", "NEW", "-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-SERVICES"}
			n.node.Run(v.Program, "-P", "FORWARD", "DROP")
			n.node.Run(v.Program, "-N", "KUBE-SERVICES")
			n.node.Run(v.Program, "-A", "KUBE-SERVICES", "-d", a.outside.String(), "-j", "REJECT")
			n.node.Run(v.Program, append([]string{"-A", "FORWARD"}, jump...)...)
			n.mustMasq("apply")
			n.blocked("started before us", n.pod, a.outside)
			n.sees("started before us", n.pod, a.peer, a.pod)
			if out := n.mustMasq("plan"); out != "" {
				t.Errorf("plan after apply:\n%s", out)
			}

			n.node.Run(v.Program, append([]string{"-D", "FORWARD"}, jump...)...)
			n.mustMasq("apply")
			n.sees("away", n.pod, a.outside, a.node)
			n.node.Run(v.Program, append([]string{"-I", "FORWARD", "1"}, jump...)...) // as kube-proxy does
			if out := n.mustMasq("plan"); out != "" {
				t.Errorf("plan after it started:\n%s", out)
			}
			n.blocked("started after us", n.pod, a.outside)

			n.node.Run(v.Program, append([]string{"-D", "FORWARD"}, jump...)...)
			n.node.Run(v.Program, append([]string{"-A", "FORWARD"}, jump...)...)
			n.mustMasq("apply")
			n.blocked("moved below us", n.pod, a.outside)
			n.sees("moved below us", n.pod, a.peer, a.pod)
		})
	}
}

// TestNoTableIsMade: iptables tables that nobody made stay unmade, since an empty legacy table costs
// every packet and confuses every tool.
func TestNoTableIsMade(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.mustMasq("apply")
	out := n.node.Run("nft", "list", "tables")
	legacy := n.node.Run("cat", "/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names")
	if out != "table inet towpath-masq\n" || legacy != "" {
		t.Errorf("nftables: %s, legacy: %s", out, legacy)
	}
	n.node.Run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT") // a filter table without FORWARD closes nothing
	if out := n.mustMasq("plan"); out != "" {
		t.Errorf("plan beside a table without FORWARD:\n%s", out)
	}
	if out := n.node.Run("nft", "list", "chains", "ip"); strings.Contains(out, "FORWARD") {
		t.Errorf("a chain was made:\n%s", out)
	}
}

func TestDownLeavesTheNodeAsItWas(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, v := range variants {
		n.node.Run(v.Program, "-P", "FORWARD", "DROP")
		n.node.Run(v.Program, "-A", "FORWARD", "-i", "lo", "-j", "ACCEPT")
	}
	n.node.Run("nft", "table inet foreign { chain c { type nat hook postrouting priority srcnat; counter; }; }")
	n.node.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0",
		"net.ipv4.conf.all.accept_redirects=0", "net.ipv4.conf.cni0.forwarding=1", "net.ipv6.conf.cni0.forwarding=1",
		"net.ipv6.conf.eth0.accept_ra=1")
	before := n.snapshot()
	if out := n.mustMasq("down"); out != "" {
		t.Errorf("down before anything was made:\n%s", out)
	}
	planned := n.mustMasq("plan")
	if d := cmp.Diff(before, n.snapshot()); d != "" {
		t.Errorf("plan changed (-before +after)\n%s", d)
	}
	if applied := n.mustMasq("apply"); applied != planned {
		t.Errorf("apply did not do what plan said:\n%s", cmp.Diff(planned, applied))
	}
	_, stderr, _ := n.masq("plan", "--down")
	if stderr != "" {
		t.Errorf("plan --down says\n%s", stderr)
	}
	after := n.node.Run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.bridge.bridge-nf-call-iptables",
		"net.bridge.bridge-nf-call-ip6tables", "net.ipv6.conf.eth0.accept_ra")
	if after != "1\n1\n1\n1\n2\n" {
		t.Errorf("sysctls after apply: %q", after)
	}
	n.mustMasq("down")
	if d := cmp.Diff(before, n.snapshot()); d != "" {
		t.Errorf("down left (-before +after)\n%s", d)
	}
	if _, err := os.Stat(n.dir.Masq()); err == nil {
		t.Error("masq.json is left")
	}
	if out := n.mustMasq("down"); out != "" {
		t.Errorf("a second down does\n%s", out)
	}
}

func TestSysctlsAreLogged(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.node.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	_, stderr, _ := n.masq("apply")
	for _, part := range []string{"name=net/ipv4/ip_forward old=0 new=1", "name=net/bridge/bridge-nf-call-iptables old=0 new=1", "br_netfilter is there"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("the log lacks %q:\n%s", part, stderr)
		}
	}
	n.node.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	if out := n.mustMasq("plan", "--bridge-nf", "off"); strings.Contains(out, "bridge-nf-call-iptables") {
		t.Errorf("--bridge-nf off:\n%s", out)
	}
}

// TestReplacingLosesNothing: packets of a masqueraded flow pass while the table is replaced again and
// again, also by a program that is killed at any moment.
func TestReplacingLosesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.mustMasq("apply")
	ping := n.pod.Command("ping", "-i", "0.01", "-c", "300", "-W", "5", "192.168.9.2")
	var out strings.Builder
	ping.Stdout = &out
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- ping.Wait() }()
	replaced := 0
	for random := false; ; random = !random {
		cmd := n.node.Command("masq-sync", "apply", "--run-dir", string(n.dir), "--random-fully="+strconv.FormatBool(random))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if replaced%3 == 2 {
			<-time.After(time.Duration(replaced) * time.Millisecond)
			cmd.Process.Kill()
		}
		cmd.Wait()
		replaced++
		select {
		case err := <-done:
			if err != nil || !strings.Contains(out.String(), " 0% packet loss") || replaced < 3 {
				t.Errorf("%d times replaced: %v\n%s", replaced, err, out.String())
			}
			n.mustMasq("apply")
			n.sees("after all that", n.pod, world.IPv4.outside, world.IPv4.node)
			return
		default:
		}
	}
}
