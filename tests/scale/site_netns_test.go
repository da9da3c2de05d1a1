//go:build netns

package scale

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/objects"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// site is an API server with the objects of a cluster, and a namespace for its node 0.
type site struct {
	*nstest.Namespace
	b     *testing.B
	api   *apitest.Server
	nodes int
	dir   string
	url   string // of the API server, as the namespace reaches it
}

// uplinks counts the pairs of devices that lead from the test's namespace into those of nodes.
var uplinks int

func newSite(b *testing.B, nodes int, c objects.Cluster) *site {
	b.Helper()
	s := &site{b: b, api: apitest.Start(b), nodes: nodes, dir: b.TempDir()}
	all := map[string]string{}
	put := func(key, object string) { all[key] = object }
	for i := range nodes + 1 {
		n := objects.Node{Number: i}
		put("/registry/minions/"+n.Name(), n.Stored())
	}
	if c.Pods > 0 {
		if err := c.Stored(0, put); err != nil {
			b.Fatal(err)
		}
	}
	s.api.Store(all)
	s.api.Do("GET", "/api/v1/nodes?limit=1&resourceVersion=", "") // the API server has all of it
	s.namespace()
	return s
}

// namespace gives the site a fresh namespace for the node.
func (s *site) namespace() {
	s.b.Helper()
	s.Namespace = nstest.New(s.b, "node")
	uplinks++
	near := fmt.Sprintf("up%d", uplinks)
	nstest.Run(s.b, "ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", s.Name)
	nstest.Run(s.b, "ip", "addr", "add", "192.168.7.254/24", "dev", near)
	nstest.Run(s.b, "ip", "link", "set", near, "up")
	s.b.Cleanup(func() { exec.Command("ip", "link", "del", near).Run() })
	s.Run("ip", "addr", "add", "192.168.7.1/24", "dev", "eth0")
	s.Run("ip", "link", "set", "eth0", "up")
	s.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	s.url = "https://192.168.7.254:" + s.api.URL[strings.LastIndex(s.api.URL, ":")+1:]
}

// leave takes the uplink away, so that another namespace can have its address.
func (s *site) leave() {
	s.b.Helper()
	nstest.Run(s.b, "ip", "link", "del", fmt.Sprintf("up%d", uplinks))
}

func (s *site) file(name, text string) string {
	s.b.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.b.Fatal(err)
	}
	return path
}

const netConf = `{"Network": "10.0.0.0/8", "EnableNFTables": true, "Backend": {"Type": "vxlan", "VNI": 1, "Port": 8472}}`

// start starts a program in the namespace.
func (s *site) start(env []string, program string, args ...string) *group {
	s.b.Helper()
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(program)+".log"))
	if err != nil {
		s.b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("nsenter", append([]string{"--net=" + s.Path, "--", program}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.b.Fatal(err)
	}
	g := &group{b: s.b, cmd: cmd, log: log.Name(), began: time.Now()}
	s.b.Cleanup(g.stop)
	return g
}

// ours starts the supervisor with stages of those names; none: all that a node has.
func (s *site) ours(stages ...string) *group {
	s.b.Helper()
	source := filepath.Join(filepath.Dir(node.Binary(s.b, "towpath")), "..", "packaging", "stages.d")
	dir := source
	if len(stages) > 0 {
		dir = filepath.Join(s.dir, "stages.d")
		for _, name := range stages {
			text, err := os.ReadFile(filepath.Join(source, name+".toml"))
			if err != nil {
				s.b.Fatal(err)
			}
			s.file("stages.d/"+name+".toml", string(text))
		}
	}
	env := []string{
		"TOWPATH_STORE=kube", "TOWPATH_OBJECTS=kube", "TOWPATH_NODE=node-0", "TOWPATH_KUBECONFIG=" + s.api.Kubeconfig(apitest.Admin), "TOWPATH_KUBE_API_URL=" + s.url,
		"TOWPATH_NET_CONF=" + s.file("net-conf.json", netConf), "TOWPATH_CONFLIST=" + filepath.Join(s.dir, "net.d/10-towpath.conflist"),
		"TOWPATH_CNI_CONF=" + s.file("cni-conf.json", `{"name":"cbr0","cniVersion":"1.0.0","plugins":[{"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}}]}`),
		"PATH=" + filepath.Dir(node.Binary(s.b, "towpath")) + ":" + os.Getenv("PATH"),
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "net.d"), 0o755); err != nil {
		s.b.Fatal(err)
	}
	return s.start(env, node.Binary(s.b, "towpath"), "supervise", "--run-dir", filepath.Join(s.dir, "run"), "--stages", dir)
}

// flanneld starts the peer; nil where there is none.
func (s *site) flanneld() *group {
	s.b.Helper()
	program := os.Getenv("PEER_FLANNELD")
	if program == "" {
		return nil
	}
	return s.start([]string{"NODE_NAME=node-0"}, program, "--kube-subnet-mgr", "--kubeconfig-file", s.api.Kubeconfig(apitest.Admin), "--kube-api-url", s.url,
		"--net-config-path", s.file("net-conf.json", netConf), "--iface", "eth0", "--subnet-file", filepath.Join(s.dir, "subnet.env"))
}

// programmed waits until every peer has its route, neighbour and FDB entry, and returns how long after the group's start.
func (s *site) programmed(g *group) time.Duration {
	s.b.Helper()
	for !g.has(s.nodes) {
		if time.Since(g.began) > 3*time.Minute {
			text, _ := os.ReadFile(g.log)
			s.b.Fatalf("not all of %d peers have routes; the log ends:\n%s", s.nodes, text[max(0, len(text)-3000):])
		}
		<-time.After(20 * time.Millisecond)
	}
	took := time.Since(g.began)
	for what, command := range map[string]string{"neighbours": "ip neigh show dev flannel.1 nud permanent", "FDB entries": "bridge fdb show dev flannel.1"} {
		words := strings.Fields(command)
		if n := strings.Count(s.Run(words[0], words[1:]...), "\n"); n < s.nodes {
			s.b.Errorf("%d %s, want %d", n, what, s.nodes)
		}
	}
	return took
}

// has says whether there are so many routes through the tunnel.
func (g *group) has(routes int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/route", g.cmd.Process.Pid))
	return err == nil && bytes.Count(text, []byte("flannel.1\t")) >= routes
}

// await waits for a file.
func (s *site) await(path string) {
	s.b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.b.Fatalf("there is no %s", path)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the group, the processes that it started first asked and then made to.
func (g *group) stop() {
	all := g.pids()
	g.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		g.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
	}
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-ended
}
