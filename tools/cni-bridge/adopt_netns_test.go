//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

// flannelList is the conflist of flannel's manifest.
const flannelList = `{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
	{"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}`

// flannelPod attaches a container as flannel's plugin, bridge and host-local do, and notes it as libcni does.
func (h *host) flannelPod(c container, ip, veth string) {
	h.t.Helper()
	if _, err := h.Try("ip", "link", "show", "cni0"); err != nil {
		h.Run("ip", "link", "add", "cni0", "address", "aa:bb:cc:00:00:01", "type", "bridge") // the plugin pins it
		h.Run("ip", "addr", "add", "10.244.1.1/24", "dev", "cni0")
		h.Run("ip", "link", "set", "cni0", "up")
	}
	h.Run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", c.Name)
	h.Run("ip", "link", "set", veth, "master", "cni0", "up")
	c.Run("ip", "addr", "add", ip+"/24", "dev", "eth0")
	c.Run("ip", "link", "set", "eth0", "up")
	c.Run("ip", "route", "add", "default", "via", "10.244.1.1")
	mac := strings.TrimSpace(c.Run("cat", "/sys/class/net/eth0/address"))
	h.write(filepath.Join(h.ipam, "cbr0", ip), c.id+"\r\neth0")
	h.write(filepath.Join(h.ipam, "cbr0", "last_reserved_ip.0"), ip)
	h.write(filepath.Join(h.ipam, "cbr0", "lock"), "")
	h.write(filepath.Join(h.state, c.id), `{"cniVersion":"0.3.1","name":"cbr0","type":"bridge","ipam":{"type":"host-local"}}`)
	h.note(c, fmt.Sprintf(`{"cniVersion": "0.3.1", "dns": {}, "routes": [{"dst": "10.244.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.244.1.1"}],
		"interfaces": [{"name": "cni0", "mac": "aa:bb:cc:00:00:01"}, {"name": %q, "mac": "aa:bb:cc:00:00:02"}, {"name": "eth0", "mac": %q, "sandbox": %q}],
		"ips": [{"version": "4", "interface": 2, "address": "%s/24", "gateway": "10.244.1.1"}]}`, veth, mac, c.Path, ip))
}

// note writes a file of libcni's cache.
func (h *host) note(c container, result string) {
	h.t.Helper()
	data, err := json.Marshal(map[string]any{
		"kind": "cniCacheV1", "containerId": c.id, "config": []byte(flannelList), "ifName": "eth0", "networkName": "cbr0",
		"cniArgs": [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "dev"}, {"K8S_POD_NAME", "pod-" + c.id}, {"K8S_POD_UID", "u-" + c.id}},
		"result":  json.RawMessage(result),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(filepath.Join(h.cache(), "results", "cbr0-"+c.id+"-eth0"), string(data))
}

func (h *host) dir() string   { return filepath.Dir(string(h.run)) }
func (h *host) cache() string { return filepath.Join(h.dir(), "cache") }
func (h *host) netd(name string) string {
	return filepath.Join(h.dir(), "net.d", name)
}

// cni runs conf or adopt of the program with the directories of the test.
func (h *host) cni(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	list := fmt.Sprintf(`{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "flannel", "dataDir": %q, "ipam": {"dataDir": %q},
		"delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}`, h.state, h.ipam)
	h.write(filepath.Join(h.dir(), "cni-conf.json"), list)
	cmd := exec.Command(h.bin, append(args, "--run-dir", string(h.run), "--cni-conf", filepath.Join(h.dir(), "cni-conf.json"),
		"--conflist", h.netd("10-towpath.conflist"), "--cni-cache-dir", h.cache(), "--subnet-env", filepath.Join(h.dir(), "flannel", "subnet.env"))...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	h.Do(func() { _ = cmd.Run() })
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func (h *host) mustCNI(args ...string) string {
	h.t.Helper()
	out, errs, code := h.cni(args...)
	if code != 0 {
		h.t.Fatalf("cni-bridge %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// TestAdopt: a running pod of flannel's gets its endpoint, and only such a one.
func TestAdopt(t *testing.T) {
	h := newHost(t, envV4)
	a, gone, moved, unreserved := newContainer(t, "a"), newContainer(t, "gone"), newContainer(t, "moved"), newContainer(t, "unreserved")
	h.flannelPod(a, "10.244.1.2", "veth11111111")
	h.flannelPod(gone, "10.244.1.3", "veth22222222")
	h.flannelPod(moved, "10.244.1.4", "veth33333333")
	h.flannelPod(unreserved, "10.244.1.5", "veth44444444")
	h.Run("ip", "link", "del", "veth22222222")
	h.Run("ip", "link", "set", "veth33333333", "nomaster")
	if err := os.Remove(filepath.Join(h.ipam, "cbr0", "10.244.1.5")); err != nil {
		t.Fatal(err)
	}
	h.write(filepath.Join(h.cache(), "results", "cbr0-torn-eth0"), `{"kind": "cniCache`)
	h.write(filepath.Join(h.cache(), "results", "cbr0-old-eth0"), `{"cniVersion": "0.3.1"}`)
	h.write(filepath.Join(h.cache(), "results", "cni-loopback-a-lo"), `{}`)
	h.write(filepath.Join(h.ipam, "cbr0", "10.244.1.9"), "stranger\r\neth0")

	want := "write " + h.run.Endpoint("a", "eth0") + "\n"
	if out := h.mustCNI("adopt", "plan"); out != want {
		t.Errorf("plan: %q, want %q", out, want)
	}
	out, errs, code := h.cni("adopt")
	if out != want || code != 0 {
		t.Errorf("exit %d: %q, want %q", code, out, want)
	}
	for _, s := range []string{"cbr0-torn-eth0", "cbr0-old-eth0", "10.244.1.9"} {
		if !strings.Contains(errs, s) {
			t.Errorf("not told of %s:\n%s", s, errs)
		}
	}
	e, err := state.Load[state.Endpoint](h.run.Endpoint("a", "eth0"))
	mac := strings.TrimSpace(a.Run("cat", "/sys/class/net/eth0/address"))
	wanted := state.Endpoint{
		Version: 1, Network: "cbr0", ContainerID: "a", Interface: "eth0", Namespace: "dev", Pod: "pod-a", UID: "u-a", MAC: mac,
		Bridge: "cni0", HostVeth: "veth11111111", Netns: a.Path,
	}
	wanted.IP.IPv4 = netip.MustParseAddr("10.244.1.2")
	if err != nil || e != wanted {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, e, wanted)
	}
	if out := h.mustCNI("adopt", "apply"); out != "" {
		t.Errorf("a second time: %q", out)
	}
	// The host end of somebody else under the name that was noted: not this pod.
	b := newContainer(t, "b")
	h.flannelPod(b, "10.244.1.6", "veth55555555")
	h.Run("ip", "link", "del", "veth55555555")
	h.Run("ip", "link", "add", "veth55555555", "type", "veth", "peer", "name", "eth1", "netns", a.Name)
	h.Run("ip", "link", "set", "veth55555555", "master", "cni0")
	if out := h.mustCNI("adopt"); out != "" {
		t.Errorf("taken for another: %q", out)
	}
}

// TestTakeOverAndBack: the runtime has a configuration at any time, new pods get free addresses, DEL takes away what
// flannel's plugin made, and back again flannel's plugin finds its own.
func TestTakeOverAndBack(t *testing.T) {
	h := newHost(t, envV4)
	a, b := newContainer(t, "a"), newContainer(t, "b")
	h.flannelPod(a, "10.244.1.2", "veth11111111")
	h.flannelPod(b, "10.244.1.3", "veth22222222")
	h.write(h.netd("10-flannel.conflist"), flannelList)
	h.write(h.netd("00-multus.conf"), `{"name": "multus", "type": "multus"}`)
	h.write(filepath.Join(h.dir(), "flannel", "subnet.env"), envV4)
	for path, text := range map[string]string{h.run.Lease(): leaseJSON, h.run.Link(): linkJSON, h.run.Routes(): routesJSON} {
		h.write(path, text)
	}
	flannelEnv := filepath.Join(h.dir(), "flannel", "subnet.env")

	if h.mustCNI("conf", "apply"); exists(h.netd("10-flannel.conflist"+aside)) || !exists(h.run.Endpoint("a", "eth0")) {
		t.Error("without being asked for: moved aside, or no endpoints")
	}
	plan := h.mustCNI("conf", "plan", "--take-over")
	want := fmt.Sprintf("mv %s %s\n", h.netd("10-flannel.conflist"), h.netd("10-flannel.conflist"+aside))
	if plan != want {
		t.Errorf("plan %q, want %q", plan, want)
	}
	h.mustCNI("conf", "apply", "--take-over")
	if exists(h.netd("10-flannel.conflist")) || !exists(h.netd("10-towpath.conflist")) || !exists(h.netd("00-multus.conf")) {
		t.Errorf("net.d: %s", h.Run("ls", filepath.Dir(h.netd(""))))
	}
	if out := h.mustCNI("conf", "apply", "--take-over"); out != "" {
		t.Errorf("a second time: %q", out)
	}

	// A pod of ours beside them, on the bridge that flannel's chain made.
	c := newContainer(t, "c")
	r := h.add(c, h.conf("1.0.0", nil))
	if addrOf(r, 0) != "10.244.1.4" {
		t.Errorf("address %s", addrOf(r, 0))
	}
	for _, ip := range []string{"10.244.1.2", "10.244.1.3", "10.244.1.1"} {
		c.Run("ping", "-c1", "-W5", ip)
	}
	// CHECK, DEL and GC of pods that flannel's plugin made.
	h.must("DEL", a, h.conf("1.0.0", nil))
	for _, path := range []string{filepath.Join(h.ipam, "cbr0", "10.244.1.2"), filepath.Join(h.state, "a"), h.run.Endpoint("a", "eth0")} {
		if exists(path) {
			t.Errorf("DEL left %s", path)
		}
	}
	if _, err := h.Try("ip", "link", "show", "veth11111111"); err == nil {
		t.Error("DEL left the veth")
	}
	h.must("GC", container{}, h.conf("1.1.0", map[string]any{"cni.dev/valid-attachments": []map[string]string{{"containerID": "c", "ifname": "eth0"}}}))
	for _, path := range []string{filepath.Join(h.ipam, "cbr0", "10.244.1.3"), filepath.Join(h.state, "b"), h.run.Endpoint("b", "eth0")} {
		if exists(path) {
			t.Errorf("GC left %s", path)
		}
	}
	if _, err := h.Try("ip", "link", "show", "veth22222222"); err == nil {
		t.Error("GC left the veth")
	}

	want = fmt.Sprintf("write %s\nmv %s %s\nremove %s\nremove %s\n", filepath.Join(h.state, "c"), h.netd("10-flannel.conflist"+aside), h.netd("10-flannel.conflist"), h.netd("10-towpath.conflist"), h.run.SubnetEnv())
	if out := h.mustCNI("conf", "down", "--hand-back"); out != want {
		t.Errorf("back: %q, want %q", out, want)
	}
	if d := cmp.Diff(flannelList, h.Run("cat", h.netd("10-flannel.conflist"))); d != "" || !exists(flannelEnv) {
		t.Errorf("flannel's files: %s", d)
	}
	c.Run("ping", "-c1", "-W5", "10.244.1.1")
	if out := h.mustCNI("conf", "down", "--hand-back"); out != "" {
		t.Errorf("a second time: %q", out)
	}
	// flannel's plugin replays this at DEL: bridge, and so host-local.
	var record struct {
		Name, Type, CNIVersion string
		IPAM                   struct {
			Type    string
			DataDir string
			Ranges  [][]struct{ Subnet string }
		}
	}
	data, err := os.ReadFile(filepath.Join(h.state, "c"))
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil || record.Name != "cbr0" || record.Type != "bridge" || record.CNIVersion != "1.0.0" || record.IPAM.Type != "host-local" || record.IPAM.DataDir != h.ipam ||
		record.IPAM.Ranges[0][0].Subnet != "10.244.1.0/24" {
		t.Errorf("flannel's record: %s, %v", data, err)
	}
	// host-local, and so flannel's plugin, knows the pod that came from ours.
	if data, err := os.ReadFile(filepath.Join(h.ipam, "cbr0", "10.244.1.4")); err != nil || string(data) != "c\r\neth0" {
		t.Errorf("reservation %q, %v", data, err)
	}
}

// TestTakeOverRefusals: another network's name would lose the running pods' addresses; nobody to hand back to.
func TestTakeOverRefusals(t *testing.T) {
	h := newHost(t, envV4)
	for path, text := range map[string]string{h.run.Lease(): leaseJSON, h.run.Link(): linkJSON, h.run.Routes(): routesJSON} {
		h.write(path, text)
	}
	h.write(h.netd("10-flannel.conflist"), strings.ReplaceAll(flannelList, "cbr0", "podnet"))
	if _, errs, code := h.cni("conf", "apply", "--take-over"); code != 78 || !strings.Contains(errs, `set "name": "podnet"`) {
		t.Errorf("exit %d: %s", code, errs)
	}
	if !exists(h.netd("10-flannel.conflist")) || exists(h.netd("10-towpath.conflist")) {
		t.Error("something was done all the same")
	}
	if err := os.Remove(h.netd("10-flannel.conflist")); err != nil {
		t.Fatal(err)
	}
	h.write(h.netd("10-canal.conflist"), `{"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [{"type": "calico"}]}`)
	h.mustCNI("conf", "apply", "--take-over")
	if exists(h.netd("10-canal.conflist")) {
		t.Error("canal's configuration is still in front")
	}
	if out := h.mustCNI("conf", "apply", "--forget-earlier"); out != "remove "+h.netd("10-canal.conflist"+aside)+"\n" {
		t.Errorf("forgotten: %q", out)
	}
	if _, errs, code := h.cni("conf", "down", "--hand-back"); code != 75 || !exists(h.netd("10-towpath.conflist")) {
		t.Errorf("exit %d: %s", code, errs)
	}
}
