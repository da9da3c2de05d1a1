//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

var versions = []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// TestAddDel plugs two pods in and out, with every version of the specification and every family.
func TestAddDel(t *testing.T) {
	for _, version := range versions {
		for _, family := range []struct {
			name, env string
			gateways  []string
			addrs     []string
			routes    []string
		}{
			{"v4", envV4, []string{"10.244.1.1"}, []string{"10.244.1.3"}, []string{"10.244.0.0/16 ", "0.0.0.0/0 10.244.1.1"}},
			{"v6", envV6, []string{"fd00:10:0:1::1"}, []string{"fd00:10:0:1::3"}, []string{"fd00:10::/48 ", "::/0 fd00:10:0:1::1"}},
			{
				"dual", envDual,
				[]string{"10.244.1.1", "fd00:10:0:1::1"},
				[]string{"10.244.1.3", "fd00:10:0:1::3"},
				[]string{"10.244.0.0/16 ", "fd00:10::/48 ", "0.0.0.0/0 10.244.1.1", "::/0 fd00:10:0:1::1"},
			},
		} {
			t.Run(version+"/"+family.name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, family.env)
				a, b := newContainer(t, "a"), newContainer(t, "b")
				h.add(a, h.conf(version, nil))
				all := h.Run("ip", "-br", "link") // which does not make the kernel catch up first, as a question about one device may
				for _, name := range []string{"cni0", vethOf("a")} {
					if !regexp.MustCompile(`(?m)^` + name + `(@\S+)? +UP `).MatchString(all) {
						t.Errorf("%s does not work yet:\n%s", name, all)
					}
				}
				r := h.add(b, h.conf(version, nil))

				var addrs, gateways, routes []string
				for i, ip := range r.IPs {
					addrs, gateways = append(addrs, addrOf(r, i)), append(gateways, ip.Gateway.String())
					if ip.Interface == nil || *ip.Interface != 2 {
						t.Errorf("address %d is not the pod's interface's", i)
					}
				}
				for _, route := range r.Routes {
					gw := ""
					if route.GW != nil {
						gw = route.GW.String()
					}
					routes = append(routes, route.Dst.String()+" "+gw)
				}
				if diff := cmp.Diff([][]string{family.addrs, family.gateways, family.routes}, [][]string{addrs, gateways, routes}); diff != "" {
					t.Errorf("addresses, gateways, routes (-want +got):\n%s", diff)
				}
				if len(r.Interfaces) != 3 || r.Interfaces[0].Name != "cni0" || r.Interfaces[1].Name != vethOf("b") || r.Interfaces[2].Sandbox != b.Path {
					t.Errorf("interfaces: %+v", r.Interfaces)
				}
				for _, to := range append(slices.Clone(gateways), addrs...) {
					a.Run("ping", "-c1", "-W5", to)
				}
				h.checkEndpoint(b, addrs)
				if out := h.Run("ip", "-d", "link", "show", vethOf("b")); !strings.Contains(out, "hairpin on") {
					t.Errorf("hairpin is not on:\n%s", out)
				}
				conf := h.conf(version, map[string]any{"prevResult": r})
				if version != "0.3.1" {
					conf["prevResult"] = asVersion(t, r, version)
					h.must("CHECK", b, conf)
				} else {
					delete(conf, "prevResult")
				}
				h.must("DEL", a, conf)
				h.must("DEL", b, conf)
				h.must("DEL", b, conf)
				if left := h.leftovers(); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
				if out := b.Run("ip", "-br", "link"); strings.Contains(out, "eth0") {
					t.Errorf("the pod still has eth0:\n%s", out)
				}
			})
		}
	}
}

// asVersion is a result as the runtime passes it back.
func asVersion(t *testing.T, r interface{ Version() string }, version string) any {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	object["cniVersion"] = version
	if version == "0.4.0" {
		for _, ip := range object["ips"].([]any) {
			ip := ip.(map[string]any)
			ip["version"] = "4"
			if strings.Contains(ip["address"].(string), ":") {
				ip["version"] = "6"
			}
		}
	}
	return object
}

func (h *host) checkEndpoint(c container, addrs []string) {
	h.t.Helper()
	e, err := state.Load[state.Endpoint](h.run.Endpoint(c.id, "eth0"))
	if err != nil {
		h.t.Error(err)
	}
	var have []string
	for _, f := range state.Families {
		if e.IP.Has(f) {
			have = append(have, e.IP.Of(f).String())
		}
	}
	e.IP = state.Endpoint{}.IP
	want := state.Endpoint{
		Version: 1, Network: "cbr0", ContainerID: c.id, Interface: "eth0", Namespace: "dev", Pod: c.id, UID: "u-" + c.id,
		HostVeth: vethOf(c.id), Netns: c.Path, Bridge: "cni0", MAC: macOf(netip.MustParseAddr(addrs[0])).String(),
	}
	if diff := cmp.Diff(want, e, cmpopts.EquateComparable(e.IP)); diff != "" {
		h.t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(addrs, have); diff != "" {
		h.t.Errorf("addresses of the endpoint (-want +got):\n%s", diff)
	}
}

// TestAddAgain: an ADD repeated, also one whose first try was killed, gives the same address.
func TestAddAgain(t *testing.T) {
	h := newHost(t, envDual)
	a := newContainer(t, "a")
	first := h.add(a, h.conf("1.0.0", nil))
	for range 2 {
		again := h.add(a, h.conf("1.0.0", nil))
		if diff := cmp.Diff([]string{addrOf(first, 0), addrOf(first, 1)}, []string{addrOf(again, 0), addrOf(again, 1)}); diff != "" {
			t.Errorf("another address (-first +again):\n%s", diff)
		}
	}
	a.Run("ping", "-c1", "-W5", "10.244.1.1")
	if n := len(h.reserved()); n != 2 {
		t.Errorf("%d addresses reserved: %v", n, h.reserved())
	}
	h.must("DEL", a, h.conf("1.0.0", nil))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestDelWithoutNamespace: the pod's namespace is gone, or was never known.
func TestDelWithoutNamespace(t *testing.T) {
	h := newHost(t, envV4)
	gone, unnamed := newContainer(t, "gone"), newContainer(t, "unnamed")
	h.add(gone, h.conf("1.0.0", nil))
	h.add(unnamed, h.conf("1.0.0", nil))
	h.Run("ip", "netns", "del", gone.Name)
	h.must("DEL", gone, h.conf("1.0.0", nil))
	h.must("DEL", container{id: "unnamed"}, h.conf("1.0.0", nil))
	h.must("DEL", container{id: "never-there"}, h.conf("1.0.0", nil))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestAddUndoes: an ADD that fails after it has made things takes them back.
func TestAddUndoes(t *testing.T) {
	h := newHost(t, envV4)
	a := newContainer(t, "a")
	a.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
	h.fails(999, `"eth0" is in the pod already`, "ADD", a, h.conf("1.0.0", nil))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	h.fails(8, "no such file", "ADD", container{&nstest.Namespace{Path: "/run/netns/none"}, "b"}, h.conf("1.0.0", nil))
	h.write(h.run.SubnetEnv()+".txt", "x")
	h.fails(8, "no network namespace", "ADD", container{&nstest.Namespace{Path: h.run.SubnetEnv()}, "b"}, h.conf("1.0.0", nil))
	h.fails(8, "node's own", "ADD", container{h.Namespace, "b"}, h.conf("1.0.0", nil))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestSubnetChange: the bridge's address of an old subnet stays beside the new one while a pod uses it. On a bridge that is not ours the
// new pod waits.
func TestSubnetChange(t *testing.T) {
	h := newHost(t, envDual)
	a, b := newContainer(t, "a"), newContainer(t, "b")
	h.add(a, h.conf("1.0.0", nil))
	h.write(h.run.SubnetEnv(), strings.NewReplacer("10.244.1.1/24", "10.244.7.1/24", "1430", "1400").Replace(envDual))
	h.Run("ip", "link", "set", "cni0", "alias", "theirs")
	h.fails(11, `bridge "cni0" has the address 10.244.1.1/24, and 1 pods use it`, "ADD", b, h.conf("1.0.0", nil))
	h.Run("ip", "link", "set", "cni0", "alias", nl.Mark)
	if r := h.add(b, h.conf("1.0.0", nil)); addrOf(r, 0) != "10.244.7.3" {
		t.Errorf("address %s", addrOf(r, 0))
	}
	a.Run("ping", "-c1", "-W5", "10.244.7.3")
	d := newContainer(t, "d")
	h.add(d, h.conf("1.0.0", nil))
	if out := h.Run("ip", "-br", "addr", "show", "cni0"); !strings.Contains(out, "10.244.1.1/24") || !strings.Contains(out, "10.244.7.1/24") {
		t.Errorf("addresses of the bridge: %s", out)
	}
	h.must("DEL", a, h.conf("1.0.0", nil))
	h.must("DEL", d, h.conf("1.0.0", nil))
	h.add(d, h.conf("1.0.0", nil))
	if out := h.Run("ip", "-br", "addr", "show", "cni0"); strings.Contains(out, "10.244.1.1") || !strings.Contains(out, "10.244.7.1/24") {
		t.Errorf("addresses of the bridge: %s", out)
	}
	if out := h.Run("ip", "link", "show", "cni0"); !strings.Contains(out, "mtu 1400") {
		t.Errorf("MTU of the bridge: %s", out)
	}
	b.Run("ping", "-c1", "-W5", "10.244.7.1")
	c := newContainer(t, "c")
	h.write(h.run.SubnetEnv(), strings.ReplaceAll(envDual, "10.244.1.1/24", "10.244.8.1/24"))
	forced := h.conf("1.0.0", nil)
	forced["delegate"].(map[string]any)["forceAddress"] = true
	h.add(c, forced)
}

// TestBridgeFound: a bridge that was there keeps its MAC, which is pinned; another device is refused.
func TestBridgeFound(t *testing.T) {
	h := newHost(t, envV4)
	a, b := newContainer(t, "a"), newContainer(t, "b")
	h.Run("ip", "link", "add", "cni0", "address", "02:00:00:00:00:09", "type", "bridge")
	r := h.add(a, h.conf("1.0.0", nil))
	if r.Interfaces[0].Mac != "02:00:00:00:00:09" || r.Interfaces[2].Mac != "0a:58:0a:f4:01:02" {
		t.Errorf("MACs: %+v %+v", r.Interfaces[0], r.Interfaces[2])
	}
	h.Run("ip", "link", "add", "cni9", "type", "veth", "peer", "name", "other")
	conf := h.conf("1.0.0", nil)
	conf["delegate"].(map[string]any)["bridge"] = "cni9"
	h.fails(7, `device "cni9" is a veth, no bridge`, "ADD", b, conf)
}

// TestRuntimeAsks: addresses and MACs that the runtime asks for.
func TestRuntimeAsks(t *testing.T) {
	h := newHost(t, envV4)
	conf := h.conf("1.0.0", map[string]any{"runtimeConfig": map[string]any{"ips": []string{"10.244.1.77/24"}, "mac": "02:11:22:33:44:55"}})
	a := newContainer(t, "a")
	if r := h.add(a, conf); addrOf(r, 0) != "10.244.1.77" || r.Interfaces[2].Mac != "02:11:22:33:44:55" {
		t.Errorf("%s %s", addrOf(r, 0), r.Interfaces[2].Mac)
	}
	b := newContainer(t, "b")
	h.fails(999, "10.244.1.77 is in use", "ADD", b, conf)
	h.fails(999, `"10.244.1.256" is none`, "ADD", b, h.conf("1.0.0", nil), "CNI_ARGS=IP=10.244.1.256")
	h.fails(999, "10.9.9.9 is outside", "ADD", b, h.conf("1.0.0", nil), "CNI_ARGS=IP=10.9.9.9")
	h.fails(999, "10.244.1.1 is the gateway's", "ADD", b, h.conf("1.0.0", nil), "CNI_ARGS=IP=10.244.1.1")
}

// TestFull: the error names the subnet; what dead pods of an earlier boot have is given again.
func TestFull(t *testing.T) {
	h := newHost(t, strings.ReplaceAll(envV4, "10.244.1.1/24", "10.244.1.1/29"))
	var pods []container
	for i := range 5 {
		pods = append(pods, newContainer(t, fmt.Sprint("c", i)))
		h.add(pods[i], h.conf("1.0.0", nil))
	}
	late := newContainer(t, "late")
	h.fails(11, "no free address in 10.244.1.0/29: all 5 are in use", "ADD", late, h.conf("1.0.0", nil))
	index := filepath.Join(h.ipam, ".towpath", "cbr0", "c2:eth0")
	data, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	r.BootID = "an earlier one"
	data, _ = json.Marshal(r)
	h.write(index, string(data))
	if got := addrOf(h.add(late, h.conf("1.0.0", nil)), 0); got != r.IPs[0].String() {
		t.Errorf("address %s, want that of the earlier boot %s", got, r.IPs[0])
	}
	// A pod of this boot whose namespace and host end are gone is no pod.
	h.Run("ip", "netns", "del", pods[4].Name)
	for end := time.Now().Add(30 * time.Second); ; { // the kernel takes its time
		if _, err := h.Try("ip", "link", "show", vethOf(pods[4].id)); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the host end outlives its namespace")
		}
	}
	last := newContainer(t, "last")
	h.add(last, h.conf("1.0.0", nil))
}

// TestStatus: the node takes pods only with a lease and a subnet file that can be read.
func TestStatus(t *testing.T) {
	h := newHost(t, envV4)
	conf := h.conf("1.1.0", nil)
	h.must("STATUS", container{}, conf)
	os.Remove(h.run.Lease())
	h.fails(50, "lease.json is missing", "STATUS", container{}, conf)
	h.write(h.run.Lease(), "{}")
	h.write(h.run.SubnetEnv(), "FLANNEL_SUBNET\n")
	h.fails(50, `line 1: "FLANNEL_SUBNET" is not KEY=VALUE`, "STATUS", container{}, conf)
	os.Remove(h.run.SubnetEnv())
	h.fails(50, "subnet-lease and cni-bridge conf have not run on this node\nsee towpath status", "STATUS", container{}, conf)
	h.fails(11, "see towpath status", "ADD", newContainer(t, "a"), conf)
	h.fails(1, "does not allow STATUS", "STATUS", container{}, h.conf("1.0.0", nil))
}

// TestAsFlannel: installed under the name of flannel's plugin, with flannel's configuration, on a node that has nothing of towpath's.
func TestAsFlannel(t *testing.T) {
	h := newHost(t, envV4)
	conf := h.conf("0.3.1", map[string]any{"type": "flannel"})
	delete(conf, "subnetFile")
	if err := os.RemoveAll(string(h.run)); err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(h.path, "flannel")
	data, err := os.ReadFile(h.bin)
	if err != nil {
		t.Fatal(err)
	}
	h.write(plugin, string(data))
	h.bin = plugin
	a := newContainer(t, "a")
	h.fails(11, flannelSubnetEnv+" is missing", "ADD", a, conf)
	h.write(flannelSubnetEnv, envV4) // of the test's own /run
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(flannelSubnetEnv)) })
	if r := h.add(a, conf); addrOf(r, 0) != "10.244.1.2" {
		t.Errorf("result: %+v", r)
	}
	if !exists(h.run.Endpoint("a", "eth0")) {
		t.Error("no endpoint")
	}
	h.must("DEL", a, conf)
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
