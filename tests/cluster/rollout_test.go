//go:build cluster

package cluster

import (
	"testing"
	"time"
)

// towpath is replaced on every node, and no packet is lost: on a node, between nodes, and from a node to its pods.
func TestRollout(t *testing.T) {
	ns := namespace(t, "rollout")
	pods := start(t, ns, "", "a@worker01", "b@worker01", "c@worker02", "m@master")
	a, b, c, m := &pods[0], &pods[1], &pods[2], &pods[3]
	since := time.Now()
	flows := []*flow{
		ping(t, a, a.node, b.ip), ping(t, a, a.node, c.ip), ping(t, c, c.node, a.ip), ping(t, m, m.node, c.ip),
		ping(t, nil, "worker02", c.ip),
	}
	replace(t)
	start(t, ns, "", "after@worker01")
	none(t, since, flows...)
}

// replace puts new processes of towpath in the place of the old, node after node.
func replace(t *testing.T) {
	t.Helper()
	if daemonset() {
		kubectl(t, "-n", "towpath", "rollout", "restart", "daemonset/towpath")
		poll(t, "new pods of towpath", func() error {
			_, err := try("api", "kubectl", "-n", "towpath", "rollout", "status", "daemonset/towpath", "--timeout", "10s")
			return err
		})
		return
	}
	for _, node := range nodes(t) {
		// The supervisor is killed, as by systemd's KillMode=process; the next one takes its programs over. Then each of them.
		script(t, "service", name+"/"+node, "kill", "towpath")
		supervised(t, node)
		in(t, node, "bash", "-euo", "pipefail", "-c", `kill -KILL $(jq -r '.pid // empty' /run/towpath/supervisor/*.json)`)
		supervised(t, node)
	}
}

// supervised waits until towpath says that all is well on a node.
func supervised(t *testing.T, node string) {
	t.Helper()
	poll(t, "towpath on "+node, func() error {
		_, err := try(node, "towpath", "status")
		return err
	})
}
