//go:build netns

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// node is a network namespace with an uplink eth0 and a run directory of its own, and a store that it
// may share with others.
type node struct {
	*nstest.Namespace
	t       *testing.T
	name    string
	run     state.Dir
	netConf string
	store   string
	cniConf string
	confDir string
}

// newNode makes a node whose uplink ends in the test's own namespace.
func newNode(t *testing.T, name, address, netConf, store string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{
		Namespace: nstest.New(t, name), t: t, name: name, run: state.Dir(filepath.Join(dir, "run")), store: store,
		netConf: filepath.Join(dir, "net-conf.json"), cniConf: filepath.Join(dir, "cni-conf.json"),
		confDir: filepath.Join(dir, "net.d"),
	}
	write(t, n.netConf, netConf)
	write(t, n.cniConf, cniConf)
	// Addresses are usable at once, so that the state of the kernel compares from the start.
	n.NoDAD()
	nstest.Run(t, "ip", "link", "add", "up-"+name, "type", "veth", "peer", "name", "eth0", "netns", n.Name)
	t.Cleanup(func() { exec.Command("ip", "link", "del", "up-"+name).Run() })
	nstest.Run(t, "ip", "link", "set", "up-"+name, "up")
	for _, a := range strings.Fields(address) {
		args := []string{"addr", "add", a, "dev", "eth0"}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		n.Run("ip", args...)
	}
	n.Run("ip", "link", "set", "eth0", "up")
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(n.Run("ip", "-br", "addr", "show", "eth0"), " UP "); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: eth0 has no carrier", name)
		}
	}
	return n
}

// cniConf is flannel's, of its kube-flannel-cfg ConfigMap.
const cniConf = `{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// program is the path of one of our binaries.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run the tests with make test", err)
	}
	return path
}

// args are the arguments of a program besides its verb.
func (n *node) args(name string) []string {
	switch name {
	case "subnet-lease":
		return []string{"--run-dir", string(n.run), "--store", "file:" + n.store, "--net-conf", n.netConf, "--node", n.name, "--iface", "eth0"}
	case "cni-bridge":
		return []string{"--run-dir", string(n.run), "--cni-conf", n.cniConf, "--conflist", filepath.Join(n.confDir, "10-towpath.conflist")}
	}
	return []string{"--run-dir", string(n.run)}
}

// exec runs a verb of a program in the node and returns its exit status and outputs.
func (n *node) exec(name, verb string) (code int, stdout, stderr string) {
	n.t.Helper()
	args := append([]string{verb}, n.args(name)...)
	if name == "cni-bridge" {
		args = append([]string{"conf"}, args...)
	}
	stdout, stderr, ended := nstest.Finish(n.t, n.Command(program(n.t, name), args...))
	return int(ended), stdout, stderr
}

// must runs a verb that has to end 0 and returns what it printed.
func (n *node) must(name, verb string) string {
	n.t.Helper()
	code, out, errs := n.exec(name, verb)
	if code != 0 {
		n.t.Fatalf("%s: %s %s: exit status %d\n%s%s", n.name, name, verb, code, out, errs)
	}
	return out
}

// kernel is everything of the node's kernel state that a program may change.
func (n *node) kernel() string {
	n.t.Helper()
	return n.Snapshot() + n.Run("sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.bridge.bridge-nf-call-iptables")
}
