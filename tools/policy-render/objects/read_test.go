package objects

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
)

func ids(objects []Object) []string {
	var out []string
	for i := range objects {
		out = append(out, objects[i].ID().String())
	}
	return out
}

const policyHead = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: dev}\n"

func TestReadForms(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"comments", "# a\n---\n# b\n---\n", nil},
		{"documents", "---\n" + pod + "---\n# between\n---\n" + policyHead + "spec: {podSelector: {}}\n...\n", []string{"Pod default/a", "NetworkPolicy dev/p"}},
		{"windows", strings.ReplaceAll("---\n"+pod+"---\n"+policyHead+"spec: {podSelector: {}}\n", "\n", "\r\n"), []string{"Pod default/a", "NetworkPolicy dev/p"}},
		{"other kinds", "kind: Deployment\napiVersion: apps/v1\nspec: {containers: 7, nodeName: []}\n---\n" + pod + "---\napiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\n", []string{"Pod default/a"}},
		{"kubectl's list", "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: a\n    annotations:\n      x: |\n        - b\n        items:\n\n        # c\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata:\n    name: p\n  spec:\n    podSelector: {}\nkind: List\nmetadata:\n  resourceVersion: \"\"\n", []string{"Pod default/a", "NetworkPolicy default/p"}},
		{"indented list", "kind: List\nitems:\n  # first\n  - kind: Pod\n    metadata: {name: a}\n\n  -\n    kind: Namespace\n    metadata: {name: n}\n", []string{"Pod default/a", "Namespace n"}},
		{"list in flow style", "{kind: List, items: [{kind: Pod, metadata: {name: a}}]}", []string{"Pod default/a"}},
		{"items in flow style", "kind: List\nitems: [{kind: Pod, metadata: {name: a}}]\n", []string{"Pod default/a"}},
		{"empty list", "kind: PodList\nitems: []\n---\nkind: List\nitems:\n---\nkind: List\n", nil},
		{"typed lists", "kind: PodList\napiVersion: v1\nitems:\n- metadata: {name: a}\n---\nkind: NetworkPolicyList\nitems:\n- metadata: {name: p}\n  spec: {podSelector: {}}\n---\nkind: NamespaceList\nitems: [{metadata: {name: ns}}]\n", []string{"Pod default/a", "NetworkPolicy default/p", "Namespace ns"}},
		{"anchor across items", "kind: List\nitems:\n- kind: Pod\n  metadata: &m {name: a}\n- kind: Namespace\n  metadata: *m\n", []string{"Pod default/a", "Namespace a"}},
		{"kind in quotes", strings.Replace(policyHead, "kind: NetworkPolicy", `"kind": "NetworkPolicy"`, 1) + "spec: {podSelector: {}}\n", []string{"NetworkPolicy dev/p"}},
		{"JSON", `{"kind":"Pod","metadata":{"name":"a"}}` + "\n" + `{"kind":"List","items":[{"kind":"Namespace","metadata":{"name":"n"}}]}`, []string{"Pod default/a", "Namespace n"}},
		{"JSON list of untyped items", `{"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b","namespace":"x"}}],"kind":"PodList"}`, []string{"Pod default/a", "Pod x/b"}},
		{"status is not read", policyHead + "spec: {podSelector: {}}\nstatus: {conditions: [{x: 1}]}\n", []string{"NetworkPolicy dev/p"}},
		{"metadata is not judged", strings.Replace(policyHead, "name: p", "name: p, owner: x", 1) + "spec: {podSelector: {}}\n", []string{"NetworkPolicy dev/p"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read(strings.NewReader(c.text), "f", Options{})
			if err != nil || !slices.Equal(ids(got), c.want) {
				t.Errorf("got %v, %v, want %v", ids(got), err, c.want)
			}
		})
	}
}

func TestReadPod(t *testing.T) {
	got, err := Read(strings.NewReader(`
kind: Pod
metadata: {name: a, namespace: dev, uid: u, labels: {app: web}, annotations: {kubernetes.io/config.mirror: static}}
spec:
  nodeName: n1
  hostNetwork: true
  containers: [{name: c, ports: [{containerPort: 1}, {name: http, containerPort: 80}]}]
  initContainers: [{restartPolicy: Always, ports: [{name: mesh, containerPort: 9, protocol: SCTP}]}, {ports: [{name: no, containerPort: 8}]}]
status: {phase: Failed, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}, {ip: "::ffff:10.0.0.3"}, {ip: "fd00::1"}], hostIP: 192.0.2.1}
`), "f", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := "dev/a static map[app:web] n1 true true [10.0.0.2 10.0.0.3 fd00::1] [192.0.2.1] [{http TCP 80} {mesh SCTP 9}]"
	p := got[0].Pod
	if text := fmt.Sprint(p.Key, " ", p.UID, " ", p.Labels, " ", p.Node, " ", p.HostNetwork, " ", p.Finished, " ", p.IPs, " ", p.HostIPs, " ", p.Ports); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestReadRefuses(t *testing.T) {
	rule := func(s string) string { return policyHead + "spec: {podSelector: {}, ingress: [" + s + "]}\n" }
	for _, c := range []struct {
		name, text, want string
		hint             bool
	}{
		{"misspelt key", policyHead + "spec:\n  podSelecter: {}\n", `read "f": document 1 (line 1): NetworkPolicy "dev/p": key "spec.podSelecter": unknown key`, true},
		{"key in other case", rule("{From: []}"), `key "spec.ingress[0].From": unknown key`, true},
		{"misspelt spec", policyHead + "sepc: {}\n", `key "sepc": unknown key`, true},
		{"key twice", policyHead + "spec: {podSelector: {}, podSelector: {matchLabels: {a: b}}}\n", `"podSelector" already set`, false},
		{"key twice in JSON", `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p"},"spec":{"podSelector":{},"podSelector":{}}}`, `key "spec.podSelector": stands there twice`, true},
		{"place", "kind: Namespace\nmetadata: {name: n}\n---\nkind: List\nitems:\n- kind: Pod\n  metadata: {name: a}\n- kind: Pod\n  metadata: {name: A}\n", `read "f": document 2: items[1] (line 8): Pod "default/A": key "metadata.name"`, false},
		{"label that is a number", policyHead + "spec: {podSelector: {matchLabels: {a: 1}}}\n", `key "spec.podSelector.matchLabels": a number does not belong here, but a string`, true},
		{"list for object", policyHead + "spec: {podSelector: []}\n", `key "spec.podSelector": a list does not belong here, but an object`, false},
		{"fraction of a port", rule("{ports: [{port: 80.5}]}"), `does not belong here, but a whole number`, false},
		{"port in quotes", rule("{ports: [{port: '80'}]}"), `key "spec.ingress[0].ports[0].port": "80" is neither a number nor a name`, true},
		{"port too high", rule("{ports: [{port: 65536}]}"), `65536 is not between 1 and 65535`, false},
		{"port 0", rule("{ports: [{port: 0}]}"), `0 is not between 1 and 65535`, false},
		{"endPort alone", rule("{ports: [{endPort: 80}]}"), `key "spec.ingress[0].ports[0].endPort": stands without port`, true},
		{"endPort with a name", rule("{ports: [{port: http, endPort: 80}]}"), `stands with the named port "http"`, true},
		{"endPort below", rule("{ports: [{port: 81, endPort: 80}]}"), `80 is below port 81`, true},
		{"endPort too high", rule("{ports: [{port: 81, endPort: 70000}]}"), `70000 is not between`, false},
		{"protocol", rule("{ports: [{protocol: tcp}]}"), `key "spec.ingress[0].ports[0].protocol": "tcp" is not one of TCP, UDP, SCTP`, true},
		{"empty peer", rule("{from: [{}]}"), `key "spec.ingress[0].from[0]": names no peer`, true},
		{"null peer", rule("{from: [null]}"), `key "spec.ingress[0].from[0]": nothing stands behind the dash`, true},
		{"null rule", policyHead + "spec:\n  podSelector: {}\n  ingress:\n  - ", `key "spec.ingress[0]": nothing stands behind the dash`, true},
		{"null port", rule("{from: [{podSelector: {}}], ports: [{port: 80}, null]}"), `key "spec.ingress[0].ports[1]": nothing stands`, true},
		{"null rule of egress", policyHead + "spec: {podSelector: {}, egress: [{}, ~]}\n", `key "spec.egress[1]": nothing stands`, true},
		{"null peer of egress", policyHead + "spec: {podSelector: {}, egress: [{to: [null]}]}\n", `key "spec.egress[0].to[0]": nothing stands`, true},
		{"block and selector", rule("{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}"), `has both ipBlock and a selector`, true},
		{"block", rule("{from: [{ipBlock: {cidr: 10.0.0.1}}]}"), `key "spec.ingress[0].from[0].ipBlock.cidr": "10.0.0.1" is not an address block`, true},
		{"except", rule("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/33]}}]}"), `key "spec.ingress[0].from[0].ipBlock.except[0]"`, true},
		{"except outside", rule("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}"), `"11.0.0.0/9" is no part of 10.0.0.0/8`, false},
		{"except everything", rule("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}"), `"10.0.0.0/8" is no part of 10.0.0.0/8`, false},
		{"except of the other family", rule("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/64']}}]}"), `is of the other address family`, false},
		{"operator", policyHead + "spec: {podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}\n", `key "spec.podSelector.matchExpressions[0]": operator "in" of key "a"`, false},
		{"In without values", policyHead + "spec: {podSelector: {matchExpressions: [{key: a, operator: In}]}}\n", `operator In of key "a" needs values`, false},
		{"Exists with values", policyHead + "spec: {podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}\n", `operator Exists of key "a" takes no values`, false},
		{"label key", policyHead + "spec: {podSelector: {matchLabels: {'a b': c}}}\n", `label key "a b"`, false},
		{"label value", policyHead + "spec: {podSelector: {matchLabels: {a: 'b;c'}}}\n", `label value "b;c"`, false},
		{"type", policyHead + "spec: {podSelector: {}, policyTypes: [Engress]}\n", `key "spec.policyTypes[0]": "Engress" is not a type`, true},
		{"too many types", policyHead + "spec: {podSelector: {}, policyTypes: [Egress, Ingress, Egress]}\n", `key "spec.policyTypes": 3 types`, true},
		{"policy's name", strings.Replace(policyHead, "name: p", "name: 'p; flush ruleset'", 1), `key "metadata.name"`, false},
		{"policy's namespace", strings.Replace(policyHead, "namespace: dev", "namespace: a.b", 1), `key "metadata.namespace"`, false},
		{"old version", strings.Replace(policyHead, "networking.k8s.io/v1", "extensions/v1beta1", 1), `NetworkPolicy of "extensions/v1beta1" is not known`, true},
		{"no version", "kind: NetworkPolicy\nmetadata: {name: p}\n", `NetworkPolicy of "" is not known`, true},
		{"kind in lower case", "apiVersion: networking.k8s.io/v1\nkind: networkpolicy\n", `networkpolicy of "networking.k8s.io/v1" is not known`, true},
		{"no kind", "metadata: {name: p}\n", `key "kind": missing`, true},
		{"no object", "- a\n", "not an object", true},
		{"text", "some text\n", "not an object", true},
		{"broken YAML", "kind: Pod\n bar: [\n", "read YAML: ", false},
		{"broken YAML of another kind", "kind: Service\nspec: [\n", "read YAML: ", false},
		{"broken JSON", `{"kind":"Pod","metadata":{"name":"a"}`, "read JSON: ", false},
		{"broken JSON of another kind", `{"kind":"Service","spec":{x]}`, "read JSON: ", false},
		{"broken JSON below", `{"kind":"Pod","metadata":{"name":"a"]}`, "read JSON: ", false},
		{"namespace's name", "kind: Namespace\nmetadata: {name: a.b}\n", `Namespace "a.b": key "metadata.name"`, false},
		{"address", "kind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 10.0.0.1}, {ip: x}]}\n", `key "status.podIPs[1].ip": "x" is not an address`, false},
		{"container's port", "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{ports: [{name: x, containerPort: 70000}]}]}\n", `key "spec.containers[0].ports[0].containerPort": 70000 is not a port`, false},
		{"object twice", "kind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {name: a, namespace: default}\n", `read "f": document 2 (line 4): Pod default/a is also in "f": document 1 (line 1)`, true},
		{"list in a list", "kind: List\nitems:\n- kind: List\n  items: [{kind: Pod, metadata: {name: a}}]\n", "items[0] (line 3): a list in a list", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read(strings.NewReader(c.text), "f", Options{})
			if err == nil {
				t.Fatalf("took %v", ids(got))
			}
			if exit.Of(err) != exit.BadInput || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), `read "f": document `) {
				t.Errorf("got  %v (%s)\nwant %s", err, exit.Of(err), c.want)
			}
			if c.hint != (len(exit.Hints(err)) > 0) {
				t.Errorf("hints %q", exit.Hints(err))
			}
		})
	}
}

func TestReadPath(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml": "kind: Namespace\nmetadata: {name: b}\n", "a.json": `{"kind":"Namespace","metadata":{"name":"a"}}`, "c.yml": "kind: Namespace\nmetadata: {name: c}\n",
		".d.yaml": "kind: Namespace\nmetadata: {name: d}\n", "e.txt": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := ReadPath(dir, Options{})
	if want := []string{"Namespace a", "Namespace b", "Namespace c"}; err != nil || !slices.Equal(ids(got), want) {
		t.Errorf("got %v, %v", ids(got), err)
	}
	if got, err := ReadPath("-", Options{Stdin: strings.NewReader("kind: Namespace\nmetadata: {name: a}\n")}); err != nil || len(got) != 1 || got[0].Place.File != "-" {
		t.Errorf("standard input: %v, %v", got, err)
	}
	_, err = ReadPath(filepath.Join(dir, "none"), Options{})
	if exit.Of(err) != exit.TryAgain || len(exit.Hints(err)) == 0 {
		t.Errorf("missing: %v", err)
	}
	os.WriteFile(filepath.Join(dir, "z.yaml"), []byte("kind: Namespace\nmetadata: {name: a}\n"), 0o644)
	_, err = ReadPath(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "z.yaml") || !strings.Contains(err.Error(), "a.json") || exit.Of(err) != exit.BadInput {
		t.Errorf("twice: %v", err)
	}
}
