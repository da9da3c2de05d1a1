//go:build netns

package deploy

import (
	"fmt"
	"strings"
	"testing"
)

// TestOwnNodeOnly: with a token of one node's pod nobody can change another node, nor anything of its own but what
// towpath keeps there. RBAC allows all of these patches: only the admission policy refuses.
func TestOwnNodeOnly(t *testing.T) {
	for _, name := range []string{"towpath.yaml", "towpath-kube-flannel.yaml"} {
		t.Run(name, func(t *testing.T) { testOwnNodeOnly(t, name) })
	}
}

func testOwnNodeOnly(t *testing.T, name string) {
	s, _ := install(t, name)
	token := s.token("a", `{"podCIDR":"10.244.0.0/24"}`)
	s.token("b", `{"podCIDR":"10.244.1.0/24"}`)
	const strategic = "application/strategic-merge-patch+json"
	patch := func(node, body string) (int, string) {
		code, answer := s.As(token, "PATCH", "/api/v1/nodes/"+node+"/status", strategic, body)
		return code, string(answer)
	}
	const annotation = `{"metadata":{"annotations":{"flannel.alpha.coreos.com/public-ip":"192.168.0.%d"}}}`
	// A policy takes hold some time after it was made.
	n := 0
	eventually(t, func() string {
		n++
		if code, answer := patch("b", fmt.Sprintf(annotation, n%250)); code < 300 || !strings.Contains(answer, "only the node that its pod is on") {
			return fmt.Sprintf("a patch of another node: %d: %s", code, answer)
		}
		return ""
	})
	allowed := map[string]string{
		"annotation":     `{"metadata":{"annotations":{"flannel.alpha.coreos.com/backend-type":"vxlan"}}}`,
		"taken back":     `{"metadata":{"annotations":{"flannel.alpha.coreos.com/backend-type":null}}}`,
		"condition":      `{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"FlannelIsUp"}]}}`,
		"condition back": `{"status":{"conditions":[{"type":"NetworkUnavailable","status":"True","reason":"no routes"}]}}`,
	}
	for what, body := range allowed {
		if code, answer := patch("a", body); code > 299 {
			t.Errorf("%s of the own node: %d: %s", what, code, answer)
		}
	}
	refused := []struct{ what, node, body, why string }{
		{"another node's annotation", "b", fmt.Sprintf(annotation, 251), "only the node that its pod is on"},
		{"another node's condition", "b", allowed["condition"], "only the node that its pod is on"},
		{"another annotation", "a", `{"metadata":{"annotations":{"example.org/x":"y"}}}`, "only annotations that begin with"},
		{"a prefix that only begins alike", "a", `{"metadata":{"annotations":{"flannel.alpha.coreos.community/x":"y"}}}`, "only annotations that begin with"},
		{"another condition", "a", `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, "only the condition NetworkUnavailable"},
		{"addresses", "a", `{"status":{"addresses":[{"type":"InternalIP","address":"10.9.9.9"}]}}`, "nothing else of a node's status"},
		{"capacity", "a", `{"status":{"capacity":{"cpu":"3"}}}`, "nothing else of a node's status"},
		{"a field of status that was not there", "a", `{"status":{"volumesInUse":["v"]}}`, "nothing else of a node's status"},
		{"a field of status taken away", "a", `{"status":{"capacity":null}}`, "nothing else of a node's status"},
	}
	for _, r := range refused {
		if code, answer := patch(r.node, r.body); code != 422 && code != 403 || !strings.Contains(answer, r.why) {
			t.Errorf("%s: %d: %s", r.what, code, answer)
		}
	}
	// The API server itself lets no change of labels through nodes/status; RBAC refuses the rest.
	for _, r := range []struct{ method, path, body string }{
		{"PATCH", "/api/v1/nodes/a", `{"metadata":{"labels":{"role":"master"}}}`},
		{"PATCH", "/api/v1/nodes/a", `{"spec":{"unschedulable":true}}`},
		{"DELETE", "/api/v1/nodes/b", ""},
		{"GET", "/api/v1/secrets", ""},
		{"GET", "/api/v1/namespaces/" + s.namespace + "/configmaps/kube-flannel-cfg", ""},
		{"POST", "/api/v1/namespaces/kube-system/events", `{"metadata":{"name":"x"},"involvedObject":{"kind":"Node","name":"a"}}`},
	} {
		if code, answer := s.As(token, r.method, r.path, strategic, r.body); code != 403 {
			t.Errorf("%s %s: %d: %s", r.method, r.path, code, answer)
		}
	}
	// A token that is on no node, such as one that somebody made by hand, changes none.
	var unbound struct{ Status struct{ Token string } }
	decode(t, s.Do("POST", "/api/v1/namespaces/"+s.namespace+"/serviceaccounts/towpath/token",
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}`), &unbound)
	if code, answer := s.As(unbound.Status.Token, "PATCH", "/api/v1/nodes/a/status", strategic, fmt.Sprintf(annotation, 252)); code < 300 ||
		!strings.Contains(string(answer), "only the node that its pod is on") {
		t.Errorf("a token of no node: %d: %s", code, answer)
	}
	// Others are none of its business.
	s.Do("POST", "/api/v1/nodes", `{"metadata":{"name":"c"}}`)
	s.Do("DELETE", "/api/v1/nodes/c", "")
}
