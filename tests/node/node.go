// Package node is a node with policies, made of namespaces and of the real programs as processes: a node, the
// world outside it, pods that cni-bridge attaches. The files that other programs would write (lease, link,
// routes) are written by hand. Only tests import it.
package node

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/probe"
)

// Name is the node's.
const Name = "node1"

// Addresses outside the node: of it and its neighbour on the uplink, and of hosts behind that.
var (
	Uplink   = []string{"192.168.7.1", "fd00:7::1"}
	Next     = []string{"192.168.7.2", "fd00:7::2"}                                                 // node2, and the way to everything else
	External = []string{"192.0.2.1", "192.0.2.200", "2001:db8::1", "2001:db8::8000:0:0:1"}          // nobody's of the cluster
	Remote   = []string{"10.244.2.2", "10.244.2.3", "fd00:10:244:2::2", "fd00:10:244:2::3"}         // of pods of node2
	Gateway  = []string{"10.244.1.1", "fd00:10:244:1::1"}                                           // of cni0
	networks = []string{"10.244.0.0/16", "fd00:10:244::/48", "10.244.1.0/24", "fd00:10:244:1::/64"} // and the node's subnets
)

// Node is a dual-stack node.
type Node struct {
	*nstest.Namespace
	T       testing.TB
	World   *nstest.Namespace // everything behind the uplink, eth0 of both
	Wire    *probe.Wire       // eth0 of World
	Run     state.Dir
	Objects string // directory of manifests
	// Flags are of policy-render, beside those that every program gets.
	Flags  []string
	dir    string
	plugin []byte // cni-bridge's configuration
	id     uint32
	mu     sync.Mutex
	pods   []*Pod
}

// New makes the node, with a CNI configuration that waits for policies, and without any policy loaded.
func New(t testing.TB) *Node {
	t.Helper()
	dir := t.TempDir()
	n := &Node{
		Namespace: nstest.New(t, "node"), T: t, World: nstest.New(t, "world"),
		Run: state.Dir(filepath.Join(dir, "run")), Objects: filepath.Join(dir, "objects"), dir: dir,
	}
	for _, ns := range []*nstest.Namespace{n.Namespace, n.World} {
		ns.NoDAD()
		ns.Run("sh", "-c", `cd /proc/sys/net; for f in ipv4 ipv6; do echo 1 >$f/conf/all/forwarding; done
			for f in all default; do echo 0 >ipv4/conf/$f/rp_filter; echo 0 >ipv4/conf/$f/send_redirects; done; echo 0 >ipv6/icmp/ratelimit`)
	}
	prefixed := func(list []string) string { return list[0] + "/24 " + list[1] + "/64" }
	nstest.Connect(n.Namespace, "eth0", prefixed(Uplink), n.World, "eth0", prefixed(Next))
	for _, a := range append(External, Remote...) {
		n.World.Run("ip", "addr", "add", a, "dev", "lo")
	}
	for i, family := range []string{"-4", "-6"} {
		n.Namespace.Run("ip", family, "route", "add", "default", "via", Next[i])
		n.Namespace.Run("ip", family, "route", "add", networks[i], "via", Next[i])
		n.World.Run("ip", family, "route", "add", networks[2+i], "via", Uplink[i])
	}
	n.inWorld()
	n.files()
	n.Must("masq-sync", "apply", "--run-dir", string(n.Run))
	conflist := filepath.Join(dir, "net.d", "10-towpath.conflist")
	n.Must("cni-bridge", "conf", "apply", "--run-dir", string(n.Run), "--cni-conf", filepath.Join(dir, "cni-conf.json"), "--conflist", conflist, "--policy", "off")
	n.plugin = n.config(conflist)
	return n
}

func (n *Node) inWorld() {
	n.T.Helper()
	var err error
	n.World.Do(func() { n.Wire, err = probe.Open("eth0") })
	if err != nil {
		n.T.Fatal(err)
	}
	n.T.Cleanup(n.Wire.Close)
}

// files writes what subnet-lease, a setup program and route-sync would have written, and the administrator's.
func (n *Node) files() {
	n.T.Helper()
	prefixes := func(v4, v6 string) (p state.Pair[netip.Prefix]) {
		p.Set(state.IPv4, netip.MustParsePrefix(v4))
		p.Set(state.IPv6, netip.MustParsePrefix(v6))
		return p
	}
	var own state.Pair[netip.Addr]
	own.Set(state.IPv4, netip.MustParseAddr(Uplink[0]))
	own.Set(state.IPv6, netip.MustParseAddr(Uplink[1]))
	var device state.Pair[state.Device]
	device.Set(state.IPv4, state.Device{Name: "eth0", MTU: 1500})
	device.Set(state.IPv6, state.Device{Name: "eth0", MTU: 1500})
	n.save(n.Run.Lease(), state.Lease{
		Version: state.Version, Node: Name, Network: prefixes(networks[0], networks[1]), Subnet: prefixes(networks[2], networks[3]), PublicIP: own,
		Interface: state.Interface{Name: "eth0", MTU: 1500, IP: own}, Backend: state.Backend{Type: "vxlan", VNI: 1, Port: 8472}, IPMasq: true,
	})
	n.save(n.Run.Link(), state.Link{Version: state.Version, Device: device, Uplink: "eth0", MTU: 1500, Publish: state.Published{Type: "vxlan"}})
	n.save(n.Run.Routes(), state.Routes{Version: state.Version})
	for _, d := range []string{n.Run.Endpoints(), n.Objects, filepath.Join(n.dir, "net.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			n.T.Fatal(err)
		}
	}
	n.write(filepath.Join(n.dir, "cni-conf.json"), `{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "flannel", "dataDir": "`+n.dir+`/delegates",
		"ipam": {"dataDir": "`+n.dir+`/networks"}, "delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}`)
}

// config is the plugin's own configuration out of the conflist, with the wait for policies switched on.
func (n *Node) config(conflist string) []byte {
	n.T.Helper()
	text, err := os.ReadFile(conflist)
	if err != nil {
		n.T.Fatal(err)
	}
	var list struct {
		Name, CNIVersion string
		Plugins          []map[string]any
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Plugins) != 1 {
		n.T.Fatalf("%v: %s", err, text)
	}
	conf := list.Plugins[0]
	conf["name"], conf["cniVersion"], conf["policy"], conf["policyTimeout"] = list.Name, list.CNIVersion, true, 60
	if text, err = json.Marshal(conf); err != nil {
		n.T.Fatal(err)
	}
	return text
}

// Wait switches the wait for policies, which is on, for the ADDs to come.
func (n *Node) Wait(on bool) {
	n.T.Helper()
	var conf map[string]any
	err := json.Unmarshal(n.plugin, &conf)
	if err == nil {
		conf["policy"] = on
		n.plugin, err = json.Marshal(conf)
	}
	if err != nil {
		n.T.Fatal(err)
	}
}

func (n *Node) save(path string, value any) {
	n.T.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		n.T.Fatal(err)
	}
	n.write(path, string(text))
}

// write puts a file in place in one step, as programs do.
func (n *Node) write(path, text string) {
	n.T.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.T.Fatal(err)
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		n.T.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		n.T.Fatal(err)
	}
}

// Set writes a manifest into the directory of objects; an empty text removes it.
func (n *Node) Set(name, text string) {
	n.T.Helper()
	path := filepath.Join(n.Objects, name+".yaml")
	if text != "" {
		n.write(path, text)
	} else if err := os.Remove(path); err != nil {
		n.T.Fatal(err)
	}
}

// Namespaces writes Namespaces, given as "NAME key=value key=value".
func (n *Node) Namespaces(list ...string) {
	n.T.Helper()
	var b strings.Builder
	for _, one := range list {
		words := strings.Fields(one)
		b.WriteString("---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + words[0] + "\n  labels: {" + labels(words[1:]) + "}\n")
	}
	n.Set("namespaces", b.String())
}

// labels are words of the form key=value as a YAML flow mapping's inside.
func labels(words []string) string {
	for i, w := range words {
		key, value, _ := strings.Cut(w, "=")
		words[i] = key + `: "` + value + `"`
	}
	return strings.Join(words, ", ")
}
