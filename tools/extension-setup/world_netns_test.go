//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

const deadline = 20 * time.Second // machines are slow

// node is a namespace that stands for node number i: 10.244.i.0/24, 192.168.0.i, fd00::i.
type node struct {
	nstest.Node
	t        *testing.T
	number   int
	commands map[string]string
	log      string // what the commands did, a line each
}

func newNode(t *testing.T, number int, commands map[string]string) *node {
	n := &node{Node: nstest.NewNode(t), t: t, number: number, log: filepath.Join(t.TempDir(), "log"), commands: map[string]string{}}
	for key, text := range commands {
		n.commands[key] = strings.ReplaceAll(text, "LOG", n.log)
	}
	return n
}

// alone gives the node an uplink that leads nowhere.
func (n *node) alone() *node {
	n.Uplink(n.addrs())
	return n.files()
}

func (n *node) addrs() string { return fmt.Sprintf("192.168.0.%d/24 fd00::%x/64", n.number, n.number) }

// files writes what subnet-lease writes.
func (n *node) files() *node {
	n.t.Helper()
	self := peer(n.number)
	raw, err := json.Marshal(n.commands)
	if err != nil {
		n.t.Fatal(err)
	}
	face := state.Interface{Name: "eth0", MTU: 1500, IP: self.PublicIP}
	lease := state.Lease{Version: 1, Node: self.Node, Subnet: self.Subnet, PublicIP: self.PublicIP, Interface: face, Backend: state.Backend{Type: backend}}
	lease.Network.IPv4, lease.Network.IPv6 = netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10::/48")
	n.Save(n.Dir.Lease(), lease)
	n.Save(n.Dir.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"})
	n.Save(n.Dir.Backend(backend), state.BackendInput{
		Version: 1, Node: self.Node, Backend: state.Backend{Type: backend, Raw: raw}, Subnet: self.Subnet, PublicIP: self.PublicIP, Interface: face,
	})
	return n
}

func peer(i int) state.Peer {
	p := state.Peer{Version: 1, Node: fmt.Sprintf("n%d", i), Backend: state.Published{Type: backend}}
	p.Subnet.IPv4, p.PublicIP.IPv4 = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)), netip.MustParseAddr(fmt.Sprintf("192.168.0.%d", i))
	p.Subnet.IPv6, p.PublicIP.IPv6 = netip.MustParsePrefix(fmt.Sprintf("fd00:10:0:%x::/64", i)), netip.MustParseAddr(fmt.Sprintf("fd00::%x", i))
	return p
}

func (n *node) knows(peers ...state.Peer) {
	n.t.Helper()
	for _, p := range peers {
		n.Save(n.Dir.Peer(p.Node), p)
	}
}

func (n *node) forgets(i int) {
	n.t.Helper()
	if err := os.Remove(n.Dir.Peer(peer(i).Node)); err != nil {
		n.t.Fatal(err)
	}
}

// apply applies and sees that a second time has nothing to do.
func (n *node) apply() string {
	n.t.Helper()
	out := n.Must("apply")
	before := n.did()
	for _, verb := range []string{"plan", "apply"} {
		if again := n.Must(verb); again != "" {
			n.t.Errorf("%s once more:\n%s", verb, again)
		}
	}
	if d := cmp.Diff(before, n.did()); d != "" {
		n.t.Errorf("applied twice, run twice:\n%s", d)
	}
	return out
}

// did is the lines of the log, sorted, since peers have no order.
func (n *node) did() []string {
	data, _ := os.ReadFile(n.log)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(lines)
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}

// watch starts the program; it ends with the test.
func (n *node) watch(args ...string) (*exec.Cmd, *nstest.Log) {
	n.t.Helper()
	cmd := n.Program(append([]string{"watch"}, args...)...)
	log := new(nstest.Log)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				n.t.Errorf("watch: %v", err)
			}
		}
		if n.t.Failed() {
			n.t.Logf("watch:\n%s", log.String())
		}
	})
	return cmd, log
}

func (n *node) eventually(want ...string) {
	n.t.Helper()
	n.Eventually(deadline, func() string { return cmp.Diff(want, n.did()) })
}
