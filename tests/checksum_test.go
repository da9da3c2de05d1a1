//go:build netns

package tests

import (
	"regexp"
	"strings"
	"testing"
)

// TestChecksumProbe asks about the checksum offload on nodes as the programs leave them, under policies that deny every
// pod everything: the question is a node's and concerns no pod, so none of its packets is denied.
func TestChecksumProbe(t *testing.T) {
	b := backendOf(t, "vxlan")
	a, z := pair(t, b, dual)
	policies := t.TempDir() + "/objects.yaml"
	write(t, policies, `{apiVersion: v1, kind: Namespace, metadata: {name: dev}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: none, namespace: dev}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}
`)
	for _, n := range []*node{a, z, a, z} { // a learns of z in its second turn
		for _, s := range b.steps() {
			n.must(s, "apply")
		}
	}
	for _, n := range []*node{a, z} {
		n.Run(program(t, "policy-render"), "apply", "--run-dir", string(n.run), "--node", n.name, "--objects", policies)
		n.must("policy-load", "apply")
	}
	for _, n := range []*node{a, z} {
		out := n.must("vxlan-setup", "probe")
		if fine := regexp.MustCompile(`(?m)^flannel(-v6)?\.1 +[az] +3/3 +3/3 +fine$`).FindAllString(out, -1); len(fine) != 2 {
			t.Errorf("%s:\n%s", n.name, out)
		}
	}
	for _, n := range []*node{a, z} {
		for line := range strings.Lines(n.Run("nft", "list", "table", "inet", "towpath-policy")) {
			if strings.Contains(line, "counter packets") && !strings.Contains(line, "counter packets 0 ") {
				t.Errorf("%s denied something: %s", n.name, line)
			}
		}
	}
}
