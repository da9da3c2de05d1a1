package objects

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/watch"
)

// warned collects warnings as lines.
func warned(to *[]string) Options {
	return Options{Warn: func(p Place, err error) {
		*to = append(*to, fmt.Sprintf("%s: %v; %s", p, err, strings.Join(exit.Hints(err), "; ")))
	}}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"calico's policy", "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\n", `NetworkPolicy of "crd.projectcalico.org/v1" is skipped: nothing of it is in force; only apiVersion: networking.k8s.io/v1`},
		{"admin's policy", "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n", `ClusterNetworkPolicy of "policy.networking.k8s.io/v1alpha2" is skipped`},
		{"pod of another version", "apiVersion: v2\nkind: Pod\n", `Pod of "v2" is skipped: nothing of it is in force; only apiVersion: v1 and kind: Pod is read`},
		{"pod in lower case", "apiVersion: v1\nkind: pod\n", `pod of "v1" is skipped`},
		{"namespace of another version", `{"apiVersion":"core/v1","kind":"Namespace"}`, `Namespace of "core/v1" is skipped`},
		{"another kind", "apiVersion: v1\nkind: Service\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			if list, err := Read(strings.NewReader(c.text), "f", warned(&got)); err != nil || len(list) != 0 {
				t.Fatalf("got %v, %v", ids(list), err)
			}
			if len(got) > 1 || c.want == "" && len(got) != 0 || !strings.Contains(strings.Join(got, ""), c.want) {
				t.Errorf("warned %q", got)
			}
		})
	}
}

func TestAddressesThatAreNoPods(t *testing.T) {
	var got []string
	list, err := Read(strings.NewReader(`
kind: Pod
metadata: {name: a}
status: {podIPs: [{ip: 0.0.0.0}, {ip: 10.0.0.1}, {ip: "::"}, {ip: 127.0.0.1}, {ip: "::1"}, {ip: 224.0.0.1}, {ip: "ff02::1"}, {ip: 169.254.1.1}, {ip: "fe80::1"}, {ip: "fd00::1%eth0"}, {ip: "fd00::1"}]}
---
kind: Pod
metadata: {name: b}
status: {podIP: "::ffff:127.0.0.1"}
`), "f", warned(&got))
	if err != nil {
		t.Fatal(err)
	}
	if ips := fmt.Sprint(list[0].Pod.IPs, list[1].Pod.IPs); ips != "[10.0.0.1 fd00::1] []" {
		t.Errorf("got %s", ips)
	}
	if want := `"f": document 1 (line 2): Pod "default/a": key "status.podIPs": 0.0.0.0 is unspecified and is left out; correct the pod's status`; len(got) != 10 || got[0] != want {
		t.Errorf("warned %q", got)
	}
}

// TestWarningsComeOnce reads a directory again and again.
func TestWarningsComeOnce(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("deny.yml.txt", "x")
	write(".hidden", "x")
	var got []string
	tr := newTracker(dir, warned(&got))
	for range 3 {
		tr.update(watch.Change{All: true})
	}
	if want := fmt.Sprintf(`%q: none of the files is read, such as "deny.yml.txt"; name them *.yaml, *.yml or *.json`, dir); !slices.Equal(got, []string{want}) {
		t.Errorf("warned %q", got)
	}
	got = nil
	write("a.yaml", "kind: pod\n---\nkind: Pod\n") // the second is a fault: all is read each time
	for range 3 {
		if tr.update(watch.Change{All: true}); len(tr.faults()) != 1 {
			t.Errorf("faults %v", tr.faults())
		}
	}
	if len(got) != 1 {
		t.Errorf("warned %q", got)
	}
}

func TestDanglingLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "a.yaml")} {
		_, err := ReadPath(path, Options{})
		if hints := exit.Hints(err); exit.Of(err) != exit.TryAgain || !strings.Contains(err.Error(), "a.yaml") || len(hints) != 1 || !strings.Contains(hints[0], "symbolic link that points at nothing") {
			t.Errorf("got %v, hints %q", err, hints)
		}
	}
}

func TestProtocolHints(t *testing.T) {
	for protocol, want := range map[string]string{"ICMP": "NetworkPolicy knows TCP, UDP and SCTP", "udp": "write it in capitals"} {
		_, err := Read(strings.NewReader(policyHead+"spec: {podSelector: {}, ingress: [{ports: [{protocol: "+protocol+"}]}]}\n"), "f", Options{})
		if !slices.Equal(exit.Hints(err), []string{want}) {
			t.Errorf("%s: %v, hints %q", protocol, err, exit.Hints(err))
		}
	}
}

// TestLines counts in the file what parsers count in a document.
func TestLines(t *testing.T) {
	before := "# first\n---\nkind: Namespace\nmetadata: {name: n}\n---\n\n"
	for _, c := range []struct{ name, file, text, want string }{
		{"YAML", "f.yaml", before + "kind: Pod\nmetadata:\n\tname: a\n", `document 2 (line 7): read YAML: line 9: `},
		{"YAML with a mark", "f.yaml", "\xef\xbb\xbf" + before + "kind: Pod\nmetadata:\n\tname: a\n", `document 2 (line 7): read YAML: line 9: `},
		{"key twice", "f.yaml", before + policyHead + "spec:\n  podSelector: {}\n  podSelector: {}\n", `document 2 (line 7): read YAML: unmarshal errors: line 12: key "podSelector" already set`},
		{"item", "f.yaml", before + "kind: List\nitems:\n- kind: Namespace\n  metadata: {name: m}\n- kind: Pod\n  metadata: {name: A}\n", `document 2: items[1] (line 11): Pod "default/A"`},
		{"JSON", "f.json", "{\"kind\":\"Namespace\",\n\"metadata\":{\"name\":\"n\"}}\n{\"kind\":\"Pod\",\n\"metadata\" 1}\n", `document 1 (line 3): read JSON: line 4: found '1' where ':' belongs`},
		{"item of JSON", "f.json", "{\"kind\":\"List\",\n\"items\":[\n{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}},\n{\"kind\":\"Pod\",\"metadata\":{\"name\":\"A\"}}]}", `document 1: items[1] (line 4): Pod "default/A"`},
		{"flow style", "f.yaml", before + "{kind: Pod, metadata: {name: A}}\n", `document 2 (line 7): Pod "default/A"`},
		{"broken flow style", "f.yaml", before + "{kind: Pod,\n metadata: {name: [A}}\n", `document 2 (line 7): read YAML: line 7: `},
		{"flow style in JSON", "f.json", "{kind: Pod, metadata: {name: a}}\n", `document 1 (line 1): read JSON: line 1: found 'k'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.text), c.file, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}
