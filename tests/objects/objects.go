// Package objects makes clusters as large ones are: a hundred namespaces, apps in tiers, a default-deny policy in each
// namespace and policies that open it again. Tests and benchmarks write them as manifests.
package objects

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Cluster is a cluster's size. Pod i is in namespace i modulo Namespaces.
type Cluster struct {
	Pods, Policies int
	Local          int // pods of node1, 10.244.1.2 and on; at most 250
	Namespaces     int // 100 by default
}

// Pod is one pod of a Cluster.
type Pod struct {
	Namespace, Name string
	App, Tier, Node string
	Address         netip.Addr
}

func (c Cluster) namespaces() int {
	if c.Namespaces > 0 {
		return c.Namespaces
	}
	return 100
}

// Pod is pod i: the first Local ones are on node1.
func (c Cluster) Pod(i int) Pod {
	p := Pod{Namespace: fmt.Sprintf("ns-%d", i%c.namespaces()), Name: fmt.Sprintf("pod-%d", i)}
	inside := i / c.namespaces()
	p.App, p.Tier = fmt.Sprintf("app-%d", inside%10), []string{"front", "back"}[inside/10%2]
	if i < c.Local {
		p.Node, p.Address = "node1", netip.AddrFrom4([4]byte{10, 244, 1, byte(2 + i)})
		return p
	}
	n := i - c.Local
	p.Node = fmt.Sprintf("node%d", 2+n/110)
	p.Address = netip.AddrFrom4([4]byte{10, byte(64 + n/110/250), byte(n / 110 % 250), byte(2 + n%110)})
	return p
}

// Manifest is the pod's object, as far as policies go with the ballast that real ones have.
func (p Pod) Manifest() string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: %s
  uid: %s
  labels: {app: %s, tier: %s, pod-template-hash: 6d4cf56db6}
  annotations: {kubernetes.io/config.source: api}
spec:
  nodeName: %s
  containers:
  - name: main
    image: registry.example/app:v1
    ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]
  serviceAccountName: default
status:
  phase: Running
  podIPs: [{ip: %s}]
`, p.Name, p.Namespace, p.Name, p.App, p.Tier, p.Node, p.Address)
}

// Policy is policy i: the first of each namespace denies all, the others open an app each.
func (c Cluster) Policy(i int) string {
	namespace, n := i%c.namespaces(), i/c.namespaces()
	head := fmt.Sprintf("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: ns-%d, name: policy-%d}\nspec:\n", namespace, n)
	if n == 0 {
		return head + "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n"
	}
	return head + fmt.Sprintf(`  podSelector: {matchLabels: {app: app-%d}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: app-%d}}}, {namespaceSelector: {matchLabels: {team: team-%d}}, podSelector: {matchLabels: {tier: front}}}]
    ports: [{port: http}, {port: %d}]
  - from: [{ipBlock: {cidr: 192.168.%d.0/24, except: [192.168.%d.128/26]}}]
    ports: [{port: 443}, {port: 8000, endPort: 8010}]
  egress:
  - to: [{podSelector: {matchLabels: {tier: back}}}]
    ports: [{port: http}]
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ns-0}}}]
    ports: [{port: 53, protocol: UDP}, {port: 53}]
`, n%10, (n+1)%10, namespace%10, 1000+n, n%256, n%256)
}

// Write writes the manifests into a directory, a file for each namespace's pods and one for its policies.
func (c Cluster) Write(dir string) error {
	files := map[string]*strings.Builder{}
	add := func(name, text string) {
		if files[name] == nil {
			files[name] = &strings.Builder{}
		}
		files[name].WriteString(text)
	}
	for i := range c.namespaces() {
		add("namespaces", fmt.Sprintf("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ns-%d, labels: {team: team-%d}}\n", i, i%10))
	}
	for i := range c.Pods {
		p := c.Pod(i)
		add("pods-"+p.Namespace, p.Manifest())
	}
	for i := range c.Policies {
		add(fmt.Sprintf("policies-ns-%d", i%c.namespaces()), c.Policy(i))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
