//go:build netns

// Package deploy holds packaging/kubernetes against a real API server: what the programs ask of it under the rights that
// the manifest gives them, and what they are refused.
package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// top is the repository's, seen from this package.
const top = "../.."

// object is an object of a manifest.
type object map[string]any

func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func manifest(t *testing.T, name string) []object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "packaging", "kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []object
	for _, one := range strings.Split(string(text), "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(one), &o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, o)
	}
	return all
}

func find(t *testing.T, all []object, kind string) object {
	t.Helper()
	for _, o := range all {
		if o.text("kind") == kind {
			return o
		}
	}
	t.Fatalf("no %s in the manifest", kind)
	return nil
}

// server is an API server with what a manifest holds, and nodes whose pods of towpath have tokens.
type server struct {
	*apitest.Server
	t         *testing.T
	namespace string
}

// install starts an API server and makes the objects of a manifest.
func install(t *testing.T, name string) (*server, []object) {
	s := &server{Server: apitest.Start(t), t: t}
	all := manifest(t, name)
	s.namespace = find(t, all, "DaemonSet").text("metadata", "namespace")
	if s.namespace != "towpath" {
		s.Do("POST", "/api/v1/namespaces", fmt.Sprintf(`{"metadata":{"name":%q}}`, s.namespace))
	}
	for _, o := range all {
		group, kind := "/apis/"+o.text("apiVersion"), strings.ToLower(o.text("kind"))
		if o.text("apiVersion") == "v1" {
			group = "/api/v1"
		}
		if namespace := o.text("metadata", "namespace"); namespace != "" {
			group += "/namespaces/" + namespace
		}
		plural := kind + "s"
		if strings.HasSuffix(kind, "policy") {
			plural = strings.TrimSuffix(kind, "y") + "ies"
		}
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Do("POST", group+"/"+plural, string(body))
	}
	eventually(t, func() string { // rights count some time after they were given
		for _, what := range []string{`"verb":"list","resource":"nodes"`, `"verb":"create","resource":"events","namespace":"default"`} {
			if answer := s.Do("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", fmt.Sprintf(
				`{"spec":{"user":"system:serviceaccount:%s:towpath","resourceAttributes":{%s}}}`, s.namespace, what)); !strings.Contains(string(answer), `"allowed":true`) {
				return string(answer)
			}
		}
		return ""
	})
	return s, all
}

// token makes a node and towpath's pod on it, and returns that pod's token, as a kubelet gets it.
func (s *server) token(node, spec string) string {
	s.t.Helper()
	s.Do("POST", "/api/v1/nodes", fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"role":"x"}},"spec":%s,"status":{"capacity":{"cpu":"2"}}}`, node, spec))
	return s.tokenOf(node, "towpath", "towpath-"+node)
}

func (s *server) tokenOf(node, account, pod string) string {
	s.t.Helper()
	var made struct{ Metadata struct{ UID string } }
	answer := s.Do("POST", "/api/v1/namespaces/"+s.namespace+"/pods", fmt.Sprintf(
		`{"metadata":{"name":%q},"spec":{"nodeName":%q,"serviceAccountName":%q,"hostNetwork":true,"containers":[{"name":"c","image":"i"}]}}`, pod, node, account))
	if err := json.Unmarshal(answer, &made); err != nil {
		s.t.Fatal(err)
	}
	var granted struct{ Status struct{ Token string } }
	answer = s.Do("POST", "/api/v1/namespaces/"+s.namespace+"/serviceaccounts/"+account+"/token", fmt.Sprintf(
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":%q,"uid":%q}}}`, pod, made.Metadata.UID))
	if err := json.Unmarshal(answer, &granted); err != nil {
		s.t.Fatal(err)
	}
	if granted.Status.Token == "" {
		s.t.Fatalf("no token in %s", answer)
	}
	return granted.Status.Token
}

// kubeconfig is a file with a token.
func (s *server) kubeconfig(token string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, s.URL, token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// eventually polls until check returns nothing.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	last := "?"
	for deadline := time.Now().Add(2 * time.Minute); last != ""; <-time.After(50 * time.Millisecond) {
		if last = check(); last != "" && time.Now().After(deadline) {
			t.Fatal(last)
		}
	}
}
