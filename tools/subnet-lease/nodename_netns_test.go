//go:build netns

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/kube/apitest"
)

// TestNodeName: without --node, with --store kube, the node is NODE_NAME, or the one of the pod that POD_NAME names.
func TestNodeName(t *testing.T) {
	c := &cluster{apitest.Start(t, "nobody"), t}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b", strings.ToLower(host)} {
		c.object(name, spec(fmt.Sprintf("10.244.%d.0/24", i)), nil)
	}
	c.Do("POST", "/api/v1/namespaces/default/serviceaccounts", `{"metadata":{"name":"default"}}`)
	pod := func(name, on string) {
		c.Do("POST", "/api/v1/namespaces/default/pods", fmt.Sprintf(`{"metadata":{"name":%q},"spec":{%s"containers":[{"name":"c","image":"x"}]}}`, name, on))
	}
	pod("network", `"nodeName":"a",`)
	pod("pending", "")

	n := c.member("", 1)
	base := n.env
	is := func(node string, env ...string) {
		t.Helper()
		n.env = append(base[:len(base):len(base)], env...)
		n.must("apply")
		if got := n.lease().Node; got != node {
			t.Errorf("%q: the node is %q, want %q", env, got, node)
		}
		n.must("down")
	}
	fails := func(want int, words string, env ...string) {
		t.Helper()
		n.env = append(base[:len(base):len(base)], env...)
		if code, _, errs := n.exec("apply"); code != want || !strings.Contains(errs, words) || !strings.Contains(errs, "TOWPATH_NODE") {
			t.Errorf("%q: %d %s, want %d %q", env, code, errs, want, words)
		}
	}
	network := []string{"POD_NAME=network", "POD_NAMESPACE=default"}
	is("a", network...)
	is("b", append(network, "NODE_NAME=b")...)
	is("b", append(network, "NODE_NAME=a", "TOWPATH_NODE=b")...)
	is(strings.ToLower(host), "POD_NAME=network") // half of it says nothing
	fails(75, "pods default/none", "POD_NAME=none", "POD_NAMESPACE=default")
	fails(75, "pod default/pending is on no node", "POD_NAME=pending", "POD_NAMESPACE=default")
	fails(77, "pods default/network", append(network, "TOWPATH_KUBECONFIG="+c.Kubeconfig("nobody"))...)

	n.env = append(base[:len(base):len(base)], network...)
	n.must("apply")
	lease := n.lease()
	c.Pause()
	if code, _, errs := n.exec("apply"); code != 69 || strings.Contains(errs, "pods") {
		t.Errorf("while the API server is away: %d %s, want that the nodes cannot be listed", code, errs)
	}
	if n.lease().Node != lease.Node {
		t.Errorf("the lease is of %s", n.lease().Node)
	}
	n.must("down") // asks nobody
	if code, _, errs := n.exec("apply"); code != 69 || !strings.Contains(errs, "pods default/network") {
		t.Errorf("with no lease either: %d %s", code, errs)
	}
}
