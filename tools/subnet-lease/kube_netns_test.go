//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/state"
)

// cluster is an API server whose nodes are run directories in the test's own namespace, behind uplinks u1, u2 and so on.
type cluster struct {
	*apitest.Server
	t testing.TB
}

func newCluster(t testing.TB) *cluster { return &cluster{apitest.Start(t), t} }

// object makes a Node of the API.
func (c *cluster) object(name, spec string, annotations map[string]string) {
	c.t.Helper()
	text, err := json.Marshal(annotations)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Do("POST", "/api/v1/nodes", fmt.Sprintf(`{"metadata":{"name":%q,"annotations":%s},"spec":%s}`, name, text, spec))
}

func spec(podCIDRs ...string) string {
	if len(podCIDRs) == 0 {
		return "{}"
	}
	return fmt.Sprintf(`{"podCIDR":%q,"podCIDRs":["%s"]}`, podCIDRs[0], strings.Join(podCIDRs, `","`))
}

// annotations are a Node's, without those of others.
func (c *cluster) annotations(name string) map[string]string {
	var o struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(c.Do("GET", "/api/v1/nodes/"+name, ""), &o); err != nil {
		c.t.Fatal(err)
	}
	return o.Metadata.Annotations
}

// condition is a Node's NetworkUnavailable: status, reason, message.
func (c *cluster) condition(name string) string {
	var o struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	if err := json.Unmarshal(c.Do("GET", "/api/v1/nodes/"+name, ""), &o); err != nil {
		c.t.Fatal(err)
	}
	for _, x := range o.Status.Conditions {
		if x.Type == "NetworkUnavailable" {
			return x.Status + " " + x.Reason + ": " + x.Message
		}
	}
	return ""
}

// patch changes a Node by a merge patch.
func (c *cluster) patch(name, body string) {
	c.t.Helper()
	if code, answer := c.As(apitest.Admin, "PATCH", "/api/v1/nodes/"+name, "application/merge-patch+json", body); code > 299 {
		c.t.Fatalf("patch %s: %d: %s", name, code, answer)
	}
}

// member is a node of a cluster, which sees the API server.
func (c *cluster) member(name string, host int) *node {
	c.t.Helper()
	n := newMember(c.t, name, host, state.Kube)
	n.env = append([]string{"TOWPATH_KUBECONFIG=" + c.Kubeconfig(apitest.Admin)}, n.env...)
	return n
}

const vtep = `{"VNI":1,"VtepMAC":"62:00:00:00:00:%02d"}`

// TestKubeOnce: the way of a node with the API, by apply.
func TestKubeOnce(t *testing.T) {
	c := newCluster(t)
	c.object("a", spec("10.244.0.0/24"), nil)
	c.object("b", spec("10.244.1.0/24"), map[string]string{"example.org/other": "x"})
	c.object("empty", spec(), nil)
	a, b := c.member("a", 1), c.member("b", 2)

	if got, want := a.must("apply"), fmt.Sprintf("write %[1]s/lease.json\nwrite %[1]s/vxlan.json\nwrite %[1]s/peers/.synced\n", a.run); got != want {
		t.Errorf("apply printed\n%s, want\n%s", got, want)
	}
	if got := c.annotations("a"); len(got) > 0 {
		t.Errorf("published before the link stands: %v", got)
	}
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	if got := a.must("plan"); got != `publish 192.168.7.1 vxlan {"VNI":1,"VtepMAC":"62:00:00:00:00:01"} of a`+"\nwrite "+a.run.Backend("vxlan")+"\n" {
		t.Errorf("plan printed\n%s", got)
	}
	a.must("apply")
	want := map[string]string{
		"flannel.alpha.coreos.com/kube-subnet-manager": "true", "flannel.alpha.coreos.com/backend-type": "vxlan",
		"flannel.alpha.coreos.com/backend-data": `{"VNI":1,"VtepMAC":"62:00:00:00:00:01"}`, "flannel.alpha.coreos.com/public-ip": "192.168.7.1",
	}
	if diff := cmp.Diff(want, c.annotations("a")); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if got := a.must("apply"); got != "" {
		t.Errorf("the second apply printed\n%s", got)
	}
	b.must("apply")
	if p := b.peer("a"); p.Subnet.IPv4.String() != "10.244.0.0/24" || p.PublicIP.IPv4.String() != "192.168.7.1" || !strings.Contains(string(p.Backend.Data), "62:00:00:00:00:01") {
		t.Errorf("b knows of a: %+v", p)
	}
	if exists(b.run.Peer("empty")) {
		t.Error("a node without podCIDR is a peer")
	}
	if l := a.must("list"); !strings.Contains(l, "10.244.1.0/24") || !strings.Contains(l, "192.168.7.1") {
		t.Errorf("list:\n%s", l)
	}
	if code, _, errs := b.exec("reserve", "--subnet", "10.244.9.0/24"); code != 78 || !strings.Contains(errs, "controller manager") {
		t.Errorf("reserve: %d, %s", code, errs)
	}
	if got := a.must("release"); got != "release 10.244.0.0/24 of a\n" {
		t.Errorf("release printed %q", got)
	}
	if got := c.annotations("a"); len(got) > 0 {
		t.Errorf("after release: %v", got)
	}
	b.must("apply")
	if exists(b.run.Peer("a")) {
		t.Error("a gave its lease back and is a peer")
	}
	os.Remove(string(a.run.Link()))
	a.must("down")
}
