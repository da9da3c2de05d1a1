package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReplace: a copy, its permissions, nothing beside it; and after a failure what was there.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	src, link, dst := filepath.Join(dir, "src"), filepath.Join(dir, "link"), filepath.Join(dir, "out", "dst")
	if err := os.WriteFile(src, []byte("new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(src, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(dst), 0o755); err != nil {
		t.Fatal(err)
	}
	check := func(path, text string, mode os.FileMode) {
		t.Helper()
		have, err := os.ReadFile(path)
		if err != nil || string(have) != text {
			t.Errorf("%q, %v", have, err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if entries, err := os.ReadDir(filepath.Dir(dst)); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
	}
	if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "none"), dir} {
		if err := replace(bad, dst); err == nil {
			t.Errorf("%s was copied", bad)
		}
		check(dst, "old", 0o600)
	}
	if err := replace(link, dst); err != nil { // the CNI plugin is a link in the image
		t.Fatal(err)
	}
	check(dst, "new", 0o755)
	if err := os.Remove(dst); err != nil {
		t.Fatal(err)
	}
	if err := replace(src, filepath.Dir(dst)); err != nil {
		t.Fatal(err)
	}
	check(filepath.Join(filepath.Dir(dst), "src"), "new", 0o755)
}
