//go:build netns

package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// The leavings of flannel 0.28 are made by commands here; tests/cluster's TestMove has the real one.

// flannelNode is a node as flannel, its CNI plugin, bridge and host-local leave it, with one pod.
type flannelNode struct {
	*node
	pod               *nstest.Namespace
	ip, mac, gateway  string
	rules             string // iptables-nft, or nft: flannel's EnableNFTables
	cache, ipam, data string
	environment       string // file of settings
}

func newFlannelNode(t *testing.T, n *node, pod *nstest.Namespace, number int, rules string) *flannelNode {
	t.Helper()
	dir := filepath.Dir(n.netConf)
	f := &flannelNode{
		node: n, pod: pod, ip: fmt.Sprintf("10.244.%d.2", number), mac: fmt.Sprintf("02:fa:00:00:00:0%d", number),
		gateway: fmt.Sprintf("10.244.%d.1", number), rules: rules,
		cache: filepath.Join(dir, "cni"), ipam: filepath.Join(dir, "cni", "networks"), data: filepath.Join(dir, "cni", "flannel"),
	}
	write(t, n.cniConf, fmt.Sprintf(`{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [{"type": "flannel", "dataDir": %q,
		"ipam": {"dataDir": %q}, "delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}`, f.data, f.ipam))
	write(t, filepath.Join(n.confDir, "10-flannel.conflist"), cniConf)
	f.environment = filepath.Join(dir, "environment")
	write(t, f.environment, strings.Join([]string{
		"# as /etc/towpath/environment", "TOWPATH_STORE=file:" + n.store, "TOWPATH_NODE=" + n.name, `TOWPATH_NET_CONF="` + n.netConf + `"`, "TOWPATH_IFACE=eth0",
		"TOWPATH_CNI_CONF=" + n.cniConf, "TOWPATH_CONFLIST=" + filepath.Join(n.confDir, "10-towpath.conflist"), "TOWPATH_CNI_CACHE_DIR=" + f.cache, "",
	}, "\n"))
	n.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")

	n.Run("ip", "link", "add", "flannel.1", "address", f.mac, "mtu", "1450", "type", "vxlan", "id", "1", "dev", "eth0",
		"local", fmt.Sprintf("192.168.7.%d", number+1), "dstport", "8472", "nolearning")
	n.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.0/32", number), "dev", "flannel.1")
	n.Run("ip", "link", "set", "flannel.1", "up")

	n.Run("ip", "link", "add", "cni0", "address", "aa:bb:cc:00:00:01", "mtu", "1450", "type", "bridge")
	n.Run("ip", "addr", "add", f.gateway+"/24", "dev", "cni0")
	n.Run("ip", "link", "set", "cni0", "up")
	n.Run("ip", "link", "add", "veth0a0b0c0d", "mtu", "1450", "type", "veth", "peer", "name", "eth0", "mtu", "1450", "netns", pod.Name)
	n.Run("ip", "link", "set", "veth0a0b0c0d", "master", "cni0", "up")
	pod.Run("ip", "addr", "add", f.ip+"/24", "dev", "eth0")
	pod.Run("ip", "link", "set", "eth0", "up")
	pod.Run("ip", "route", "add", "default", "via", f.gateway)
	write(t, filepath.Join(f.ipam, "cbr0", f.ip), "pod-"+n.name+"\r\neth0")
	write(t, filepath.Join(f.data, "pod-"+n.name), `{"cniVersion":"0.3.1","name":"cbr0","type":"bridge"}`)
	result, err := json.Marshal(map[string]any{
		"kind": "cniCacheV1", "containerId": "pod-" + n.name, "ifName": "eth0", "networkName": "cbr0",
		"cniArgs": [][2]string{{"K8S_POD_NAMESPACE", "dev"}, {"K8S_POD_NAME", n.name}, {"K8S_POD_UID", "u"}},
		"result": map[string]any{
			"cniVersion": "0.3.1",
			"interfaces": []map[string]string{
				{"name": "cni0"},
				{"name": "veth0a0b0c0d"},
				{"name": "eth0", "mac": strings.TrimSpace(pod.Run("cat", "/sys/class/net/eth0/address")), "sandbox": pod.Path},
			},
			"ips": []map[string]any{{"version": "4", "interface": 2, "address": f.ip + "/24", "gateway": f.gateway}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(f.cache, "results", "cbr0-pod-"+n.name+"-eth0"), string(result))
	f.masquerade(number)
	return f
}

// masquerade is what flanneld does about rules, at its start and every 5 s.
func (f *flannelNode) masquerade(number int) {
	f.t.Helper()
	subnet := fmt.Sprintf("10.244.%d.0/24", number)
	if f.rules == "nft" {
		f.Run("nft", `add table ip flannel-ipv4; add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority srcnat; };
			add rule ip flannel-ipv4 postrtg ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/16 return;
			add rule ip flannel-ipv4 postrtg ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random`)
		return
	}
	for _, rule := range []string{
		"-t nat -N FLANNEL-POSTRTG", "-t nat -A FLANNEL-POSTRTG -s " + subnet + " -d 10.244.0.0/16 -j RETURN",
		"-t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 -d " + subnet + " -j RETURN",
		"-t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully", "-t nat -A POSTROUTING -j FLANNEL-POSTRTG",
		"-N FLANNEL-FWD", "-A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT", "-A FLANNEL-FWD -d 10.244.0.0/16 -j ACCEPT", "-A FORWARD -j FLANNEL-FWD",
	} {
		f.Run(f.rules, strings.Fields(rule)...)
	}
}

// knows gives the node what flanneld programs for a peer.
func (f *flannelNode) knows(peer *flannelNode, number int) {
	f.t.Helper()
	base := fmt.Sprintf("10.244.%d.0", number)
	f.Run("ip", "neigh", "replace", base, "lladdr", peer.mac, "dev", "flannel.1", "nud", "permanent")
	f.Run("bridge", "fdb", "replace", peer.mac, "dev", "flannel.1", "dst", fmt.Sprintf("192.168.7.%d", number+1), "self", "permanent")
	f.Run("ip", "route", "replace", base+"/24", "via", base, "dev", "flannel.1", "onlink")
}

// tcp is a connection over which each word comes back with the address it came from.
func tcp(t *testing.T, from, to *nstest.Namespace, address string) (say func() error) {
	t.Helper()
	var l net.Listener
	var c net.Conn
	var err error
	to.Do(func() { l, err = net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		s, err := l.Accept()
		if err != nil {
			return
		}
		defer s.Close()
		for lines := bufio.NewScanner(s); lines.Scan(); {
			fmt.Fprintln(s, s.RemoteAddr())
		}
	}()
	from.Do(func() { c, err = net.Dial("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); c.Close() })
	lines, first := bufio.NewReader(c), ""
	return func() error {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintln(c, "?")
		line, err := lines.ReadString('\n')
		if first == "" {
			first = line
		}
		if err == nil && line != first {
			err = fmt.Errorf("from %q, before from %q", line, first)
		}
		return err
	}
}

// pinging sends 100 packets a second until stopped; stop fails the test for each that got no answer though a later one did.
func pinging(t *testing.T, from *nstest.Namespace, to string) (stop func()) {
	t.Helper()
	end := from.Pinging(to)
	return func() {
		t.Helper()
		sent, lost := end()
		t.Logf("%s to %s: %d of %d packets answered", from.Name, to, sent-lost, sent)
		if lost != 0 || sent == 0 {
			t.Errorf("%s to %s: %d of %d packets lost", from.Name, to, lost, sent)
		}
	}
}

// TestMigrate takes a node over from flannel, gives it back, and takes it again, with traffic between its pod and one of a node that stays
// with flannel, and to the world outside.
func TestMigrate(t *testing.T) {
	for _, rules := range []string{"iptables-nft", "iptables-legacy", "nft"} {
		t.Run(rules, func(t *testing.T) {
			store := filepath.Join(t.TempDir(), "store")
			netConf := `{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}`
			na, nz := newNode(t, "a", "192.168.7.1/24", netConf, store), newNode(t, "z", "192.168.7.2/24", netConf, store)
			join(na, nz)
			outside := nstest.New(t, "outside")
			run(t, "ip", "link", "add", "up-out", "type", "veth", "peer", "name", "eth0", "netns", outside.Name)
			t.Cleanup(func() { exec.Command("ip", "link", "del", "up-out").Run() })
			run(t, "ip", "link", "set", "up-out", "master", "underlay", "up")
			outside.Run("ip", "addr", "add", "192.168.7.9/24", "dev", "eth0")
			outside.Run("ip", "link", "set", "eth0", "up")
			for _, n := range []*node{na, nz} {
				n.must("subnet-lease", "apply") // as the nodes' annotations say it in a cluster
			}
			a, z := newFlannelNode(t, na, nstest.New(t, "pod"), 0, rules), newFlannelNode(t, nz, nstest.New(t, "pod"), 1, rules)
			a.knows(z, 1)
			z.knows(a, 0)
			for _, f := range []*flannelNode{a, z} { // what flanneld has published
				link := state.Link{Version: 1, Uplink: "eth0", MTU: 1450, Publish: state.Published{Type: "vxlan", Data: fmt.Appendf(nil, `{"VNI":1,"VtepMAC":%q}`, f.mac)}}
				link.Device.IPv4 = state.Device{Name: "flannel.1", MTU: 1450, VNI: 1, VtepMAC: f.mac}
				if _, err := state.Save(f.run.Link(), link); err != nil {
					t.Fatal(err)
				}
				f.must("subnet-lease", "apply")
				if err := os.Remove(f.run.Link()); err != nil {
					t.Fatal(err)
				}
			}
			before := a.Snapshot()
			say, out := tcp(t, a.pod, z.pod, z.ip+":7000"), tcp(t, a.pod, outside, "192.168.7.9:7001")
			flow := func(what string, do func()) {
				t.Helper()
				stops := []func(){pinging(t, a.pod, z.ip), pinging(t, z.pod, a.ip), pinging(t, a.pod, "192.168.7.9"), pinging(t, a.Namespace, a.ip)}
				do()
				for _, stop := range stops {
					stop()
				}
				for name, speak := range map[string]func() error{"to the other pod": say, "to outside": out} {
					if err := speak(); err != nil {
						t.Fatalf("%s: the connection %s: %v", what, name, err)
					}
				}
			}
			flow("flannel", func() {})
			for range 2 {
				flow("in", func() { a.moveIn(t) })
				a.isOurs(t)
				flow("back", func() {
					a.masquerade(0)
					a.moveOut(t)
				})
				if diff := cmp.Diff(strip(before), strip(a.Snapshot())); diff != "" {
					t.Errorf("not as flannel left it (-before +after)\n%s", diff)
				}
				if entries, _ := os.ReadDir(a.confDir); len(entries) != 1 || entries[0].Name() != "10-flannel.conflist" {
					t.Errorf("%s: %v", a.confDir, entries)
				}
			}
		})
	}
}

var (
	timers  = regexp.MustCompile(`_timer +[0-9.]+`)
	counted = regexp.MustCompile(`packets \d+ bytes \d+`)
)

// strip leaves out what runs by itself, and the rules, which flanneld makes anew.
func strip(snapshot string) string {
	text, _, _ := strings.Cut(snapshot, "# nft list ruleset")
	return timers.ReplaceAllString(text, "")
}

// towpath runs a verb of the supervisor on the node.
func (f *flannelNode) towpath(verb ...string) (out string, err error) {
	f.t.Helper()
	stages, err := filepath.Abs(filepath.Join(root, "packaging", "stages.d"))
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := f.Command(program(f.t, "towpath"), append(verb, "--run-dir", string(f.run), "--stages", stages, "--environment", f.environment)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("towpath %s: %w: %s", verb, err, stderr.String())
	}
	return string(data), err
}

// flanneld is a process under flanneld's name in the node; it bears the name from the start, which ip netns exec gives it only after a while.
func (f *flannelNode) flanneld(t *testing.T) (stop func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flanneld")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "cp", sleep, path)
	cmd := f.Command(path, "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(stop)
	f.Eventually(20*time.Second, func() string {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if err != nil || strings.TrimSpace(string(name)) != "flanneld" {
			return fmt.Sprintf("process %d is still %q (%v)", cmd.Process.Pid, name, err)
		}
		return ""
	})
	return stop
}

// steps are the changes of what the verbs print, less whose they are.
func steps(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "# ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// moveIn plans the take-over, which changes nothing, and makes it, which does as it said.
func (f *flannelNode) moveIn(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(string(f.run)); err != nil { // as after a boot
		t.Fatal(err)
	}
	before := counted.ReplaceAllString(timers.ReplaceAllString(f.Snapshot(), ""), "")
	planned, err := f.towpath("takeover", "--from", "flannel")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, counted.ReplaceAllString(timers.ReplaceAllString(f.Snapshot(), ""), "")); diff != "" {
		t.Errorf("the plan changed the kernel: %s", diff)
	}
	if files, err := os.ReadDir(string(f.run)); err == nil {
		t.Errorf("the plan wrote %s", files)
	}
	done, err := f.towpath("takeover", "--from", "flannel", "--yes")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(steps(planned), steps(done)); diff != "" {
		t.Errorf("planned, done:\n%s", diff)
	}
	if again, err := f.towpath("takeover", "--from", "flannel", "--yes"); err != nil || steps(again) != "" {
		t.Errorf("not at rest: %v\n%s", err, again)
	}
}

// moveOut gives the node back while something runs that is called flanneld.
func (f *flannelNode) moveOut(t *testing.T) {
	t.Helper()
	if _, err := f.towpath("handback", "--to", "flannel", "--yes"); err == nil || !strings.Contains(err.Error(), "flanneld does not run") {
		t.Errorf("without flanneld: %v", err)
	}
	stop := f.flanneld(t)
	defer stop()
	if _, err := f.towpath("takeover", "--from", "flannel", "--yes"); err == nil || !strings.Contains(err.Error(), "flanneld runs: process ") {
		t.Errorf("beside flanneld: %v", err)
	}
	planned, err := f.towpath("handback", "--to", "flannel")
	if err != nil {
		t.Fatal(err)
	}
	done, err := f.towpath("handback", "--to", "flannel", "--yes")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(steps(planned), steps(done)); diff != "" {
		t.Errorf("planned, done:\n%s", diff)
	}
}

// isOurs checks what the move has made of flannel's things.
func (f *flannelNode) isOurs(t *testing.T) {
	t.Helper()
	if out := f.Run("ip", "-d", "link", "show", "flannel.1"); !strings.Contains(out, f.mac) || !strings.Contains(out, "alias towpath") {
		t.Errorf("the device: %s", out)
	}
	if out := f.Run("ip", "route"); !strings.Contains(out, "10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto ") {
		t.Errorf("routes: %s", out)
	}
	rules := f.Run("nft", "list", "ruleset") + f.Run("iptables-legacy-save")
	if !strings.Contains(rules, "towpath-masq") || strings.Contains(strings.ToLower(rules), "flannel-") {
		t.Errorf("rules: %s", rules)
	}
	e, err := state.Load[state.Endpoint](f.run.Endpoint("pod-"+f.name, "eth0"))
	if err != nil || e.Pod != f.name || e.IP.IPv4.String() != f.ip || e.HostVeth != "veth0a0b0c0d" {
		t.Errorf("endpoint: %+v, %v", e, err)
	}
	if _, err := os.Stat(filepath.Join(f.confDir, "10-towpath.conflist")); err != nil {
		t.Error(err)
	}
	if _, err := exec.Command("cat", filepath.Join(f.confDir, "10-flannel.conflist")).Output(); err == nil {
		t.Error("the runtime still takes flannel's configuration")
	}
}
