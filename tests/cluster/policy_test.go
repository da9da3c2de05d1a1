//go:build cluster

package cluster

import (
	"fmt"
	"testing"
)

// Policies are in force soon after the API server has them, and no longer when it has them no more.
func TestPolicy(t *testing.T) {
	ns := namespace(t, "policy")
	pods := start(t, ns, "", "a@worker01", "b@worker01", "c@worker02", "d@worker02")
	a, others := &pods[0], pods[1:]
	url := "http://" + a.ip + ":8080/hostname"
	refused := func(from *pod) {
		t.Helper()
		poll(t, from.name+" is kept out", func() error {
			if got, err := from.exec("curl", "-s", "--max-time", "1", url); err == nil {
				return fmt.Errorf("answer %q", got)
			}
			return nil
		})
	}
	for i := range others {
		others[i].reaches(t, url, "a")
	}
	apply(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: `+ns+`},
  spec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}}`)
	for i := range others {
		refused(&others[i])
	}
	ready := kubectl(t, "-n", ns, "get", "pod", "a", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if ready != "True" {
		t.Errorf("pod a is Ready %q: the node's own probes must pass", ready)
	}

	apply(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow, namespace: `+ns+`},
  spec: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {access: "yes"}}}], ports: [{port: 8080}]}]}}`)
	kubectl(t, "-n", ns, "label", "pod", "b", "c", "access=yes")
	others[0].reaches(t, url, "a")
	others[1].reaches(t, url, "a")
	refused(&others[2])

	kubectl(t, "-n", ns, "label", "pod", "b", "access-")
	refused(&others[0])
	kubectl(t, "-n", ns, "delete", "networkpolicy", "--all")
	for i := range others {
		others[i].reaches(t, url, "a")
	}
}
