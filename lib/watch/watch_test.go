package watch

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
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
		if !c.All && c.Has(filepath.Join(dir, "other.json")) {
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

// TestDirectoriesMadeInOneGo: each directory of a path may appear between two looks at it.
func TestDirectoriesMadeInOneGo(t *testing.T) {
	root := t.TempDir()
	for n := range 300 {
		top := filepath.Join(root, strconv.Itoa(n))
		dir := filepath.Join(top, "run", "towpath", "peers")
		ctx, end := context.WithCancel(t.Context())
		c, err := New(ctx, Options{Dirs: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		until(t, c, "directory made", func(c Change) bool { return c.All })
		end()
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
	<-time.After(500 * time.Millisecond) // nobody receives meanwhile
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

// TestMoved: what is looked at without an inotify instance counts as changed when it did, or may have.
func TestMoved(t *testing.T) {
	dir := t.TempDir()
	file, small, large := filepath.Join(dir, "lease.json"), filepath.Join(dir, "small"), filepath.Join(dir, "large")
	for path, n := range map[string]int{small: 3, large: entriesMax + 1} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			write(t, filepath.Join(path, strconv.Itoa(i)), "")
		}
	}
	w := &watcher{files: map[string][]string{dir: {file}}, dirs: map[string]bool{small: true, large: true, filepath.Join(dir, "none"): true}}
	later := time.Now().Add(time.Hour)
	if !w.moved(later) {
		t.Error("the first look is no news")
	}
	if !w.moved(time.Now()) {
		t.Error("what has only just changed cannot have changed again")
	}
	for _, c := range []struct {
		what   string
		change func()
		news   bool
	}{
		{"nothing", func() {}, false},
		{"a file that comes", func() { write(t, file, "1") }, true},
		{"a file that is replaced", func() { write(t, file, "2") }, true},
		{"another file", func() { write(t, filepath.Join(dir, "other"), "2") }, false},
		{"an entry written in place", func() { os.WriteFile(filepath.Join(small, "1"), []byte("1"), 0o644) }, true},
		{"an entry that goes", func() { os.Remove(filepath.Join(small, "1")) }, true},
		{"an entry of many that goes", func() { os.Remove(filepath.Join(large, "1")) }, true},
		{"an entry of many that is replaced", func() { write(t, filepath.Join(large, "2"), "2") }, true},
		{"a directory that goes", func() { os.RemoveAll(small) }, true},
	} {
		<-time.After(20 * time.Millisecond) // a tick of the kernel's clock
		if c.change(); w.moved(later) != c.news {
			t.Errorf("%s: news %v", c.what, !c.news)
		}
	}
}

// TestScarce: without an inotify instance a change is a hint at everything, and once there is one, at what changes.
func TestScarce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "lease.json")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	// The kernel answers a process that may open no more files as it answers where all instances are taken.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	c, err := New(t.Context(), Options{Files: []string{file}})
	if err != nil {
		restore()
		t.Fatal(err)
	}
	until(t, c, "without an instance", func(c Change) bool { return c.All })
	restore()
	deadline := time.After(20 * time.Second)
	for n := 0; ; n++ {
		write(t, file, strconv.Itoa(n))
		select {
		case change := <-c:
			if change.Has(file) && !change.All {
				return
			}
		case <-deadline:
			t.Fatal("with an instance again: the file is not reported")
		}
	}
}
