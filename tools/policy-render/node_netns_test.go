//go:build netns

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// node is a node with a bridge of pods, and a host outside that stands for the other nodes' pods too.
type node struct {
	t             testing.TB
	host, outside *nstest.Namespace
	pods          map[string]*pod
	dir           state.Dir
	objects       string
}

type pod struct {
	*nstest.Namespace
	name, veth string
	addrs      state.Pair[netip.Addr]
}

// The ports that everyone serves, on TCP and UDP.
var servedPorts = []int{80, 443, 8005, 7777}

var (
	nodeAddr    = pair("10.244.1.1", "fd00:244:0:1::1")
	uplinkAddr  = pair("192.168.9.1", "fd00:9::1")
	outsideAddr = pair("192.168.9.2", "fd00:9::2")
	remoteAddr  = pair("10.244.2.2", "fd00:244:0:2::2") // a pod of another node
)

func pair(a, b string) state.Pair[netip.Addr] {
	return state.Pair[netip.Addr]{IPv4: netip.MustParseAddr(a), IPv6: netip.MustParseAddr(b)}
}

// newNode makes the node. Pods are named NAMESPACE/NAME; the first gets address .2.
func newNode(t testing.TB, names ...string) *node {
	t.Helper()
	n := &node{
		t: t, host: nstest.New(t, "node"), outside: nstest.New(t, "outside"), pods: map[string]*pod{}, dir: state.Dir(t.TempDir()),
	}
	n.host.NoDAD()
	n.outside.NoDAD()
	n.host.Run("sh", "-c", `ip link add cni0 type bridge && ip addr add 10.244.1.1/24 dev cni0 && ip addr add fd00:244:0:1::1/64 dev cni0 nodad && ip link set cni0 up
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1`)
	nstest.Connect(n.host, "eth0", "192.168.9.1/24 fd00:9::1/64", n.outside, "eth0", "192.168.9.2/24 fd00:9::2/64 10.244.2.2/24 fd00:244:0:2::2/64")
	n.outside.Run("sh", "-c", `ip route add 10.244.1.0/24 via 192.168.9.1 && ip -6 route add fd00:244:0:1::/64 via fd00:9::1`)
	n.host.Run("sh", "-c", `ip route add 10.244.2.0/24 via 192.168.9.2 && ip -6 route add fd00:244:0:2::/64 via fd00:9::2`)
	n.write(n.dir.Lease(), dualLease)
	serve(t, n.host)
	serve(t, n.outside)
	for _, name := range names {
		n.addPod(name)
	}
	return n
}

func (n *node) write(path, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// addPod makes a pod with an interface, without an endpoint file.
func (n *node) addPod(name string) *pod {
	n.t.Helper()
	i := len(n.pods) + 2
	p := &pod{
		Namespace: nstest.New(n.t, "pod"), name: name, veth: fmt.Sprintf("veth%d", i),
		addrs: pair(fmt.Sprintf("10.244.1.%d", i), fmt.Sprintf("fd00:244:0:1::%d", i)),
	}
	n.pods[name] = p
	p.NoDAD()
	nstest.Connect(n.host, p.veth, "", p.Namespace, "eth0", fmt.Sprintf("%s/24 %s/64", p.addrs.IPv4, p.addrs.IPv6))
	n.host.Run("ip", "link", "set", p.veth, "master", "cni0")
	p.Run("sh", "-c", "ip route add default via 10.244.1.1 && ip -6 route add default via fd00:244:0:1::1")
	serve(n.t, p.Namespace)
	return p
}

// addEndpoint writes what cni-bridge would have.
func (n *node) addEndpoint(p *pod) {
	n.t.Helper()
	namespace, name := splitName(p.name)
	n.write(n.dir.Endpoint("c"+p.veth, "eth0"), fmt.Sprintf(`{
  "version": 1, "containerID": "c%s", "interface": "eth0", "namespace": %q, "pod": %q, "uid": "uid-%s",
  "ip": {"ipv4": "%s", "ipv6": "%s"}, "mac": %q, "bridge": "cni0", "hostVeth": %q
}`, p.veth, namespace, name, name, p.addrs.IPv4, p.addrs.IPv6, p.mac(), p.veth))
}

func splitName(name string) (namespace, pod string) {
	namespace, pod, _ = strings.Cut(name, "/")
	return namespace, pod
}

func (p *pod) mac() string { return strings.TrimSpace(p.Run("cat", "/sys/class/net/eth0/address")) }

// render runs policy-render on the node; a failure ends the test.
func (n *node) render(verb string, args ...string) string {
	n.t.Helper()
	stdout, stderr, code := n.try(verb, args...)
	if code != 0 {
		n.t.Fatalf("policy-render %s: exit %d\n%s%s", verb, code, stdout, stderr)
	}
	return stdout
}

func (n *node) try(verb string, args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	stdout, stderr, ended := nstest.Finish(n.t, n.host.Command("policy-render", append([]string{verb, "--run-dir", string(n.dir), "--objects", n.objects}, args...)...))
	return stdout, stderr, int(ended)
}

// load renders and gives the whole ruleset to the kernel.
func (n *node) load(args ...string) {
	n.t.Helper()
	n.render("apply", args...)
	n.host.Run("nft", "-f", n.dir.PolicyNFT())
}

// serve answers connections with "ok".
func serve(t testing.TB, ns *nstest.Namespace) {
	t.Helper()
	ns.Do(func() {
		for _, port := range servedPorts {
			tcp, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				t.Error(err)
				return
			}
			udp, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { tcp.Close(); udp.Close() })
			go answerTCP(tcp)
			go answerUDP(udp)
		}
	})
}

func answerTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 100)
			for {
				k, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:k]); err != nil {
					return
				}
			}
		}()
	}
}

func answerUDP(c net.PacketConn) {
	buf := make([]byte, 100)
	for {
		k, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:k], from)
	}
}

// ask opens a connection and waits for an answer.
func ask(ns *nstest.Namespace, network string, to netip.AddrPort, patience time.Duration) error {
	var err error
	ns.Do(func() {
		d := net.Dialer{Timeout: patience}
		var c net.Conn
		if c, err = d.Dial(network, to.String()); err != nil {
			return
		}
		defer c.Close()
		err = converse(c, patience)
	})
	return err
}

// converse sends a line and waits for it.
func converse(c net.Conn, patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("ok")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 2))
	return err
}
