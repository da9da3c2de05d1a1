//go:build netns

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// node is a small world: a pod behind a node, another node's pod behind the same node (as if the
// tunnel were a cable), and a host outside that routes the pod network to the node.
type node struct {
	t                        *testing.T
	pod, node, peer, outside *nstest.Namespace
	dir                      state.Dir
}

// Addresses of the small world, by family.
var world = state.Pair[struct{ pod, node, toPeer, peer, outside netip.Addr }]{
	IPv4: struct{ pod, node, toPeer, peer, outside netip.Addr }{
		addr("10.244.1.10"), addr("192.168.9.1"), addr("10.244.2.1"), addr("10.244.2.10"), addr("192.168.9.2"),
	},
	IPv6: struct{ pod, node, toPeer, peer, outside netip.Addr }{
		addr("fd00:244:0:1::10"), addr("fd00:9::1"), addr("fd00:244:0:2::1"), addr("fd00:244:0:2::10"), addr("fd00:9::2"),
	},
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{
		t: t, pod: nstest.New(t, "pod"), node: nstest.New(t, "node"), peer: nstest.New(t, "peer"), outside: nstest.New(t, "outside"),
		dir: state.Dir(t.TempDir()),
	}
	nstest.Connect(n.node, "cni0", "10.244.1.1/24 fd00:244:0:1::1/64", n.pod, "eth0", "10.244.1.10/24 fd00:244:0:1::10/64")
	nstest.Connect(n.node, "eth0", "192.168.9.1/24 fd00:9::1/64", n.outside, "eth0", "192.168.9.2/24 fd00:9::2/64")
	nstest.Connect(n.node, "tunnel", "10.244.2.1/24 fd00:244:0:2::1/64", n.peer, "eth0", "10.244.2.10/24 fd00:244:0:2::10/64")
	for _, ns := range []struct {
		n         *nstest.Namespace
		via, via6 string
	}{{n.pod, "10.244.1.1", "fd00:244:0:1::1"}, {n.peer, "10.244.2.1", "fd00:244:0:2::1"}, {n.outside, "192.168.9.1", "fd00:9::1"}} {
		ns.n.Run("ip", "route", "add", "default", "via", ns.via)
		ns.n.Run("ip", "-6", "route", "add", "default", "via", ns.via6)
	}
	for _, ns := range []*nstest.Namespace{n.pod, n.peer, n.outside} {
		serve(t, ns)
	}
	n.write(dualLease)
	return n
}

func (n *node) write(l state.Lease) {
	n.t.Helper()
	if _, err := state.Save(n.dir.Lease(), l); err != nil {
		n.t.Fatal(err)
	}
}

// serve answers each TCP connection and UDP packet to port 7777 with the source address it saw.
func serve(t *testing.T, ns *nstest.Namespace) {
	t.Helper()
	ns.Do(func() {
		tcp, err := net.Listen("tcp", ":7777")
		if err != nil {
			t.Error(err)
			return
		}
		udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: 7777})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { tcp.Close(); udp.Close() })
		go func() {
			for {
				c, err := tcp.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, c.RemoteAddr())
				c.Close()
			}
		}()
		go func() {
			buf := make([]byte, 100)
			for {
				_, from, err := udp.ReadFrom(buf)
				if err != nil {
					return
				}
				udp.WriteTo([]byte(from.String()), from)
			}
		}()
	})
}

// ask opens a connection from a namespace to the server at an address and returns the source address
// that the server saw.
func ask(t *testing.T, from *nstest.Namespace, network string, to netip.Addr, patience time.Duration) (netip.Addr, error) {
	t.Helper()
	var reply []byte
	var err error
	from.Do(func() {
		deadline := time.Now().Add(patience)
		for {
			var c net.Conn
			d := net.Dialer{Timeout: min(patience, time.Second)}
			if c, err = d.Dial(network, netip.AddrPortFrom(to, 7777).String()); err == nil {
				c.SetDeadline(time.Now().Add(min(patience, time.Second)))
				fmt.Fprint(c, "who am I?")
				reply = make([]byte, 100)
				var size int
				size, err = c.Read(reply)
				reply = reply[:size]
				c.Close()
			}
			if err == nil || time.Now().After(deadline) {
				return
			}
		}
	})
	if err != nil {
		return netip.Addr{}, err
	}
	source, err := netip.ParseAddrPort(string(reply))
	return source.Addr().Unmap(), err
}

const (
	patient   = 10 * time.Second
	impatient = 300 * time.Millisecond
)

// sees checks which source a connection from one namespace to another has when it arrives.
func (n *node) sees(what string, from *nstest.Namespace, to, source netip.Addr) {
	n.t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		got, err := ask(n.t, from, network, to, patient)
		if err != nil || got != source {
			n.t.Errorf("%s, %s to %s: source %s, %v; want %s", what, network, to, got, err, source)
		}
	}
}

// blocked checks that nothing arrives.
func (n *node) blocked(what string, from *nstest.Namespace, to netip.Addr) {
	n.t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		if got, err := ask(n.t, from, network, to, impatient); err == nil {
			n.t.Errorf("%s, %s to %s: it arrives from %s", what, network, to, got)
		}
	}
}

// masq runs masq-sync on the node and returns its outputs and exit status.
func (n *node) masq(verb string, args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	stdout, stderr, ended := nstest.Finish(n.t, n.node.Command("masq-sync", append([]string{verb, "--run-dir", string(n.dir)}, args...)...))
	return stdout, stderr, int(ended)
}

// mustMasq is masq for a run that has to succeed; it returns standard output.
func (n *node) mustMasq(verb string, args ...string) string {
	n.t.Helper()
	stdout, stderr, code := n.masq(verb, args...)
	if code != 0 {
		n.t.Fatalf("masq-sync %s: exit %d\n%s%s", verb, code, stdout, stderr)
	}
	return stdout
}

// snapshot is all of the node's state that masq-sync may touch.
func (n *node) snapshot() string {
	n.t.Helper()
	var b strings.Builder
	b.WriteString(n.node.Run("nft", "-s", "list", "ruleset"))
	for _, v := range []struct{ names, save string }{
		{"ip_tables_names", "iptables-legacy-save"}, {"ip6_tables_names", "ip6tables-legacy-save"},
	} {
		if names := n.node.Run("cat", "/proc/self/net/"+v.names); names != "" {
			b.WriteString(names)
			for _, line := range strings.SplitAfter(n.node.Run(v.save), "\n") {
				if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") { // dates, counters
					b.WriteString(line)
				}
			}
		}
	}
	b.WriteString(n.node.Run("sysctl", "-a", "--pattern", `net\.(ipv4\.(ip_forward|conf)|ipv6\.conf|bridge)`))
	return b.String()
}

// watch runs masq-sync watch on the node until the test ends; environment is added to its own.
func (n *node) watch(environment ...string) (log *bytes.Buffer) {
	n.t.Helper()
	log = &bytes.Buffer{}
	cmd := n.node.Command("masq-sync", "watch", "--run-dir", string(n.dir))
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("masq-sync watch: %v", err)
		}
		if n.t.Failed() {
			n.t.Logf("masq-sync watch said:\n%s", log)
		}
	})
	return log
}

// eventually polls until ok holds, and returns how long that took.
func (n *node) eventually(what string, within time.Duration, ok func() bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > within {
			n.t.Fatalf("%s: not within %v", what, within)
		}
		<-time.After(5 * time.Millisecond)
	}
	return time.Since(start)
}

// record makes a directory of programs that write their name to a file before they do their work, and
// returns that file and the PATH to use.
func record(t *testing.T, programs ...string) (file, path string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "executed")
	for _, p := range programs {
		at, err := exec.LookPath(p)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s\nexec %s \"$@\"\n", p, file, at)
		if err := os.WriteFile(filepath.Join(dir, p), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return file, "PATH=" + dir + ":" + os.Getenv("PATH")
}

func mustLook(t *testing.T, program string) string {
	t.Helper()
	at, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
