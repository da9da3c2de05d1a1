//go:build netns

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) {
	nstest.Program(main)
	nstest.Programs(m, map[string]func(){"route-sync": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata"}) }

// node is a namespace that stands for a node: an uplink eth0, and what the programs before this one
// leave there.
type node struct {
	nstest.Node
	t       testing.TB
	number  int
	backend string
	dual    bool
	direct  bool
}

func mac(number int) string {
	return fmt.Sprintf("02:00:00:00:%02x:%02x", number>>8, number&255)
}

func mac6(number int) string {
	return fmt.Sprintf("02:06:00:00:%02x:%02x", number>>8, number&255)
}

// newNode makes node number i without an uplink: 10.244.i.0/24, 192.168.0.i, fd00::i.
func newNode(t testing.TB, number int, backend string, dual, direct bool) *node {
	return &node{Node: nstest.NewNode(t), t: t, number: number, backend: backend, dual: dual, direct: direct}
}

// sockets opens both of the kernel's sockets in the node, until the test ends.
func (n *node) sockets() (conn *nl.Conn, socket *nl.Socket) {
	n.t.Helper()
	var err error
	n.Do(func() {
		if conn, err = nl.Open(); err == nil {
			socket, err = nl.OpenSocket()
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		socket.Close()
		conn.Close()
	})
	return conn, socket
}

// alone gives the node an uplink that leads to itself.
func (n *node) alone() *node {
	n.Uplink(n.addrs())
	return n
}

func (n *node) addrs() string {
	return fmt.Sprintf("192.168.0.%d/16 fd00::%x/64", n.number, n.number)
}

// device makes what vxlan-setup would make.
func (n *node) device() {
	if n.backend == typeHostGW {
		return
	}
	i := fmt.Sprint(n.number)
	n.Run("ip", "link", "add", "flannel.1", "address", mac(n.number), "mtu", "1450", "type", "vxlan", "id", "1", "dev", "eth0", "local", "192.168.0."+i, "dstport", "8472", "nolearning")
	n.Run("ip", "link", "set", "flannel.1", "alias", nl.Mark)
	n.Run("ip", "addr", "add", "10.244."+i+".0/32", "dev", "flannel.1")
	n.Run("ip", "link", "set", "flannel.1", "up")
	if n.dual {
		n.Run("ip", "link", "add", "flannel-v6.1", "address", mac6(n.number), "mtu", "1430", "type", "vxlan", "id", "1", "dev", "eth0", "local", fmt.Sprintf("fd00::%x", n.number), "dstport", "8472", "nolearning")
		n.Run("ip", "link", "set", "flannel-v6.1", "alias", nl.Mark)
		n.Run("ip", "addr", "add", fmt.Sprintf("fd00:10:0:%x::/128", n.number), "dev", "flannel-v6.1", "nodad")
		n.Run("ip", "link", "set", "flannel-v6.1", "up")
	}
}

func (n *node) save(path string, v any) {
	n.t.Helper()
	if _, err := state.Save(path, v); err != nil {
		n.t.Fatal(err)
	}
}

// files writes what subnet-lease and the setup program would write.
func (n *node) files() *node {
	n.t.Helper()
	self := n.peer()
	lease := state.Lease{Version: 1, Node: self.Node, Subnet: self.Subnet, PublicIP: self.PublicIP, Backend: state.Backend{Type: n.backend}}
	lease.Network.IPv4 = netip.MustParsePrefix("10.0.0.0/8")
	lease.Interface = state.Interface{Name: "eth0", MTU: 1500, IP: self.PublicIP}
	link := state.Link{Version: 1, Uplink: "eth0", MTU: 1430, DirectRouting: n.direct, Publish: self.Backend}
	link.Device.IPv4 = state.Device{Name: "flannel.1", MTU: 1450, VNI: 1, VtepMAC: mac(n.number)}
	if n.backend == typeHostGW {
		link.Device.IPv4 = state.Device{Name: "eth0", MTU: 1500}
	}
	if n.dual {
		lease.Network.IPv6 = netip.MustParsePrefix("fd00:10::/48")
		link.Device.IPv6 = link.Device.IPv4
		if n.backend != typeHostGW {
			link.Device.IPv6 = state.Device{Name: "flannel-v6.1", MTU: 1430, VNI: 1, VtepMAC: mac6(n.number)}
		}
	}
	n.Save(n.Dir.Lease(), lease)
	n.Save(n.Dir.Link(), link)
	n.Save(n.Dir.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"})
	return n
}

// peer is the node as the others see it.
func (n *node) peer() state.Peer {
	p := peerOf(n.number)
	if n.dual {
		p = dualPeer(n.number)
	}
	p.PublicIP.IPv4 = netip.AddrFrom4([4]byte{192, 168, byte(n.number >> 8), byte(n.number)})
	if p.Backend.Type = n.backend; n.backend == typeHostGW {
		p.Backend.Data, p.Backend.DataV6 = json.RawMessage("null"), nil
		if n.dual {
			p.Backend.DataV6 = json.RawMessage("null")
		}
	}
	return p
}

func (n *node) knows(p state.Peer) {
	n.t.Helper()
	n.Save(n.Dir.Peer(p.Node), p)
}

// apply applies, and sees that nothing is left to do.
func (n *node) apply(args ...string) string {
	n.t.Helper()
	out, errs, code := n.Exec(append([]string{"apply"}, args...)...)
	if code != exit.OK {
		n.t.Fatalf("apply: exit %d\n%s%s", code, out, errs)
	}
	for _, verb := range []string{"plan", "apply"} {
		if out, errs, code := n.Exec(verb); out != "" || code != exit.OK {
			n.t.Errorf("%s after apply: exit %d\n%s%s", verb, code, out, errs)
		}
	}
	return out
}

// planned is "" when nothing is left to do, else what is.
func (n *node) planned() string {
	out, errs, code := n.Exec("plan")
	var ops []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "write ") { // at most one second late, which is fine
			ops = append(ops, line)
		}
	}
	if len(ops) > 0 || code != exit.OK {
		return fmt.Sprintf("plan: exit %d\n%s%s", code, strings.Join(ops, ""), errs)
	}
	return ""
}

func (n *node) routes() state.Routes {
	r, err := state.Load[state.Routes](n.Dir.Routes())
	if err != nil {
		n.t.Helper()
		n.t.Fatal(err)
	}
	return r
}

// watcherProcess is `route-sync watch` as a process.
type watcherProcess struct {
	*exec.Cmd
	log bytes.Buffer
}

// watch starts the program and waits for routes.json. It is ended with the test.
func (n *node) watch(args ...string) *watcherProcess {
	n.t.Helper()
	os.Remove(n.Dir.Routes())
	return n.goOn(args...)
}

// goOn starts the program where an earlier run left routes.json.
func (n *node) goOn(args ...string) *watcherProcess {
	n.t.Helper()
	w := &watcherProcess{Cmd: n.Program(append([]string{"watch"}, args...)...)}
	w.Stdout, w.Stderr = &w.log, &w.log
	if err := w.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		w.stop(n.t)
		if n.t.Failed() {
			n.t.Logf("watch:\n%s", w.log.String())
		}
	})
	return w
}

func (n *node) ready() {
	n.t.Helper()
	n.Eventually(30*time.Second, func() string {
		if _, err := os.Stat(n.Dir.Routes()); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (w *watcherProcess) stop(t testing.TB) {
	if w.ProcessState != nil {
		return
	}
	_ = w.Process.Signal(syscall.SIGTERM)
	if err := w.Wait(); err != nil {
		t.Errorf("watch: %v\n%s", err, w.log.String())
	}
}
