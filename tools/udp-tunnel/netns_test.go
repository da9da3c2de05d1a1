//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) {
	nstest.Program(main)
	nstest.Programs(m, map[string]func(){"udp-tunnel": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) {
	nstest.Scripts(t, testscript.Params{Dir: "testdata", Setup: nstest.InNamespace})
}

// node is a namespace with the program's files.
type node struct {
	nstest.Node
	t      *testing.T
	addr   netip.Addr
	subnet netip.Prefix
	port   int
	watch  *exec.Cmd
	log    *os.File
}

// newNode makes node number i on a bridge in the namespace wire.
func newNode(t *testing.T, wire *nstest.Namespace, i byte) *node {
	t.Helper()
	n := &node{
		Node: nstest.NewNode(t), t: t, port: defaultPort,
		addr: netip.AddrFrom4([4]byte{192, 168, 7, i}), subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, i, 0}), 24),
	}
	port := fmt.Sprintf("port%d", i)
	nstest.Connect(n.Namespace, "eth0", n.addr.String()+"/24", wire, port, "")
	wire.Run("ip", "link", "set", port, "master", "br0")
	n.Run("ip", "addr", "add", n.pod(2)+"/32", "dev", "lo")
	n.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	if err := os.MkdirAll(n.Dir.Peers(), 0o755); err != nil {
		t.Fatal(err)
	}
	n.input()
	n.Save(n.Dir.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"})
	var err error
	if n.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n.watch != nil {
			n.watch.Process.Kill()
			n.watch.Wait()
		}
		n.log.Close()
		if text, _ := os.ReadFile(n.log.Name()); t.Failed() {
			t.Logf("%s:\n%s", n.Name, text)
		}
	})
	return n
}

func newWire(t *testing.T) *nstest.Namespace {
	wire := nstest.New(t, "wire")
	wire.Run("ip", "link", "add", "br0", "type", "bridge")
	wire.Run("ip", "addr", "add", "192.168.7.254/24", "dev", "br0")
	wire.Run("ip", "link", "set", "br0", "up")
	return wire
}

func (n *node) input() {
	n.t.Helper()
	in := state.BackendInput{Version: 1, Node: n.Name, Backend: state.Backend{Type: backend, Port: n.port}, Interface: state.Interface{Name: "eth0", MTU: 1500}}
	in.Subnet.IPv4, in.PublicIP.IPv4, in.Interface.IP.IPv4 = n.subnet, n.addr, n.addr
	n.Save(n.Dir.Backend(backend), in)
}

// knows makes o a peer of n, with a route as route-sync makes it.
func (n *node) knows(o *node) {
	n.t.Helper()
	p := state.Peer{Version: 1, Node: o.Name, Backend: state.Published{Type: backend}}
	p.Subnet.IPv4, p.PublicIP.IPv4 = o.subnet, o.addr
	n.Save(n.Dir.Peer(o.Name), p)
}

func (n *node) pod(i byte) string {
	a := n.subnet.Addr().As4()
	a[3] = i
	return netip.AddrFrom4(a).String()
}

func (n *node) start() {
	n.t.Helper()
	n.watch = n.Program("watch")
	n.watch.Stdout, n.watch.Stderr = n.log, n.log
	if err := n.watch.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.stands()
}

func (n *node) stands() {
	n.t.Helper()
	n.Eventually(20*time.Second, func() string {
		if _, err := os.Stat(n.Dir.Link()); err != nil {
			return err.Error()
		}
		out, err := n.Try("ip", "route", "replace", "10.244.0.0/16", "dev", deviceName, "scope", "link")
		if err != nil {
			return out
		}
		return ""
	})
}

func (n *node) kill() {
	n.t.Helper()
	n.watch.Process.Kill()
	n.watch.Wait()
	n.watch = nil
}

// pings demands an answer within a second, tried for as long as repairs may take.
func (n *node) pings(to string, options ...string) time.Duration {
	n.t.Helper()
	return n.Eventually(10*time.Second, func() string {
		out, err := n.Try("ping", append([]string{"-c1", "-W1", "-I", n.pod(2), to}, options...)...)
		if err != nil {
			return out
		}
		return ""
	})
}

func pair(t *testing.T) (wire *nstest.Namespace, a, z *node) {
	wire = newWire(t)
	a, z = newNode(t, wire, 1), newNode(t, wire, 2)
	a.knows(z)
	z.knows(a)
	a.start()
	z.start()
	return wire, a, z
}

// stream sends bytes over TCP from a pod of n to one of o, and returns how long that took.
func stream(t *testing.T, n, o *node, size int) time.Duration {
	t.Helper()
	var l net.Listener
	var err error
	o.Do(func() { l, err = net.Listen("tcp4", o.pod(2)+":0") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- err
			return
		}
		defer c.Close()
		buf := make([]byte, 1<<16)
		at := 0
		for at < size {
			n, err := c.Read(buf)
			if string(buf[:n]) != string(data[at:at+n]) {
				got <- fmt.Errorf("other bytes than were sent, before byte %d", at+n)
				return
			}
			at += n
			if err != nil {
				got <- err
				return
			}
		}
		_, err = c.Write([]byte("x"))
		got <- err
	}()
	var c net.Conn
	n.Do(func() {
		c, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(n.pod(2))}, Timeout: 10 * time.Second}).Dial("tcp4", l.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func TestCarries(t *testing.T) {
	_, a, z := pair(t)
	a.pings(z.pod(2))
	a.pings(z.pod(0))                           // the peer's own end of the tunnel
	a.pings(z.pod(2), "-M", "do", "-s", "1444") // as large as the device takes
	a.pings(z.pod(2), "-s", "4000")             // in fragments
	z.pings(a.pod(2))
	if out, err := a.Try("ping", "-c1", "-W1", "-M", "do", "-s", "1445", z.pod(2)); err == nil {
		t.Errorf("a packet larger than the device: %s", out)
	}
	took := stream(t, a, z, 50<<20)
	t.Logf("50 MiB in %s", took)
	a.pings(z.pod(2), "-t", "1") // the tunnel is a link, no hop
}

// TestPeersComeAndGo: without a restart, and only with a listing behind it does one go.
func TestPeersComeAndGo(t *testing.T) {
	wire, a, z := pair(t)
	pid := a.watch.Process.Pid
	a.pings(z.pod(2))
	y := newNode(t, wire, 3)
	y.knows(a)
	y.start()
	a.knows(y)
	a.pings(y.pod(2))
	y.pings(a.pod(2))
	unreachable := func(to string) {
		t.Helper()
		a.Eventually(10*time.Second, func() string {
			if out, _ := a.Try("ping", "-c1", "-W1", "-I", a.pod(2), to); !strings.Contains(out, "Destination Net Unreachable") {
				return out
			}
			return ""
		})
	}
	os.Remove(a.Dir.PeersSynced())
	os.Remove(a.Dir.Peer(y.Name))
	a.pings(y.pod(2))
	a.Save(a.Dir.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"})
	a.Save(a.Dir.Peer(y.Name), state.Peer{Version: 1, Node: y.Name, Subnet: state.Pair[netip.Prefix]{IPv4: y.subnet}, PublicIP: state.Pair[netip.Addr]{IPv4: y.addr}, Backend: state.Published{Type: "vxlan"}})
	unreachable(y.pod(2)) // of another back end now
	a.knows(y)
	a.pings(y.pod(2))
	os.Remove(a.Dir.Peer(y.Name))
	unreachable(y.pod(2))
	if err := os.WriteFile(a.Dir.Peer(z.Name), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	a.knows(y)
	a.pings(y.pod(2))
	a.pings(z.pod(2)) // as it was before its file broke
	if a.watch.Process.Pid != pid || a.watch.ProcessState != nil {
		t.Error("restarted")
	}
}

func TestDrift(t *testing.T) {
	_, a, z := pair(t)
	a.pings(z.pod(2))
	for _, c := range [][]string{
		{"ip", "link", "del", deviceName},
		{"ip", "link", "set", deviceName, "down"},
		{"ip", "link", "set", deviceName, "mtu", "1300"},
		{"ip", "addr", "flush", "dev", deviceName},
		{"ip", "addr", "add", "10.9.9.9/32", "dev", deviceName},
	} {
		a.Run(c[0], c[1:]...)
		took := a.Eventually(5*time.Second, func() string {
			if out, _ := a.Program("plan").CombinedOutput(); len(out) > 0 {
				return string(out)
			}
			return ""
		})
		a.stands()
		a.pings(z.pod(2))
		t.Logf("%s: %s", strings.Join(c, " "), took)
	}
	a.Run("ip", "link", "set", "eth0", "mtu", "1400") // of the uplink
	a.Eventually(5*time.Second, func() string {
		if l, _ := state.Load[state.Link](a.Dir.Link()); l.MTU != 1372 {
			return "MTU in link.json"
		}
		return ""
	})
	a.pings(z.pod(2), "-M", "do", "-s", "1344")
}

// TestPort: a new port is used without a restart, on both ends.
func TestPort(t *testing.T) {
	_, a, z := pair(t)
	a.pings(z.pod(2))
	for _, n := range []*node{a, z} {
		n.port = 9999
		n.input()
	}
	for _, n := range []*node{a, z} { // until both have moved, the old port answers as well
		n.Eventually(10*time.Second, func() string {
			if out := n.Run("ss", "-Huln"); !strings.Contains(out, n.addr.String()+":9999") || strings.Contains(out, ":8285") {
				return "sockets:\n" + out
			}
			return ""
		})
	}
	a.pings(z.pod(2))
}

// TestPathMTU: a narrow way to a peer is told to those who may not be cut up, and the others are.
func TestPathMTU(t *testing.T) {
	_, a, z := pair(t)
	a.pings(z.pod(2))
	a.Run("ip", "route", "add", z.addr.String(), "dev", "eth0", "mtu", "lock", "1300")
	out, _ := a.Try("ping", "-c2", "-i", "0.2", "-W1", "-M", "do", "-s", "1400", z.pod(2))
	if !strings.Contains(out, "mtu = 1272") && !strings.Contains(out, "mtu=1272") {
		t.Errorf("the sender is told: %s", out)
	}
	a.Run("ip", "route", "flush", "cache")
	a.Run("ip", "route", "replace", "10.244.0.0/16", "dev", deviceName, "scope", "link")
	a.pings(z.pod(2), "-M", "dont", "-s", "1400")
	stream(t, a, z, 5<<20)
}

// TestStrangers: what is not a peer's, or not what a peer may send, is dropped and counted.
func TestStrangers(t *testing.T) {
	wire, a, z := pair(t)
	x := newNode(t, wire, 9)
	listener := func() *net.UDPConn {
		var c net.PacketConn
		var err error
		z.Do(func() { c, err = net.ListenPacket("udp4", z.pod(2)+":7") })
		if err != nil {
			t.Fatal(err)
		}
		return c.(*net.UDPConn)
	}()
	defer listener.Close()
	inner := func(src, dst string, text string) []byte {
		udp := append([]byte{0, 7, 0, 7, 0, byte(8 + len(text)), 0, 0}, text...)
		return ipv4(src, dst, 17, udp)
	}
	send := func(n *node, packets ...[]byte) {
		t.Helper()
		var c net.Conn
		var err error
		n.Do(func() { c, err = net.Dial("udp4", z.addr.String()+":8285") })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, p := range packets {
			c.Write(p)
		}
	}
	send(x, inner("10.244.1.2", z.pod(2), "a stranger"))
	send(a, inner("10.244.9.2", z.pod(2), "another's address"), inner(a.pod(2), "192.168.7.254", "not for us"), []byte("no packet"))
	send(a, inner(a.addr.String(), z.pod(2), "the node itself"), inner(a.pod(3), z.pod(2), "a pod"))
	listener.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 100)
	for _, want := range []string{"the node itself", "a pod"} {
		n, err := listener.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("arrived: %q, %v; want %q", buf[:n], err, want)
		}
	}
}

func TestForeignDevice(t *testing.T) {
	n := newNode(t, newWire(t), 1)
	n.Run("ip", "link", "add", deviceName, "type", "bridge")
	before := n.Snapshot()
	out, err := n.Program("apply").CombinedOutput()
	if err == nil || err.Error() != "exit status 71" || !strings.Contains(string(out), "--take-over") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := n.Program("down").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("down: %v: %s", err, out)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Error(d)
	}
	if out, err := n.Program("apply", "--take-over").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ip link del flannel0\nip tuntap add") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPortTaken: the port is another program's, and then it is not.
func TestPortTaken(t *testing.T) {
	n := newNode(t, newWire(t), 1)
	var c net.PacketConn
	n.Do(func() { c, _ = net.ListenPacket("udp4", ":8285") })
	n.watch = n.Program("watch")
	n.watch.Stderr = n.log
	if err := n.watch.Start(); err != nil {
		t.Fatal(err)
	}
	n.Eventually(10*time.Second, func() string {
		text, _ := os.ReadFile(n.log.Name())
		if !strings.Contains(string(text), "another program has it") {
			return string(text)
		}
		return ""
	})
	c.Close()
	n.stands()
}

func TestBadInput(t *testing.T) {
	n := newNode(t, newWire(t), 1)
	good, err := os.ReadFile(n.Dir.Backend(backend))
	if err != nil {
		t.Fatal(err)
	}
	var indented map[string]any
	json.Unmarshal(good, &indented)
	compact, _ := json.Marshal(indented)
	replace := func(old, with string) string { return strings.Replace(string(compact), old, with, 1) }
	before := n.Snapshot()
	for name, tc := range map[string]struct{ text, code, says string }{
		"empty":        {"", "65", "empty"},
		"truncated":    {string(good[:len(good)/2]), "65", "truncated"},
		"newer":        {replace(`"version":1`, `"version":99`), "65", `key "version"`},
		"other type":   {replace(`"type":"udp"`, `"type":"vxlan"`), "65", `key "backend.type"`},
		"port":         {replace(`"port":8285`, `"port":70000`), "65", `key "backend.port"`},
		"IPv6":         {replace(`"subnet":{`, `"subnet":{"ipv6":"fd00::/64",`), "65", `key "subnet.ipv6"`},
		"no interface": {replace(`"eth0"`, `"eth9"`), "75", "eth9"},
	} {
		if err := os.WriteFile(n.Dir.Backend(backend), []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"plan", "apply"} {
			out, err := n.Program(verb).CombinedOutput()
			if err == nil || err.Error() != "exit status "+tc.code || !strings.Contains(string(out), tc.says) || tc.code == "65" && !strings.Contains(string(out), "udp.json") {
				t.Errorf("%s: %s: %v, want exit %s saying %q: %s", name, verb, err, tc.code, tc.says, out)
			}
		}
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Error(d)
	}
}
