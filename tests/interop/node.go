//go:build peer

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// node is a node of the site, on which flannel or towpath is at work, or one after the other.
type node struct {
	*nstest.Namespace
	t       testing.TB
	name    string
	dir     string
	run     state.Dir
	confDir string
	serves  *process // flanneld, or the supervisor
}

// node makes a node whose uplink ends in the site's bridge.
func (s *site) node(name, addresses string) *node {
	s.t.Helper()
	n := &node{Namespace: nstest.New(s.t, name), t: s.t, name: name, dir: filepath.Join(s.dir, name)}
	n.run, n.confDir = state.Dir(filepath.Join(n.dir, "run")), filepath.Join(n.dir, "net.d")
	n.NoDAD()
	nstest.Run(s.t, "ip", "link", "add", "up-"+name, "type", "veth", "peer", "name", "eth0", "netns", n.Name)
	s.t.Cleanup(func() { exec.Command("ip", "link", "del", "up-"+name).Run() }) //nolint:errcheck // as above
	nstest.Run(s.t, "ip", "link", "set", "up-"+name, "master", underlay, "up")
	for _, a := range strings.Fields(addresses) {
		n.Run("ip", "addr", "add", a, "dev", "eth0")
	}
	n.Run("ip", "link", "set", "eth0", "up")
	n.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	conf := fmt.Sprintf(`{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [{"type": "flannel", "subnetFile": %q, "dataDir": %q,
		"ipam": {"dataDir": %q}, "delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}`,
		n.subnetEnv(), filepath.Join(n.dir, "cni", "flannel"), filepath.Join(n.dir, "cni", "networks"))
	write(s.t, filepath.Join(n.dir, "cni-conf.json"), conf)
	write(s.t, filepath.Join(n.confDir, "10-flannel.conflist"), conf)
	write(s.t, filepath.Join(n.dir, "environment"), strings.Join([]string{
		"TOWPATH_STORE=" + etcdStore, "TOWPATH_NODE=" + name, "TOWPATH_NET_CONF=etcd", "TOWPATH_IFACE=eth0",
		"TOWPATH_CNI_CONF=" + filepath.Join(n.dir, "cni-conf.json"), "TOWPATH_CONFLIST=" + filepath.Join(n.confDir, "10-towpath.conflist"),
		"TOWPATH_SUBNET_ENV=" + n.subnetEnv(), "TOWPATH_KEY_FILE=" + filepath.Join(n.dir, "wireguard.key"),
		"TOWPATH_FLANNEL_KEY_FILE=" + n.wireguardKey(), "",
	}, "\n"))
	return n
}

func (n *node) subnetEnv() string { return filepath.Join(n.dir, "subnet.env") }

func (n *node) wireguardKey() string { return filepath.Join(n.dir, "wgkey") } // flannel's

// settings are the environment file's.
func (n *node) settings() []string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.dir, "environment"))
	if err != nil {
		n.t.Fatal(err)
	}
	return append(os.Environ(), strings.Fields(string(data))...)
}

// flanneld starts flannel and waits until it says that it is ready.
func (n *node) flanneld() {
	n.t.Helper()
	if err := n.tryFlanneld(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) tryFlanneld() error {
	n.t.Helper()
	cmd := n.Command(peers(n.t, "flanneld"), "--etcd-endpoints", etcdURL, "--iface", "eth0", "--ip-masq", "--subnet-file", n.subnetEnv())
	cmd.Env = append(os.Environ(), "WIREGUARD_KEY_FILE="+n.wireguardKey())
	n.serves = start(n.t, cmd)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
		text := n.serves.text()
		if strings.Contains(text, "flannel is ready") {
			return nil
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "Error registering network") || strings.HasPrefix(line, "panic") {
				_, why, _ := strings.Cut(line, "] ")
				n.serves.stop(n.t)
				return errors.New("flanneld: " + strings.TrimSpace(why))
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("flanneld is not ready:\n%s", tail(text, 40))
		}
	}
}

// supervise starts towpath, with variables beside its settings, and waits until all of it is at work.
func (n *node) supervise(more ...string) {
	n.t.Helper()
	if err := n.trySupervise(more...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) trySupervise(more ...string) error {
	n.t.Helper()
	cmd := n.Command(ours(n.t, "towpath"), "supervise", "--run-dir", string(n.run), "--stages", stages(n.t))
	cmd.Env = append(n.settings(), more...)
	n.serves = start(n.t, cmd)
	if out, err := output(n.Command(ours(n.t, "towpath"), "status", "--run-dir", string(n.run), "--wait", "60s")); err != nil {
		return fmt.Errorf("%w\n%s%s", err, out, tail(n.serves.text(), 40))
	}
	return nil
}

func stages(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "packaging", "stages.d"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// towpath runs takeover or handback.
func (n *node) towpath(verb ...string) (string, error) {
	n.t.Helper()
	return output(n.Command(ours(n.t, "towpath"), append(verb, "--run-dir", string(n.run), "--stages", stages(n.t),
		"--environment", filepath.Join(n.dir, "environment"))...))
}

// pod is a pod of a node, attached by whatever CNI configuration the node has.
type pod struct {
	*nstest.Namespace
	node *node
	ips  []netip.Addr // IPv4 first
	mtu  int
}

func (n *node) pod() *pod {
	n.t.Helper()
	p, err := n.tryPod()
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (n *node) tryPod() (*pod, error) {
	n.t.Helper()
	p := &pod{Namespace: nstest.New(n.t, "pod"), node: n}
	cmd := n.Command(ours(n.t, "tests/cnitool"), "add", "cbr0", p.Path)
	cmd.Env = append(os.Environ(), "NETCONFPATH="+n.confDir, "CNI_PATH="+filepath.Dir(ours(n.t, "cni-bridge"))+":"+peers(n.t, "cni"), "CNI_IFNAME=eth0",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=dev;K8S_POD_UID=u;K8S_POD_NAME="+p.Name)
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.IPs) == 0 {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	for _, a := range result.IPs {
		p.ips = append(p.ips, a.Address.Addr())
	}
	slices.SortFunc(p.ips, netip.Addr.Compare)
	_, err = fmt.Sscan(p.Run("cat", "/sys/class/net/eth0/mtu"), &p.mtu)
	return p, err
}
