package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestContents(t *testing.T) {
	dir := t.TempDir() + "/"
	file := filepath.Join(dir, "a")
	var c contents
	sum := func(path string) string { return c.sums([]string{path})[path] }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if sum(file) != "" || sum(dir+"none/") != "" {
		t.Error("what is missing has a digest")
	}
	write("a", "1")
	one, listing := sum(file), sum(dir)
	if one == "" || listing == "" {
		t.Error("no digest")
	}
	write("a", "2") // same size, in the same tick of the clock
	if sum(file) == one || sum(dir) == listing {
		t.Error("a change is not seen")
	}
	write("a", "1")
	write(".a.1.tmp", "unfinished")
	if sum(file) != one || sum(dir) != listing {
		t.Error("the same bytes are a change")
	}
	write("b", "1")
	if sum(dir) == listing {
		t.Error("a new entry is not seen")
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if sum(dir) != listing {
		t.Error("an entry that went is not seen")
	}
	if len(c.known) != 1 {
		t.Errorf("%d files are remembered, of which one exists", len(c.known))
	}
}

func TestContentsReadsOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, past, past); err != nil {
		t.Fatal(err)
	}
	c := contents{}
	c.file(file)
	d := c.known[file]
	d.sum = "remembered"
	c.known[file] = d
	if c.file(file) != "remembered" {
		t.Error("an unchanged file is read again")
	}
}

// TestContentsOpensNoPipe: reading one would wait for ever.
func TestContentsOpensNoPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var c contents
	if c.file(pipe) == "" {
		t.Error("a pipe counts as missing")
	}
}

func BenchmarkContents(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) {
			dir := b.TempDir() + "/"
			past := time.Now().Add(-time.Hour)
			for i := range n {
				file := filepath.Join(dir, fmt.Sprint(i))
				if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
					b.Fatal(err)
				}
				if err := os.Chtimes(file, past, past); err != nil {
					b.Fatal(err)
				}
			}
			var c contents
			for b.Loop() {
				c.directory(dir)
			}
		})
	}
}
