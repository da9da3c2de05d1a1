package state

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath/towpath/lib/exit"
)

func TestWriteFileFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"real/below", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"direct": "other/file", "absolute": filepath.Join(dir, "other", "abs"), "chain": "direct2", "direct2": "other/chained",
		"byDir": "real/below", "real/below/up": "../file", "dangling": "other/new/file",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other/file"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, file := range map[string]string{
		"direct": "other/file", "absolute": "other/abs", "chain": "other/chained", "byDir/up": "real/file", "dangling": "other/new/file",
	} {
		for round, want := range []bool{true, false} {
			if changed, err := WriteFile(filepath.Join(dir, link), []byte("new"), 0o644); err != nil || changed != want {
				t.Errorf("%s, round %d: changed %v, %v", link, round, changed, err)
			}
		}
		if text, err := os.ReadFile(filepath.Join(dir, file)); string(text) != "new" {
			t.Errorf("%s: %s holds %q, %v", link, file, text, err)
		}
		if st, err := os.Lstat(filepath.Join(dir, link)); err != nil || st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s is no link any longer: %v", link, err)
		}
	}
	os.Symlink("loop", filepath.Join(dir, "loop"))
	if _, err := WriteFile(filepath.Join(dir, "loop"), nil, 0o644); err == nil {
		t.Error("a link to itself was written")
	}
}

// TestWriteFileRefusesOthers: what is no regular file stays what it is, and is not waited for.
func TestWriteFileRefusesOthers(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		mode uint32
		text string
	}{"fifo": {syscall.S_IFIFO, "a FIFO"}, "null": {syscall.S_IFCHR, "a device"}, "socket": {syscall.S_IFSOCK, "a socket"}} {
		path := filepath.Join(dir, name)
		if err := syscall.Mknod(path, tc.mode|0o600, 1<<8|3); err != nil {
			t.Fatal(err)
		}
		link := path + ".link"
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, link} {
			op := WriteBytesOp(p, []byte("x"))
			if op == nil {
				t.Fatalf("%s: holds the bytes already", p)
			}
			if err := op.Do(t.Context()); err == nil || exit.Of(err) != exit.BadInput || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%s: %v", p, err)
			}
		}
		if st, err := os.Lstat(path); err != nil || st.Mode().IsRegular() {
			t.Errorf("%s was replaced: %v", name, err)
		}
	}
	if op := RemoveOp(filepath.Join(dir, "null")); op.Do(t.Context()) == nil {
		t.Error("a device was removed")
	}
	if _, err := WriteFile(dir, []byte("x"), 0o644); err == nil || !strings.Contains(err.Error(), "a directory") {
		t.Errorf("directory: %v", err)
	}
}
