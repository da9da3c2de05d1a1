//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// events are the Events about a node: REASON: MESSAGE.
func (c *cluster) events(node string) (all []string) {
	var list struct {
		Items []struct {
			InvolvedObject          struct{ Name string }
			Reason, Message, Type   string
			Count                   int
			Source                  struct{ Component string }
			Metadata                struct{ Name string }
			LastTimestamp, Ignored_ any
		}
	}
	if err := json.Unmarshal(c.Do("GET", "/api/v1/namespaces/default/events", ""), &list); err != nil {
		c.t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.InvolvedObject.Name == node && e.Source.Component == "subnet-lease" {
			all = append(all, e.Reason+": "+e.Message)
		}
	}
	return all
}

// flannel is what flannel's annotations of a node say.
func flannel(kind, publicIP, data string, more ...string) map[string]string {
	const p = "flannel.alpha.coreos.com/"
	m := map[string]string{p + "kube-subnet-manager": "true", p + "backend-type": kind, p + "backend-data": data, p + "public-ip": publicIP}
	for i := 0; i+1 < len(more); i += 2 {
		m[p+more[i]] = more[i+1]
	}
	return m
}

// annotate sets one annotation of a Node, or with an empty value removes it.
func (c *cluster) annotate(name, key, value string) {
	c.t.Helper()
	v := "null"
	if value != "" {
		b, _ := json.Marshal(value)
		v = string(b)
	}
	c.patch(name, fmt.Sprintf(`{"metadata":{"annotations":{"flannel.alpha.coreos.com/%s":%s}}}`, key, v))
}

func (c *cluster) delete(name string) { c.Do("DELETE", "/api/v1/nodes/"+name, "") }

// TestKubeFollows: what changes in the cluster is followed, and what is no news costs nothing.
func TestKubeFollows(t *testing.T) {
	c := newCluster(t)
	c.object("a", spec("10.244.0.0/24", "fd00:10:244::/64"), nil)
	c.object("bare", spec("10.244.90.0/24"), nil)
	a := c.member("a", 1)
	write(t, a.netConf, dual)
	l := state.Link{Version: 1, Uplink: a.uplink, MTU: 1430, Publish: state.Published{
		Type: "vxlan", Data: json.RawMessage(fmt.Sprintf(vtep, 1)), DataV6: json.RawMessage(fmt.Sprintf(vtep, 2)),
	}}
	l.Device.IPv4, l.Device.IPv6 = state.Device{Name: "flannel.1", MTU: 1450}, state.Device{Name: "flannel-v6.1", MTU: 1430}
	if _, err := state.Save(a.run.Link(), l); err != nil {
		t.Fatal(err)
	}
	log, _ := a.watch("--set-node-network-unavailable=false")
	eventually(t, "a has published both families", func() bool {
		got := c.annotations("a")
		return got["flannel.alpha.coreos.com/public-ipv6"] == "fd00:7::1" && got["flannel.alpha.coreos.com/backend-v6-data"] == fmt.Sprintf(vtep, 2) &&
			got["flannel.alpha.coreos.com/public-ip"] == "192.168.7.1"
	})
	changes := func() int { return strings.Count(log.String(), "msg=changed") }
	logged(t, log, "publish ", "lease.json", "vxlan.json", ".synced")
	stands := changes()

	// A join is one write. Nodes of flannel and of other back ends are read alike.
	c.object("b", spec("10.244.1.0/24", "fd00:10:244:1::/64"), flannel("vxlan", "192.168.7.2", fmt.Sprintf(vtep, 12),
		"public-ipv6", "fd00:7::2", "backend-v6-data", fmt.Sprintf(vtep, 22)))
	eventually(t, "b is a peer", func() bool { return exists(a.run.Peer("b")) })
	logged(t, log, "peers/b.json")
	if n := changes() - stands; n != 1 {
		t.Errorf("a join took %d changes", n)
	}
	c.object("hostgw", spec("10.244.2.0/24"), flannel("host-gw", "192.168.7.3", "null"))
	c.object("udp", spec("10.244.3.0/24"), flannel("", "192.168.7.4", "null"))
	eventually(t, "nodes of other back ends are peers", func() bool {
		h, u := a.peer("hostgw"), a.peer("udp")
		return h.Backend.Type == "host-gw" && h.Backend.Data == nil && u.Backend.Type == "udp" && u.Subnet.IPv4.String() == "10.244.3.0/24"
	})

	// One family alone changes.
	c.annotate("b", "public-ipv6", "fd00:7::22")
	eventually(t, "b's IPv6 address", func() bool { return a.peer("b").PublicIP.IPv6.String() == "fd00:7::22" })
	c.annotate("b", "backend-data", fmt.Sprintf(vtep, 13))
	eventually(t, "b's MAC address", func() bool { return strings.Contains(string(a.peer("b").Backend.Data), "62:00:00:00:00:13") })
	// What cannot be read leaves the peer as it was known.
	c.annotate("b", "backend-data", `{"VNI":`)
	eventually(t, "a complains", func() bool { return strings.Contains(log.String(), "is no JSON") })
	if !exists(a.run.Peer("b")) {
		t.Error("an unreadable annotation takes the peer away")
	}

	// Removed, and back with another subnet.
	c.delete("b")
	eventually(t, "b is gone", func() bool { return !exists(a.run.Peer("b")) })
	c.object("b", spec("10.244.9.0/24", "fd00:10:244:9::/64"), flannel("vxlan", "192.168.7.2", fmt.Sprintf(vtep, 12)))
	eventually(t, "b is back", func() bool { return a.peer("b").Subnet.IPv4.String() == "10.244.9.0/24" })
	c.annotate("b", "kube-subnet-manager", "")
	eventually(t, "b gave its lease back", func() bool { return !exists(a.run.Peer("b")) })

	// Two that say the same of themselves.
	c.object("twin", spec("10.244.10.0/24"), flannel("vxlan", "192.168.7.1", fmt.Sprintf(vtep, 77)))
	c.object("clone", spec("10.244.11.0/24"), flannel("vxlan", "192.168.7.11", fmt.Sprintf(vtep, 1)))
	eventually(t, "events of both", func() bool {
		got := strings.Join(c.events("a"), "\n")
		return strings.Contains(got, "DuplicatePublicIP: node twin") && strings.Contains(got, "DuplicateTunnelEnd: node clone")
	})
	if exists(a.run.Peer("twin")) {
		t.Error("a node with our address is a peer")
	}

	// Our own node: its addresses, what people set, another podCIDR.
	run(t, "ip", "addr", "del", "192.168.7.1/24", "dev", a.uplink)
	run(t, "ip", "addr", "add", "192.168.7.101/24", "dev", a.uplink)
	eventually(t, "the new address is published", func() bool {
		return c.annotations("a")["flannel.alpha.coreos.com/public-ip"] == "192.168.7.101" && a.lease().PublicIP.IPv4.String() == "192.168.7.101"
	})
	c.annotate("a", "public-ip-overwrite", "203.0.113.7")
	eventually(t, "the address is overwritten", func() bool { return c.annotations("a")["flannel.alpha.coreos.com/public-ip"] == "203.0.113.7" })
	if l := a.lease(); l.PublicIP.IPv4.String() != "192.168.7.101" {
		t.Errorf("what is published only changed lease.json: %s", l.PublicIP.IPv4)
	}
	c.annotate("a", "public-ip-overwrite", "")
	eventually(t, "the overwriting is over", func() bool { return c.annotations("a")["flannel.alpha.coreos.com/public-ip"] == "192.168.7.101" })
	c.annotate("a", "public-ip", "192.0.2.1")
	eventually(t, "what others wrote over is put back", func() bool { return c.annotations("a")["flannel.alpha.coreos.com/public-ip"] == "192.168.7.101" })

	good := read(t, a.run.Lease())
	c.delete("a")
	eventually(t, "a notices", func() bool { return strings.Contains(log.String(), `node \"a\" is not in the cluster`) })
	c.object("d", spec("10.244.12.0/24"), flannel("vxlan", "192.168.7.12", fmt.Sprintf(vtep, 14)))
	eventually(t, "the others are followed meanwhile", func() bool { return exists(a.run.Peer("d")) })
	if read(t, a.run.Lease()) != good {
		t.Error("lease.json changed without a Node")
	}
	c.object("a", spec("10.99.0.0/24", "fd00:10:244:5::/64"), nil)
	eventually(t, "an event says that the podCIDR is outside", func() bool {
		return strings.Contains(strings.Join(c.events("a"), "\n"), "PodCIDROutsideNetwork: podCIDR 10.99.0.0/24")
	})
	if read(t, a.run.Lease()) != good || !exists(a.run.PeersSynced()) || len(c.annotations("a")) > 0 {
		t.Error("a podCIDR outside the network changed something")
	}
	c.delete("a")
	c.object("a", spec("10.244.5.0/24", "fd00:10:244:5::/64"), nil)
	eventually(t, "the new podCIDR is the lease", func() bool {
		return a.lease().Subnet.IPv4.String() == "10.244.5.0/24" && c.annotations("a")["flannel.alpha.coreos.com/public-ip"] == "192.168.7.101"
	})
	if strings.Contains(log.String(), "panic") {
		t.Error(log.String())
	}
}

// TestKubeWaits: a Node without podCIDR is waited for, and one event says so, however often it is asked.
func TestKubeWaits(t *testing.T) {
	c := newCluster(t)
	c.object("a", spec(), nil)
	a := c.member("a", 1)
	for range 3 {
		if code, _, errs := a.exec("apply"); code != 75 || !strings.Contains(errs, `node "a" has no podCIDR yet`) || !strings.Contains(errs, "--allocate-node-cidrs") {
			t.Errorf("apply: %d, %s", code, errs)
		}
	}
	log := &nstest.Log{}
	cmd := a.command("watch")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	eventually(t, "watch waits", func() bool { return strings.Count(log.String(), "has no podCIDR yet") > 4 })
	if got := c.events("a"); len(got) != 1 || !strings.HasPrefix(got[0], "PodCIDRMissing: ") {
		t.Errorf("events %q", got)
	}
	c.patch("a", `{"spec":{"podCIDR":"10.244.3.0/24","podCIDRs":["10.244.3.0/24"]}}`)
	eventually(t, "the lease stands", func() bool { return a.lease().Subnet.IPv4.String() == "10.244.3.0/24" })

	c.annotate("a", "node-public-ip", "192.0.2.9")
	if code, _, errs := a.exec("plan"); code != 0 {
		t.Errorf("--iface is given, so the address need not be local: %d, %s", code, errs)
	}
	a.env = append(a.env, "TOWPATH_IFACE=")
	if code, _, errs := a.exec("plan"); code != 75 || !strings.Contains(errs, "correct the annotation node-public-ip") {
		t.Errorf("an address that no interface has: %d, %s", code, errs)
	}
	c.annotate("a", "node-public-ip", "192.168.7.1")
	if got := a.must("explain"); !strings.Contains(got, a.uplink+", MTU 1500, address 192.168.7.1, publishes 192.168.7.1, because of the annotation node-public-ip") ||
		!strings.Contains(got, "node a: subnet 10.244.3.0/24, inside the network 10.244.0.0/16") {
		t.Errorf("explain:\n%s", got)
	}
}

// TestKubeCondition: NetworkUnavailable follows routes.json.
func TestKubeCondition(t *testing.T) {
	c := newCluster(t)
	c.object("a", spec("10.244.0.0/24"), nil)
	a := c.member("a", 1)
	routes := func(r state.Routes) {
		t.Helper()
		r.Version = 1
		if _, err := state.Save(a.run.Routes(), r); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "ip", "link", "add", "flannel.1", "type", "veth", "peer", "name", "flannel.far")
	t.Cleanup(func() { try("ip", "link", "del", "flannel.1") })
	run(t, "ip", "link", "set", "flannel.1", "up")
	a.watch()
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	eventually(t, "a has published", func() bool { return len(c.annotations("a")) > 0 })
	if got := c.condition("a"); got != "" {
		t.Errorf("the condition before there are routes: %s", got)
	}
	routes(state.Routes{Peers: 2})
	const up = "False FlannelIsUp: Flannel is running on this node"
	eventually(t, "the network is available", func() bool { return c.condition("a") == up })
	eventually(t, "both changes are in the log", func() bool { return c.requests("patch", "nodes") >= 2 }) // a moment after they are made
	requests := c.requests("patch", "nodes")
	routes(state.Routes{Peers: 3, LeftOut: map[string]string{"x": "no"}})
	routes(state.Routes{Peers: 4})
	os.Remove(a.run.Routes())
	eventually(t, "routes that are gone are told of", func() bool { return strings.HasPrefix(c.condition("a"), "True TowpathRoutesMissing: ") })
	eventually(t, "that is in the log", func() bool { return c.requests("patch", "nodes") > requests })
	if n := c.requests("patch", "nodes") - requests; n != 1 {
		t.Errorf("%d patches for one change", n)
	}
	routes(state.Routes{Peers: 4})
	eventually(t, "available again", func() bool { return c.condition("a") == up })
}

// requests counts the answered requests of a verb in the audit log.
func (c *cluster) requests(verb, resource string) int {
	n := 0
	for _, r := range c.audit() {
		if r.Verb == verb && r.ObjectRef.Resource == resource && strings.HasPrefix(r.UserAgent, "subnet-lease/") {
			n++
		}
	}
	return n
}

type auditLine struct {
	Verb, UserAgent          string
	ObjectRef                struct{ Resource, Subresource, Name string }
	RequestReceivedTimestamp string
	User                     struct{ Username string }
	ResponseStatus           struct{ Code int }
}

func (c *cluster) audit() (all []auditLine) {
	data, err := os.ReadFile(c.Audit)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var r auditLine
		if json.Unmarshal([]byte(line), &r) == nil {
			all = append(all, r)
		}
	}
	return all
}

// TestKubeConfigMap: both files of flannel's ConfigMap come from the API, by its name.
func TestKubeConfigMap(t *testing.T) {
	c := newCluster(t)
	c.object("a", spec("10.244.0.0/24"), nil)
	a := c.member("a", 1)
	cm := func(method, network, cni string) {
		t.Helper()
		netConf := fmt.Sprintf("{\n  \"Network\": %q,\n  \"Backend\": {\"Type\": \"vxlan\"}\n}\n", network)
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"name": "kube-flannel-cfg"}, "data": map[string]string{"net-conf.json": netConf, "cni-conf.json": cni}})
		if err != nil {
			t.Fatal(err)
		}
		path := "/api/v1/namespaces/kube-flannel/configmaps"
		if method == "PUT" {
			path += "/kube-flannel-cfg"
		}
		c.Do(method, path, string(body))
	}
	c.Do("POST", "/api/v1/namespaces", `{"metadata":{"name":"kube-flannel"}}`)
	a.netConf = "configmap:kube-flannel/kube-flannel-cfg"
	if code, _, errs := a.exec("apply"); code != 75 || !strings.Contains(errs, "the ConfigMap kube-flannel/kube-flannel-cfg does not exist") {
		t.Errorf("apply without the ConfigMap: %d, %s", code, errs)
	}
	cm("POST", "10.244.0.0/16", "{\"name\": \"cbr0\"}\n")
	a.must("apply")
	if got := read(t, a.run.CNIConf()); got != "{\"name\": \"cbr0\"}\n" {
		t.Errorf("cni-conf.json: %q", got)
	}
	if got := a.must("apply"); got != "" {
		t.Errorf("the second apply printed %s", got)
	}
	log, _ := a.watch()
	cm("PUT", "10.0.0.0/8", "{\"name\": \"cbr1\"}\n")
	eventually(t, "the changed configuration is used", func() bool {
		return a.lease().Network.IPv4.String() == "10.0.0.0/8" && strings.Contains(read(t, a.run.CNIConf()), "cbr1")
	})
	cm("PUT", "ten", "")
	eventually(t, "a wrong one is told of", func() bool { return strings.Contains(log.String(), "going on with the last one") })
	c.Do("DELETE", "/api/v1/namespaces/kube-flannel/configmaps/kube-flannel-cfg", "")
	eventually(t, "a missing one is told of", func() bool { return strings.Contains(log.String(), "does not exist") })
	if a.lease().Network.IPv4.String() != "10.0.0.0/8" {
		t.Error("the last good configuration is gone")
	}
	cm("POST", "10.244.0.0/16", "{\"name\": \"cbr2\"}\n")
	eventually(t, "it is back", func() bool { return a.lease().Network.IPv4.String() == "10.244.0.0/16" })
	a.env = append(a.env, "TOWPATH_KUBECONFIG=/nowhere")
	gone := *a
	gone.run = a.run + "2"
	if err := os.CopyFS(string(gone.run), os.DirFS(string(a.run))); err != nil {
		t.Fatal(err)
	}
	gone.must("down") // asks nobody
	if left, _ := filepath.Glob(string(gone.run) + "/*.json"); len(left) > 0 || exists(gone.run.Peers()) {
		t.Errorf("down left %q", left)
	}
	for _, r := range c.audit() {
		if r.ObjectRef.Resource == "configmaps" && strings.HasPrefix(r.UserAgent, "subnet-lease/") && r.ObjectRef.Name != "kube-flannel-cfg" {
			t.Errorf("a request that RBAC by name would refuse: %+v", r)
		}
	}
}

// TestMountedConfigMap: a ConfigMap volume is swapped as the kubelet does, and noticed at once, not after the 30 s in which
// everything is looked at.
func TestMountedConfigMap(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	n := newNode(t, "mounted", "1", store)
	dir := filepath.Join(t.TempDir(), "kube-flannel")
	for version, network := range map[string]string{"..1": "10.244.0.0/16", "..2": "10.0.0.0/8"} {
		write(t, filepath.Join(dir, version, "net-conf.json"), fmt.Sprintf(`{"Network":%q,"Backend":{"Type":"vxlan"}}`, network))
	}
	os.Symlink("..1", filepath.Join(dir, "..data"))
	n.netConf = filepath.Join(dir, "net-conf.json")
	os.Symlink("..data/net-conf.json", n.netConf)
	n.watch()
	os.Symlink("..2", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new configuration", func() bool { return n.lease().Network.IPv4.String() == "10.0.0.0/8" })
}
