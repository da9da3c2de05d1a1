//go:build cluster

package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// Pods that come and go leave nothing on their nodes: no address, no device, no endpoint.
func TestChurn(t *testing.T) {
	traces := func() string {
		var all strings.Builder
		for _, node := range nodes(t) {
			all.WriteString(in(t, node, "bash", "-euo", "pipefail", "-c", `
				echo "$1 devices $(ip -o link show type veth | wc -l)"
				echo "$1 endpoints $(find /run/towpath -path '*/endpoints/*.json' | wc -l)"
				echo "$1 addresses $(find /var/lib/cni /run/towpath -path '*10.244.*' -type f | wc -l)"
				echo "$1 elements $(nft list map inet towpath-policy ingress4 | grep -c ' : ')"`, "traces", node))
		}
		return all.String()
	}
	settled := func() error { // pods of earlier tests are gone
		if out := kubectl(t, "get", "pods", "-A", "-o", `jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.name}`); out != "" {
			return fmt.Errorf("%s not gone yet", out)
		}
		return nil
	}
	poll(t, "a quiet cluster", settled)
	before := traces()

	ns := namespace(t, "churn")
	for range 2 {
		apply(t, fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: churn, namespace: %s}, spec: {replicas: 30,
  selector: {matchLabels: {app: churn}}, template: {metadata: {labels: {app: churn}}, spec: {terminationGracePeriodSeconds: 0,
    containers: [{name: c, image: "localhost/pause:cluster"}]}}}}`, ns))
		poll(t, "30 pods", func() error {
			_, err := try("api", "kubectl", "-n", ns, "rollout", "status", "deployment/churn", "--timeout", "10s")
			return err
		})
		ips := strings.Fields(kubectl(t, "-n", ns, "get", "pods", "-o", "jsonpath={.items[*].status.podIP}"))
		seen := map[string]bool{}
		for _, ip := range ips {
			if seen[ip] {
				t.Errorf("two pods have %s", ip)
			}
			seen[ip] = true
		}
		kubectl(t, "-n", ns, "delete", "deployment", "churn", "--cascade=foreground", "--timeout", "3m")
		poll(t, "pods gone", func() error {
			if out := kubectl(t, "-n", ns, "get", "pods", "-o", "name"); out != "" {
				return fmt.Errorf("still there: %s", strings.Fields(out))
			}
			return nil
		})
	}
	poll(t, "nothing left", func() error {
		if after := traces(); after != before {
			return fmt.Errorf("before:\n%safter:\n%s", before, after)
		}
		return nil
	})
}
