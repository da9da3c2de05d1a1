package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// TestRehearse: the files of the copy are written, and nothing else is done.
func TestRehearse(t *testing.T) {
	dir := Dir(t.TempDir())
	outside := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir.Routes(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	kernel := plan.Func{Text: "ip link del eth0", Run: func(context.Context) error { return errors.New("done") }}
	asks := plan.Func{Text: "write link.json", File: dir.Link(), Run: kernel.Run, Write: func(context.Context) error {
		return os.WriteFile(dir.Link(), nil, 0o644)
	}}
	ops := []plan.Op{kernel, WriteBytesOp(dir.Lease(), []byte("x")), WriteBytesOp(outside, []byte("x")), asks, RemoveOp(dir.Routes())}
	if err := dir.Rehearse(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir.Lease(): true, dir.Link(): true, dir.Routes(): true, outside: false} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) == want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir.Lock("any")), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := dir.Rehearse(t.Context(), ops); exit.Of(err) != exit.Usage {
		t.Errorf("in a directory in use: %v", err)
	}
}
