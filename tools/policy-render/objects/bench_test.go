package objects

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/towpath/towpath/lib/watch"
)

func podText(i int) string {
	ip := fmt.Sprintf("10.%d.%d.%d", 64+i>>16, i>>8&255, i&255)
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: web-%d
  namespace: ns-%d
  uid: 0f5f2f3e-0000-0000-0000-%012d
  labels:
    app: web-%d
    tier: backend
    pod-template-hash: abcdef%d
spec:
  nodeName: node-%d
  containers:
  - name: c
    image: registry.invalid/web:1
    ports:
    - name: http
      containerPort: 8080
      protocol: TCP
status:
  phase: Running
  hostIP: 10.9.0.%d
  podIP: %s
  podIPs:
  - ip: %s
`, i, i%100, i, i%500, i%500, i%40, i%40, ip, ip)
}

func manyPods(n int) (multi, list, asJSON []byte) {
	var m, l bytes.Buffer
	l.WriteString("apiVersion: v1\nitems:\n")
	for i := range n {
		m.WriteString("---\n" + podText(i))
		l.WriteString("- " + strings.ReplaceAll(strings.TrimSuffix(podText(i), "\n"), "\n", "\n  ") + "\n")
	}
	l.WriteString("kind: List\n")
	asJSON, err := yaml.YAMLToJSON(l.Bytes())
	if err != nil {
		panic(err)
	}
	return m.Bytes(), l.Bytes(), asJSON
}

func BenchmarkRead(b *testing.B) {
	multi, list, asJSON := manyPods(10_000)
	for _, c := range []struct {
		name string
		data []byte
	}{{"documents", multi}, {"list", list}, {"json", asJSON}} {
		b.Run(c.name+"/pods=10000", func(b *testing.B) {
			b.SetBytes(int64(len(c.data)))
			var got []Object
			for b.Loop() {
				var err error
				if got, err = Read(bytes.NewReader(c.data), "x", Options{}); err != nil || len(got) != 10_000 {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// BenchmarkReread changes one pod of a file of many, as an editor of the file or kubectl would.
func BenchmarkReread(b *testing.B) {
	multi, list, asJSON := manyPods(10_000)
	for _, c := range []struct {
		name string
		data []byte
	}{{"documents", multi}, {"list", list}, {"json", asJSON}} {
		b.Run(c.name+"/pods=10000", func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "pods.yaml")
			other := bytes.Replace(c.data, []byte("app: web-77\n"), []byte("app: web-88\n"), 1)
			if c.name == "json" {
				other = bytes.Replace(c.data, []byte(`"app":"web-77"`), []byte(`"app":"web-88"`), 1)
			}
			versions := [][]byte{c.data, other}
			t := newTracker(path, Options{})
			n := 0
			change := func() int {
				tmp := path + ".tmp"
				if err := errors.Join(os.WriteFile(tmp, versions[n%2], 0o644), os.Rename(tmp, path)); err != nil {
					b.Fatal(err)
				}
				n++
				return len(t.update(watch.Change{Paths: map[string]struct{}{path: {}}}))
			}
			if got := change(); got != 10_002 { // and status, and synced
				b.Fatal(got)
			}
			b.ReportAllocs()
			for b.Loop() {
				if got := change(); got != 1 {
					b.Fatal(got)
				}
			}
		})
	}
}
