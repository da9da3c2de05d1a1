//go:build netns

package main

import (
	"bufio"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// testNode is a node in a network namespace, with a /run/wireguard of its own.
type testNode struct {
	nstest.Node
	t     *testing.T
	key   string
	pid   int // of a process in its namespaces
	in    state.BackendInput
	log   *nstest.Log
	watch *exec.Cmd
}

const (
	stackV4   = "ipv4"
	stackV6   = "ipv6"
	stackDual = "dual"
)

// pair is two nodes on one underlay, with the raw keys of the back end, not started yet.
func pair(t *testing.T, stack, raw string) (a, z *testNode) {
	a, z = newTestNode(t, 1, stack, raw), newTestNode(t, 2, stack, raw)
	nstest.Connect(a.Namespace, "eth0", "192.168.0.11/24 fd00::11/64", z.Namespace, "eth0", "192.168.0.12/24 fd00::12/64")
	return a, z
}

func newTestNode(t *testing.T, n byte, stack, raw string) *testNode {
	dir := t.TempDir()
	h := &testNode{
		Node: nstest.NewNode(t), t: t, key: filepath.Join(dir, "lib", "wireguard.key"),
		log: new(nstest.Log),
	}
	hold := h.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		"mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard && exec sleep infinity")
	if err := hold.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hold.Process.Kill()
		hold.Wait()
	})
	h.pid = hold.Process.Pid
	h.Eventually(5*time.Second, func() string {
		mounts, _ := os.ReadFile("/proc/" + strconv.Itoa(h.pid) + "/mounts")
		if !strings.Contains(string(mounts), " /run/wireguard ") {
			return "no mount"
		}
		return ""
	})
	p := node(n)
	h.in = dual(raw)
	h.in.Node, h.in.Subnet, h.in.PublicIP = p.Node, p.Subnet, p.PublicIP
	switch stack {
	case stackV4:
		h.in.Subnet.IPv6, h.in.PublicIP.IPv6 = netip.Prefix{}, netip.Addr{}
	case stackV6:
		h.in.Subnet.IPv4, h.in.PublicIP.IPv4 = netip.Prefix{}, netip.Addr{}
	}
	h.write()
	for _, f := range state.Families {
		if h.in.Subnet.Has(f) {
			h.Run("ip", "addr", "add", h.pod(f).String(), "dev", "lo")
		}
	}
	return h
}

// pod is an address of the node's subnet, held by lo as if a pod had it.
func (h *testNode) pod(f state.Family) netip.Addr {
	raw := h.in.Subnet.Of(f).Addr().AsSlice()
	raw[len(raw)-1] = 9
	a, _ := netip.AddrFromSlice(raw)
	return a
}

func (h *testNode) write() {
	h.t.Helper()
	h.Save(h.Dir.Backend(backend), h.in)
}

// program is wireguard-setup in the node.
func (h *testNode) program(args ...string) *exec.Cmd {
	h.t.Helper()
	self := h.Self(append(args, "--run-dir", string(h.Dir), "--key-file", h.key, "--flannel-key-file", h.key+".flannel", "--implementation", userspace)...)
	// What ip netns exec NAME would run, with the node's mounts as well.
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(h.pid), "-m", "-n", "--"}, self.Args[4:]...)...)
	cmd.Env = self.Env
	return cmd
}

func (h *testNode) do(args ...string) (stdout, stderr string, code exit.Code) {
	h.t.Helper()
	return nstest.Finish(h.t, h.program(args...))
}

// must runs it and fails the test where it fails.
func (h *testNode) must(args ...string) string {
	h.t.Helper()
	out, errs, code := h.do(args...)
	if code != exit.OK {
		h.t.Fatalf("%s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// begin starts watch; kill or the test's end ends it.
func (h *testNode) begin() {
	h.t.Helper()
	cmd := h.program("watch", "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.watch = cmd
	h.t.Cleanup(func() {
		h.kill()
		if h.t.Failed() {
			h.t.Logf("%s:\n%s", h.Name, h.log)
		}
	})
}

// start is begin, until everything stands.
func (h *testNode) start() {
	h.t.Helper()
	h.begin()
	h.settled()
}

// settled waits until plan has nothing to do.
func (h *testNode) settled() {
	h.t.Helper()
	h.Eventually(20*time.Second, func() string {
		if h.wg(h.first(), "get=1\n") == "" {
			return "nobody carries " + h.first() + "\n" + h.log.String()
		}
		if out, errs, code := h.do("plan"); code != exit.OK || out != "" {
			return out + errs + h.log.String()
		}
		return ""
	})
}

// first is the first of its devices.
func (h *testNode) first() string {
	if !h.in.Subnet.Has(state.IPv4) && !strings.Contains(string(h.in.Backend.Raw), "Mode") {
		return deviceNameV6
	}
	return deviceName
}

// kill is kill -9, and waits for the end.
func (h *testNode) kill() {
	if h.watch != nil {
		h.watch.Process.Kill()
		h.watch.Wait()
		h.watch = nil
	}
}

// wg speaks WireGuard's own protocol with the process that carries a device; "" where nobody does.
func (h *testNode) wg(name, request string) string {
	h.t.Helper()
	c, err := net.Dial("unix", "/proc/"+strconv.Itoa(h.pid)+"/root/run/wireguard/"+name+".sock")
	if err != nil {
		return ""
	}
	defer c.Close()
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for s := bufio.NewScanner(c); s.Scan() && s.Text() != ""; {
		b.WriteString(s.Text() + "\n")
	}
	return b.String()
}

// peer is the lines of a peer of a device, "" where it is none.
func (h *testNode) peer(device string, key wgtypes.Key) string {
	h.t.Helper()
	_, rest, ok := strings.Cut(h.wg(device, "get=1\n"), "public_key="+hex.EncodeToString(key[:])+"\n")
	if !ok {
		return ""
	}
	lines, _, _ := strings.Cut(rest, "public_key=")
	return lines
}

// tell writes what z publishes as a peer of h, with a full listing behind it.
func (h *testNode) tell(z *testNode) {
	h.t.Helper()
	link, err := state.Load[state.Link](z.Dir.Link())
	if err != nil {
		h.t.Fatal(err)
	}
	h.Save(h.Dir.Peer(z.in.Node), state.Peer{Version: 1, Node: z.in.Node, Subnet: z.in.Subnet, PublicIP: z.in.PublicIP, Backend: link.Publish})
	h.Save(h.Dir.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"})
	for _, f := range state.Families { // as route-sync does
		if d := link.Device.Of(f); d.Name != "" {
			h.Run("ip", "route", "replace", z.in.Subnet.Of(f).String(), "dev", d.Name, "proto", "116", "src", h.pod(f).String())
		}
	}
}

// up starts both and makes them peers.
func up(t *testing.T, a, z *testNode) {
	t.Helper()
	a.start()
	z.start()
	a.tell(z)
	z.tell(a)
	a.settled()
	z.settled()
}

// reach is ping and TCP, both ways, in every family they have.
func reach(t *testing.T, a, z *testNode) {
	t.Helper()
	reachWithin(t, a, z, 20*time.Second) // how soon after two handshakes crossed, TestHandshakesCross says
}

// reachWithin is reach once the first ping has its answer, which may take that long.
func reachWithin(t *testing.T, a, z *testNode, limit time.Duration) {
	t.Helper()
	for _, d := range [][2]*testNode{{a, z}, {z, a}} {
		for _, f := range state.Families {
			if !a.in.Subnet.Has(f) {
				continue
			}
			from, to := d[0].pod(f), d[1].pod(f)
			took := d[0].Eventually(limit, func() string {
				out, err := d[0].Try("ping", "-c1", "-W0.2", "-I", from.String(), to.String())
				if err != nil {
					return out
				}
				return ""
			})
			t.Logf("ping %s from %s: first answer after %s", to, from, took)
			if out, err := d[0].Try("ping", "-c2", "-i0.1", "-W2", "-I", from.String(), to.String()); err != nil {
				t.Errorf("ping %s from %s: %v\n%s", to, from, err, out)
			}
			transfer(t, d[0], d[1], to)
		}
	}
}

// transfer sends 4 MB over TCP.
func transfer(t *testing.T, a, z *testNode, to netip.Addr) {
	t.Helper()
	const size = 4 << 20
	var l net.Listener
	var err error
	z.Do(func() { l, err = net.Listen("tcp", net.JoinHostPort(to.String(), "0")) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		defer close(got)
		if c, err := l.Accept(); err == nil {
			n, _ := io.Copy(io.Discard, c) // what came counts
			got <- n
		}
	}()
	var c net.Conn
	a.Do(func() { c, err = net.DialTimeout("tcp", l.Addr().String(), 5*time.Second) })
	if err != nil {
		t.Errorf("connect to %s: %v", to, err)
		return
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Errorf("send to %s: %v", to, err)
	}
	c.Close()
	if n := <-got; n != size {
		t.Errorf("TCP to %s: %d bytes of %d", to, n, size)
	}
}

func (h *testNode) keyText() string {
	h.t.Helper()
	text, err := os.ReadFile(h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (h *testNode) publicKey() wgtypes.Key {
	h.t.Helper()
	k, err := wgtypes.ParseKey(h.keyText())
	if err != nil {
		h.t.Fatal(err)
	}
	return k.PublicKey()
}
