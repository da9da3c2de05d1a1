// Package objects reads Namespaces, Pods and NetworkPolicies from YAML and JSON files, as people and kubectl
// write them: several documents in a file, and lists. It fills in no defaults (package model does) but judges a
// NetworkPolicy as strictly as the API server, since a misspelt key would otherwise select every pod. A
// Source tells of changes; files and directories are one, the API's watch fits the same interface.
package objects

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Kind is a kind of object that is read.
type Kind uint8

// The kinds; every other is skipped.
const (
	Namespace Kind = iota + 1
	Pod
	NetworkPolicy
)

// String is the kind as Kubernetes spells it.
func (k Kind) String() string {
	return [...]string{"skipped", "Namespace", "Pod", "NetworkPolicy"}[k]
}

// ID names an object. A Namespace has only a name.
type ID struct {
	Kind Kind
	Key  model.Key
}

// String is "NetworkPolicy dev/web".
func (id ID) String() string {
	if id.Kind == Namespace {
		return id.Kind.String() + " " + id.Key.Name
	}
	return id.Kind.String() + " " + id.Key.String()
}

// Place is where an object was read.
type Place struct {
	File     string // "-" for standard input
	Document int    // from 1; empty documents do not count
	Item     int    // in a list from 0, else -1
	Line     int    // of the file, from 1, where the document or item begins; 0: not known
}

// String is `"dev.yaml": document 2: items[3] (line 9)`.
func (p Place) String() string {
	s := fmt.Sprintf("%q", p.File)
	if p.Document == 0 {
		return s
	}
	s += fmt.Sprintf(": document %d", p.Document)
	if p.Item >= 0 {
		s += fmt.Sprintf(": items[%d]", p.Item)
	}
	if p.Line > 0 {
		s += fmt.Sprintf(" (line %d)", p.Line)
	}
	return s
}

// Object is one object; the field of its kind is set. Of a NetworkPolicy only name, namespace and spec are kept.
type Object struct {
	Place     Place
	Namespace *model.Namespace
	Pod       *model.Pod
	Policy    *networkingv1.NetworkPolicy
}

// ID is the object's kind and name.
func (o *Object) ID() ID {
	switch {
	case o.Namespace != nil:
		return ID{Namespace, model.Key{Name: o.Namespace.Name}}
	case o.Pod != nil:
		return ID{Pod, o.Pod.Key}
	case o.Policy != nil:
		return ID{NetworkPolicy, model.Key{Namespace: o.Policy.Namespace, Name: o.Policy.Name}}
	}
	return ID{}
}

// Options are for every reader.
type Options struct {
	// Skipped is told of objects of other kinds; may be nil.
	Skipped func(place Place, apiVersion, kind string)
	// Warn is told of what is left out and perhaps should not be; may be nil. Its errors have hints.
	Warn func(place Place, err error)
	// Stdin is what the path "-" reads.
	Stdin io.Reader
}

// MaxSize is the largest input, bytes.
const MaxSize = 1 << 30

// Read reads the objects of one input. file names it in errors. An error has exit status 65 and names the document and key.
func Read(r io.Reader, file string, o Options) ([]Object, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", file, err)
	}
	return readBytes(data, file, o)
}

func readBytes(data []byte, file string, o Options) ([]Object, error) {
	if len(data) > MaxSize {
		return nil, exit.Errorf(exit.BadInput, "read %q: larger than %d bytes", file, MaxSize)
	}
	found, err := parse(file, data, o, nil)
	if err != nil {
		return nil, err
	}
	out := make([]Object, 0, len(found))
	for _, f := range found {
		if f.object != nil {
			out = append(out, *f.object)
		}
	}
	return out, unique(out)
}

// ReadPath reads a file, the *.yaml, *.yml and *.json of a directory, or standard input ("-").
func ReadPath(path string, o Options) ([]Object, error) {
	if path == "-" {
		return Read(o.Stdin, path, o)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, missing(path, err)
	}
	if !st.IsDir() {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		return readBytes(data, path, o)
	}
	files, err := list(path)
	if err != nil {
		return nil, err
	}
	o.warnUnread(path, files)
	var out []Object
	for _, f := range files {
		data, err := readFile(f)
		if err != nil {
			return nil, err
		}
		got, err := readBytes(data, f, o)
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	return out, unique(out)
}

func missing(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	err = fmt.Errorf("read objects %q: %w", path, err)
	switch {
	case isDangling(path):
		return exit.WithHint(err, "it is a symbolic link that points at nothing: correct or remove it")
	case errors.Is(err, fs.ErrNotExist):
		return exit.WithHint(err, "make the directory and put the manifests of policies, namespaces and pods into it, or give another path with --objects")
	}
	return err
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		return nil, exit.Errorf(exit.BadInput, "read %q: not a regular file (%s)", path, st.Mode().Type())
	}
	if err == nil && st.Size() > MaxSize {
		return nil, exit.Errorf(exit.BadInput, "read %q: larger than %d bytes", path, MaxSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, missing(path, err)
	}
	return data, nil
}

// list is the files of a directory that are read, sorted.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, missing(dir, err)
	}
	var out []string
	for _, e := range entries {
		if wanted(e.Name()) && !e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// wanted says whether a directory's file is read. Hidden ones are editors' and a ConfigMap volume's own.
func wanted(name string) bool {
	ext := filepath.Ext(name)
	return !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml" || ext == ".json")
}

// unique refuses two objects of one name.
func unique(objects []Object) error {
	seen := make(map[ID]Place, len(objects))
	for i := range objects {
		id := objects[i].ID()
		if first, ok := seen[id]; ok {
			return twice(id, first, objects[i].Place)
		}
		seen[id] = objects[i].Place
	}
	return nil
}

func twice(id ID, first, second Place) error {
	return exit.WithHint(exit.Errorf(exit.BadInput, "read %s: %s is also in %s", second, id, first), "remove one of the two")
}

// Load puts objects into a cluster.
func Load(c *model.Cluster, objects []Object) error {
	for i := range objects {
		if err := objects[i].Put(c); err != nil {
			return fmt.Errorf("read %s: %w", objects[i].Place, err)
		}
	}
	return nil
}

// Put adds the object to a cluster, or replaces it there.
func (o *Object) Put(c *model.Cluster) error {
	switch {
	case o.Namespace != nil:
		c.SetNamespace(*o.Namespace)
	case o.Pod != nil:
		c.SetPod(*o.Pod)
	case o.Policy != nil:
		return c.SetPolicy(o.Policy)
	}
	return nil
}

func comparePlaces(a, b Place) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Document, b.Document), cmp.Compare(a.Item, b.Item))
}

// sorted is the IDs of a map in the order of kinds, namespaces and names.
func sorted[V any](m map[ID]V) []ID {
	out := make([]ID, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b ID) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Key.Namespace, b.Key.Namespace), strings.Compare(a.Key.Name, b.Key.Name))
	})
	return out
}
