package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// until waits for a change that ok accepts.
func until(t *testing.T, c <-chan Change, what string, ok func(Change) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case change := <-c:
			if ok(change) {
				return
			}
		case <-deadline:
			t.Fatalf("%s: not reported", what)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), ".x.tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func TestFileByRename(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "lease.json")
	c, err := New(t.Context(), Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "1")
	until(t, c, "new file", func(c Change) bool { return c.Has(file) })
	write(t, filepath.Join(dir, "other.json"), "1")
	write(t, file, "2")
	until(t, c, "renamed over", func(c Change) bool {
		if c.Has(filepath.Join(dir, "other.json")) {
			t.Error("a file that is not watched was reported")
		}
		return c.Has(file)
	})
	os.Remove(file)
	until(t, c, "removed", func(c Change) bool { return c.Has(file) })
}

func TestDirectoryThatComesAndGoes(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run", "towpath", "peers")
	c, err := New(t.Context(), Options{Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		until(t, c, "directory made", func(c Change) bool { return c.All })
		peer := filepath.Join(dir, "a.json")
		write(t, peer, "1")
		until(t, c, "entry", func(c Change) bool { return c.Has(peer) })
		if err := os.RemoveAll(filepath.Join(root, "run")); err != nil {
			t.Fatal(err)
		}
		until(t, c, "directory removed", func(c Change) bool { return c.All })
	}
}

func TestConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"..1", "..2"} {
		os.Mkdir(filepath.Join(dir, v), 0o755)
		os.WriteFile(filepath.Join(dir, v, "net-conf.json"), []byte(v), 0o644)
	}
	os.Symlink("..1", filepath.Join(dir, "..data"))
	file := filepath.Join(dir, "net-conf.json")
	os.Symlink("..data/net-conf.json", file)
	c, err := New(t.Context(), Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	os.Symlink("..2", filepath.Join(dir, "..data_tmp"))
	os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	until(t, c, "swapped", func(c Change) bool { return c.Has(file) })
}

func TestSlowReceiverIsToldOnceOfAll(t *testing.T) {
	dir := t.TempDir()
	c, err := New(t.Context(), Options{Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, n := range []string{"a", "b", "c"} {
		write(t, filepath.Join(dir, n), "1")
		want[filepath.Join(dir, n)] = true
	}
	<-time.After(50 * time.Millisecond) // nobody receives meanwhile
	got := <-c
	for p := range want {
		if !got.Has(p) {
			t.Errorf("%s lost: %v", p, got)
		}
	}
}

func TestPeriod(t *testing.T) {
	c, err := New(t.Context(), Options{Dirs: []string{t.TempDir()}, Period: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	until(t, c, "period", func(c Change) bool { return c.All })
}
