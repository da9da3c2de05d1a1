//go:build netns

package change

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

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/node"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// patience is how long a change may take on a machine that is busy; how long it took is printed.
const patience = 60 * time.Second

// site is nodes on one link, each supervised, with one store.
type site struct {
	t      *testing.T
	link   *nstest.Namespace // the bridge between the nodes
	store  string
	nodes  []*member
	edited time.Time // last
}

// member is a node of a site.
type member struct {
	*nstest.Namespace
	*site
	sockets
	name, dir string
	run       state.Dir
	netConf   string
	conflist  string
	log       *os.File
	proc      *exec.Cmd
	pods      []*pod
}

// pod is a pod that the plugin attached.
type pod struct {
	*nstest.Namespace
	node *member
	ip   netip.Addr
}

// newSite makes nodes with the addresses 192.168.7.1 and on, and one pod each, and starts them.
func newSite(t *testing.T, n int, netConf string, env ...string) *site {
	t.Helper()
	s := &site{t: t, link: nstest.New(t, "link"), store: filepath.Join(t.TempDir(), "store")}
	s.link.Run("ip", "link", "add", "bridge", "type", "bridge")
	s.link.Run("ip", "link", "set", "bridge", "up")
	for i := range n {
		s.join(fmt.Sprintf("node%d", i+1), netConf, env...)
	}
	s.converges("the first start")
	for _, m := range s.nodes {
		m.attach()
	}
	return s
}

func (s *site) join(name, netConf string, env ...string) *member {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "node") // t.TempDir's names are too long for sockets
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	m := &member{
		Namespace: nstest.New(s.t, name), site: s, name: name, dir: dir, run: state.Dir(filepath.Join(dir, "run")),
		netConf: filepath.Join(dir, "net-conf.json"), conflist: filepath.Join(dir, "net.d", "10-towpath.conflist"),
	}
	s.nodes = append(s.nodes, m)
	m.NoDAD()
	m.nic("eth0", fmt.Sprintf("192.168.7.%d/24", len(s.nodes)))
	m.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	m.open()
	m.configure(netConf)
	m.write(filepath.Join(dir, "cni-conf.json"), `{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "flannel", "dataDir": "`+dir+`/delegates",
		"ipam": {"dataDir": "`+dir+`/networks"}, "delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}`)
	m.start(env...)
	return m
}

// nic gives the node an interface on the link between the nodes.
func (m *member) nic(dev, address string) {
	m.t.Helper()
	port := fmt.Sprintf("%s-%s", m.name, dev)
	m.Run("ip", "link", "add", dev, "type", "veth", "peer", "name", port, "netns", m.link.Name)
	m.link.Run("ip", "link", "set", port, "master", "bridge", "up")
	m.Run("ip", "addr", "add", address, "dev", dev)
	m.Run("ip", "link", "set", dev, "up")
}

// number is the node's, from 1.
func (m *member) number() string { return strings.TrimPrefix(m.name, "node") }

// configure writes net-conf.json, as an editor does or a ConfigMap's swap.
func (m *member) configure(netConf string) {
	m.t.Helper()
	m.edited = time.Now()
	m.write(m.netConf, netConf)
}

func (m *member) write(path, text string) {
	m.t.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// start runs `towpath supervise`, which ends with the test.
func (m *member) start(env ...string) {
	m.t.Helper()
	towpath := node.Binary(m.t, "towpath")
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	stages := filepath.Join(filepath.Dir(towpath), "..", "packaging", "stages.d")
	m.proc = exec.Command("nsenter", "--net="+m.Path, "--", towpath, "supervise", "--run-dir", string(m.run), "--stages", stages)
	m.proc.Env = append(append(os.Environ(),
		"TOWPATH_NODE="+m.name, "TOWPATH_STORE=file:"+m.store, "TOWPATH_NET_CONF="+m.netConf, "TOWPATH_CNI_CONF="+m.dir+"/cni-conf.json",
		"TOWPATH_CONFLIST="+m.conflist, "TOWPATH_OBJECTS="+m.dir+"/objects", "TOWPATH_CNI_BIN_DIR="+filepath.Dir(towpath)), env...)
	m.proc.Stdout, m.proc.Stderr = log, log
	if err := m.proc.Start(); err != nil {
		m.t.Fatal(err)
	}
	proc := m.proc
	m.t.Cleanup(func() {
		proc.Process.Signal(syscall.SIGTERM)
		proc.Wait()
		if m.t.Failed() {
			text, _ := os.ReadFile(filepath.Join(m.dir, "log"))
			m.t.Logf("%s, its log's end:\n%s", m.name, text[max(0, len(text)-10000):])
		}
	})
}

// status is `towpath status`.
func (m *member) status() (text string, well bool) {
	towpath := node.Binary(m.t, "towpath")
	stages := filepath.Join(filepath.Dir(towpath), "..", "packaging", "stages.d")
	out, err := m.Try(towpath, "status", "--run-dir", string(m.run), "--stages", stages)
	return out, err == nil
}

// until waits until want says nothing more, and returns how long that took.
func (s *site) until(what string, want func() string) time.Duration {
	s.t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		why := want()
		took := time.Since(start)
		if why == "" {
			return took
		}
		if took > patience {
			for _, m := range s.nodes {
				status, _ := m.status()
				s.t.Logf("%s:\n%s%s", m.name, status, m.Run("ip", "route"))
			}
			s.t.Fatalf("%s: %s, after %s", what, why, took)
		}
		<-tick.C
	}
}

// converges waits until every node is as its net-conf.json asks, and pods can be attached.
func (s *site) converges(what string) time.Duration {
	s.t.Helper()
	return s.until(what, func() string {
		for _, m := range s.nodes {
			if _, err := os.Stat(m.conflist); err != nil {
				return err.Error()
			}
		}
		return s.settled()
	})
}

// lease is lease.json.
func (m *member) lease() state.Lease {
	m.t.Helper()
	lease, err := state.Load[state.Lease](m.run.Lease())
	if err != nil {
		m.t.Fatal(err)
	}
	return lease
}

// plugin runs the CNI plugin as the runtime does, with the configuration that is there now.
func (p *pod) plugin(command string) []byte {
	m := p.node
	m.t.Helper()
	text, err := os.ReadFile(m.conflist)
	var list struct {
		Name, CNIVersion string
		Plugins          []map[string]any
	}
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil || len(list.Plugins) == 0 {
		m.t.Fatalf("%v: %s", err, text)
	}
	conf := list.Plugins[0]
	conf["name"], conf["cniVersion"] = list.Name, list.CNIVersion
	stdin, err := json.Marshal(conf)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := m.Command(node.Binary(m.t, "cni-bridge"))
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.Name, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_NETNS=" + p.Path, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=dev;K8S_POD_NAME=" + p.Name,
	}
	cmd.Stdin = strings.NewReader(string(stdin))
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("cni-bridge %s: %v: %s", command, err, out)
	}
	return out
}

// attach makes a pod.
func (m *member) attach() *pod {
	m.t.Helper()
	p := &pod{Namespace: nstest.New(m.t, "pod"), node: m}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if out := p.plugin("ADD"); json.Unmarshal(out, &result) != nil || len(result.IPs) != 1 {
		m.t.Fatalf("%s", out)
	}
	p.ip = result.IPs[0].Address.Addr()
	m.pods = append(m.pods, p)
	return p
}

// detach takes a pod away.
func (p *pod) detach() {
	p.plugin("DEL")
	p.node.pods = slices.DeleteFunc(p.node.pods, func(o *pod) bool { return o == p })
}
