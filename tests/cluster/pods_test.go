//go:build cluster

package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// pod is one that runs agnhost's netexec on TCP port 8080 and UDP port 8081.
type pod struct{ ns, name, node, ip string }

// namespace makes one that is gone after the test.
func namespace(t *testing.T, ns string) string {
	t.Helper()
	kubectl(t, "create", "namespace", ns)
	t.Cleanup(func() { kubectl(t, "delete", "namespace", ns, "--timeout", "3m") })
	poll(t, "service account of "+ns, func() error {
		_, err := try("api", "kubectl", "-n", ns, "get", "serviceaccount", "default")
		return err
	})
	return ns
}

// start makes pods, each given as NAME@NODE, and waits until they are ready. ports is YAML for the container, or "".
func start(t *testing.T, ns, ports string, names ...string) []pod {
	t.Helper()
	var yaml strings.Builder
	for _, n := range names {
		pod, node, _ := strings.Cut(n, "@")
		fmt.Fprintf(&yaml, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: web, pod: %s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
    - name: web
      image: localhost/agnhost:cluster
      args: [netexec, --http-port=8080, --udp-port=8081]
      readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
      ports: [%s]
`, pod, ns, pod, node, ports)
	}
	apply(t, yaml.String())
	pods := make([]pod, 0, len(names))
	for _, n := range names {
		p := pod{ns: ns}
		p.name, p.node, _ = strings.Cut(n, "@")
		p.wait(t)
		pods = append(pods, p)
	}
	return pods
}

// wait waits until the pod is ready and learns its address.
func (p *pod) wait(t *testing.T) {
	t.Helper()
	poll(t, "pod "+p.name, func() error {
		_, err := try("api", "kubectl", "-n", p.ns, "wait", "--for", "condition=Ready", "pod/"+p.name, "--timeout", "5s")
		return err
	})
	p.ip = kubectl(t, "-n", p.ns, "get", "pod", p.name, "-o", "jsonpath={.status.podIP}")
}

// exec runs a command in the pod.
func (p *pod) exec(args ...string) (string, error) {
	return try("api", append([]string{"kubectl", "-n", p.ns, "exec", p.name, "--"}, args...)...)
}

// get is what an address answers to the pod.
func (p *pod) get(url string) (string, error) { return p.exec("curl", "-sS", "--max-time", "5", url) }

// reaches waits until an address answers what is wanted.
func (p *pod) reaches(t *testing.T, url, want string) {
	t.Helper()
	poll(t, p.name+" to "+url, func() error {
		got, err := p.get(url)
		if err == nil && !strings.Contains(got, want) {
			err = fmt.Errorf("answer %q, want %q", got, want)
		}
		return err
	})
}

// pid is that of the pod's first process, as its node sees it.
func (p *pod) pid(t *testing.T) string {
	t.Helper()
	id, err := p.tryPID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *pod) tryPID() (string, error) {
	return try(p.node, "bash", "-euo", "pipefail", "-c", sandboxPID, "pid", p.ns, p.name)
}

// sandboxPID prints the process of a pod's sandbox: $1 namespace, $2 name.
const sandboxPID = `
for id in $(ctr -n k8s.io containers ls -q "labels.\"io.cri-containerd.kind\"==sandbox,labels.\"io.kubernetes.pod.namespace\"==$1,labels.\"io.kubernetes.pod.name\"==$2"); do
	ctr -n k8s.io tasks ls | awk -v id="$id" '$1 == id && $3 == "RUNNING" {printf "%s", $2}'
done`
