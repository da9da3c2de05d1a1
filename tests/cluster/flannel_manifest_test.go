//go:build cluster && peer

package cluster

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// imageLine is a line of a manifest that names an image.
var imageLine = regexp.MustCompile(`(?m)^( *image: *)\S+$`)

// TestFlannelManifest puts towpath on a cluster by flannel's own manifest, of which nothing but the names of the images is changed. It
// needs a cluster of its own without a network (MODE=none); PEER_FLANNEL_DIR names a directory with flannel's kube-flannel.yml, which
// is no part of this repository.
func TestFlannelManifest(t *testing.T) {
	peer := os.Getenv("PEER_FLANNEL_DIR")
	if peer == "" || os.Getenv("MODE") != "none" {
		t.Fatal("it needs MODE=none and PEER_FLANNEL_DIR=DIR with kube-flannel.yml")
	}
	manifest, err := os.ReadFile(filepath.Join(peer, "kube-flannel.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes(t) {
		in(t, node, "ctr", "-n", "k8s.io", "images", "import", cmp.Or(os.Getenv("IMAGE_FILE"), "../../bin/towpath-image.tar"))
		in(t, node, "rm", "-f", "/opt/cni/bin/bridge", "/opt/cni/bin/host-local") // of the package kubernetes-cni, and not needed
	}
	apply(t, imageLine.ReplaceAllString(string(manifest), "${1}localhost/towpath:devel"))
	began := time.Now()
	ready(t)
	kubectl(t, "-n", "kube-flannel", "rollout", "status", "daemonset/kube-flannel-ds", "--timeout", "3m")
	t.Logf("nodes and pods of the network are ready after %.0f s", time.Since(began).Seconds())
	for _, node := range nodes(t) {
		got := kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="NetworkUnavailable")].reason}`)
		if got != "FlannelIsUp" {
			t.Errorf("%s: the reason of NetworkUnavailable is %q", node, got)
		}
		if got := in(t, node, "ls", "-A", "/etc/cni/net.d"); strings.TrimSpace(got) != "10-flannel.conflist" {
			t.Errorf("%s: CNI configurations %q", node, got)
		}
		in(t, node, "grep", "-q", "^FLANNEL_IPMASQ=true", "/run/flannel/subnet.env")
	}

	ns := namespace(t, "manifest")
	p := start(t, ns, "{containerPort: 8080, hostPort: 8088}", "a@worker01", "c@worker02")
	p = append(p, start(t, ns, "", "b@worker01", "m@master")...)
	a, c, b, m := &p[0], &p[1], &p[2], &p[3]
	apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: %s}, spec: {selector: {pod: a}, ports: [{port: 80, targetPort: 8080}]}}`, ns))
	service := kubectl(t, "-n", ns, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	everywhere := func(t *testing.T) {
		t.Helper()
		for _, from := range []*pod{a, b, c, m} {
			for _, to := range []*pod{a, b, c, m} {
				from.reaches(t, "http://"+to.ip+":8080/hostname", to.name)
				if from != to { // the address is not translated on the way
					from.reaches(t, "http://"+to.ip+":8080/clientip", from.ip+":")
				}
			}
			from.reaches(t, "http://"+service+"/hostname", "a")
		}
	}
	everywhere(t)
	c.reaches(t, "http://192.168.100.12:8088/hostname", "a") // the node's portmap
	poll(t, "DNS", func() error {
		_, err := c.exec("curl", "-sSf", "--max-time", "5", "http://web."+ns+".svc.cluster.local/hostname")
		return err
	})
	background(t, nil, "outside", "agnhost", "netexec", "--http-port=8080", "--udp-port=8081")
	a.reaches(t, "http://192.168.100.200:8080/clientip", "192.168.100.12:") // beyond the cluster, a pod has its node's address
	c.reaches(t, "http://192.168.100.200:8080/clientip", "192.168.100.13:")
	// A Service whose server is outside: the node's address there too, whatever kube-proxy makes of it.
	apply(t, fmt.Sprintf(`
{apiVersion: v1, kind: Service, metadata: {name: beyond, namespace: %[1]s}, spec: {ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: beyond, namespace: %[1]s, labels: {kubernetes.io/service-name: beyond}},
 addressType: IPv4, ports: [{name: "", port: 8080, protocol: TCP}], endpoints: [{addresses: [192.168.100.200], conditions: {ready: true}}]}
`, ns))
	beyond := kubectl(t, "-n", ns, "get", "service", "beyond", "-o", "jsonpath={.spec.clusterIP}")
	a.reaches(t, "http://"+beyond+"/clientip", "192.168.100.12:")

	// An update of the DaemonSet, as of the image: nothing of the container's own files is left, and no packet is lost.
	since := time.Now()
	flows := []*flow{ping(t, a, a.node, c.ip), ping(t, c, c.node, m.ip), ping(t, a, a.node, "192.168.100.200")}
	kubectl(t, "-n", "kube-flannel", "rollout", "restart", "daemonset/kube-flannel-ds")
	kubectl(t, "-n", "kube-flannel", "rollout", "status", "daemonset/kube-flannel-ds", "--timeout", "5m")
	lostNone(t, "the DaemonSet is restarted", since, flows...)
	kubectl(t, "-n", ns, "delete", "pod", "b", "--timeout", "2m")
	unreserved(t, b.node, b.ip)
	*b = start(t, ns, "", "b@worker01")[0]
	everywhere(t)
	said := kubectl(t, "-n", "kube-flannel", "logs", "-l", "app=flannel", "--tail", "-1", "--prefix")
	if strings.Contains(said, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", said)
	}
	t.Logf("what flanneld says first:\n%s", kubectl(t, "-n", "kube-flannel", "logs", "daemonset/kube-flannel-ds", "--limit-bytes", "2000"))
}
