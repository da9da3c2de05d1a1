package objects

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// follower keeps what a source told.
type follower struct {
	t       *testing.T
	dir     string
	batches <-chan []Event
	have    map[string]string // object to its labels or its first port
	faults  []error
	synced  bool
	sets    int // objects that were told as set
}

func follow(t *testing.T, path string, period time.Duration) *follower {
	t.Helper()
	c, err := (&Files{Path: path, Period: period}).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &follower{t: t, dir: path, batches: c, have: map[string]string{}}
}

func (f *follower) take(batch []Event) {
	for _, e := range batch {
		switch {
		case e.Status:
			f.faults = e.Faults
		case e.Synced:
			f.synced = true
		case e.Deleted:
			delete(f.have, e.ID.String())
		case e.Object.Pod != nil:
			f.have[e.ID.String()] = e.Object.Pod.Labels["v"]
			f.sets++
		default:
			f.have[e.ID.String()] = ""
			f.sets++
		}
	}
}

// until takes batches until the objects are these ("Pod dev/a=1 …", sorted) and there are this many faults.
func (f *follower) until(what, want string, faults int) {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		var got []string
		for k, v := range f.have {
			got = append(got, k+"="+v)
		}
		slices.Sort(got)
		if strings.Join(got, " ") == want && len(f.faults) == faults {
			return
		}
		select {
		case b := <-f.batches:
			f.take(b)
		case <-deadline:
			f.t.Fatalf("%s: have %v, faults %v", what, got, f.faults)
		}
	}
}

func (f *follower) write(name, text string) {
	f.t.Helper()
	tmp := filepath.Join(f.dir, "."+name+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(f.dir, name)); err != nil {
		f.t.Fatal(err)
	}
}

func onePod(name, v string) string {
	return fmt.Sprintf("---\nkind: Pod\nmetadata: {name: %s, namespace: dev, labels: {v: '%s'}}\n", name, v)
}

func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	f := follow(t, dir, 0)
	f.until("no directory", "", 1)
	if f.synced {
		t.Fatal("synced without a directory")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f.until("empty directory", "", 0)
	if !f.synced {
		t.Fatal("not synced with an empty directory")
	}
	f.write("a.yaml", onePod("x", "1")+onePod("y", "1"))
	f.until("new file", "Pod dev/x=1 Pod dev/y=1", 0)
	f.sets = 0
	f.write("a.yaml", onePod("x", "1")+onePod("y", "2"))
	f.until("changed file", "Pod dev/x=1 Pod dev/y=2", 0)
	if f.sets != 1 {
		t.Errorf("%d objects were told for one change", f.sets)
	}
	f.write("a.yaml", onePod("x", "3")+"---\nkind: Pod\nmetadata: {name: Y}\n")
	f.until("bad file", "Pod dev/x=1 Pod dev/y=2", 1)
	if !strings.Contains(f.faults[0].Error(), "a.yaml") || !strings.Contains(f.faults[0].Error(), "document 2") {
		t.Errorf("fault %v", f.faults[0])
	}
	f.write("a.yaml", onePod("n", "1")+onePod("n", "2"))
	f.until("new object twice in a file", "Pod dev/x=1 Pod dev/y=2", 1)
	f.write("a.yaml", onePod("x", "1")+onePod("x", "2"))
	f.until("object twice in a file", "Pod dev/x=1 Pod dev/y=2", 1)
	f.write("b.yaml", onePod("z", "1"))
	f.until("another file beside it", "Pod dev/x=1 Pod dev/y=2 Pod dev/z=1", 1)
	f.write("a.yaml", onePod("x", "3"))
	f.until("repaired file", "Pod dev/x=3 Pod dev/z=1", 0)
	f.write("b.yaml", "")
	f.until("emptied file", "Pod dev/x=3 Pod dev/z=1", 1)
	f.write("b.yaml", onePod("z", "1"))
	f.until("filled file", "Pod dev/x=3 Pod dev/z=1", 0)
	f.write("c.yaml", onePod("x", "9"))
	f.until("object twice", "Pod dev/x=3 Pod dev/z=1", 1)
	os.Remove(filepath.Join(dir, "a.yaml"))
	f.until("first of them gone", "Pod dev/x=9 Pod dev/z=1", 0)
	f.write("a.yaml", onePod("z", "7"))
	f.until("object twice again", "Pod dev/x=9 Pod dev/z=1", 1)
	f.write("b.yaml", "kind: Service\n---\nkind: Service\n")
	f.until("object moved to an earlier file", "Pod dev/x=9 Pod dev/z=7", 0)
	os.Rename(dir, dir+".old")
	f.until("directory gone", "Pod dev/x=9 Pod dev/z=7", 1)
	os.Rename(dir+".old", dir)
	f.until("directory back", "Pod dev/x=9 Pod dev/z=7", 0)
}

func TestBadFileAtTheStartIsNotSynced(t *testing.T) {
	dir := t.TempDir()
	f := &follower{t: t, dir: dir}
	f.write("a.yaml", onePod("x", "1"))
	f.write("b.yaml", "kind: Pod\n")
	f = follow(t, dir, 0)
	f.until("start", "Pod dev/x=1", 1)
	if f.synced {
		t.Error("synced while a file cannot be read")
	}
	f.write("b.yaml", onePod("y", "1"))
	f.until("repaired", "Pod dev/x=1 Pod dev/y=1", 0)
	if !f.synced {
		t.Error("not synced")
	}
}

// TestLargeBadFileAtTheStart tells of a file while reading it, and takes it back when its end is bad.
func TestLargeBadFileAtTheStart(t *testing.T) {
	var many strings.Builder
	for i := range 3 * flushAt {
		many.WriteString(onePod(fmt.Sprintf("p%d", i), "1"))
	}
	for name, end := range map[string]string{"bad object": "---\nkind: Pod\n", "object twice": onePod("p0", "2")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := &follower{t: t, dir: dir}
			f.write("b.yaml", many.String()+end)
			f = follow(t, dir, 0)
			f.until("start", "", 1)
			if f.sets != 3*flushAt || f.synced {
				t.Errorf("%d objects were told, synced %v", f.sets, f.synced)
			}
			f.write("b.yaml", onePod("x", "1"))
			f.until("repaired", "Pod dev/x=1", 0)
			if !f.synced {
				t.Error("not synced")
			}
		})
	}
}

func TestFileThatGoesKeepsItsObjects(t *testing.T) {
	f := &follower{t: t, dir: t.TempDir()}
	f.write("a.yaml", onePod("x", "1"))
	file := filepath.Join(f.dir, "a.yaml")
	g := follow(t, file, 0)
	g.until("start", "Pod dev/x=1", 0)
	os.Remove(file)
	g.until("gone", "Pod dev/x=1", 1)
	f.write("a.yaml", onePod("x", "2"))
	g.until("back", "Pod dev/x=2", 0)
}

func TestConfigMapVolume(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"1", "2"} {
		os.Mkdir(filepath.Join(dir, "..v"+v), 0o755)
		os.WriteFile(filepath.Join(dir, "..v"+v, "a.yaml"), []byte(onePod("x", v)), 0o644)
	}
	os.Symlink("..v1", filepath.Join(dir, "..data"))
	os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml"))
	f := follow(t, dir, 0)
	f.until("start", "Pod dev/x=1", 0)
	os.Symlink("..v2", filepath.Join(dir, "..data_tmp"))
	os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	f.until("swapped", "Pod dev/x=2", 0)
}

func TestPeriodSeesWhatNoHintTold(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "a")
	os.WriteFile(outside, []byte(onePod("x", "1")), 0o644)
	os.Symlink(outside, filepath.Join(dir, "a.yaml"))
	f := follow(t, dir, 10*time.Millisecond)
	f.until("start", "Pod dev/x=1", 0)
	os.WriteFile(outside, []byte(onePod("x", "22")), 0o644)
	f.until("written elsewhere", "Pod dev/x=22", 0)
}

func TestApply(t *testing.T) {
	text := "kind: Namespace\nmetadata: {name: dev, labels: {a: b}}\n" + onePod("x", "1") + "---\n" + policyHead + "spec: {podSelector: {}}\n"
	s, err := Open("-", Options{Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
	batches, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := model.New("")
	batch := <-batches
	for i := range batch {
		if err := batch[i].Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	c.Commit()
	if len(c.Pods()) != 1 || len(c.Policies()) != 1 || c.Namespaces()[0].Labels["a"] != "b" || !batch[len(batch)-1].Synced {
		t.Errorf("got %v %v %v", c.Pods(), c.Policies(), c.Namespaces())
	}
	for i := range batch {
		gone := Event{ID: batch[i].ID, Deleted: true}
		if err := gone.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	c.Commit()
	if len(c.Pods())+len(c.Policies())+len(c.Namespaces()) != 0 {
		t.Errorf("left %v %v %v", c.Pods(), c.Policies(), c.Namespaces())
	}
}
