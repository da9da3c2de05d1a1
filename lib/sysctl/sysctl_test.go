package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRoot: reading, comparing and setting go through the root that a program names.
func TestRoot(t *testing.T) {
	Root = t.TempDir()
	t.Cleanup(func() { Root = Default })
	const name = "net/ipv4/ip_forward"
	path := filepath.Join(Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if value, err := Get(name); err != nil || value != "0" {
		t.Errorf("%q, %v", value, err)
	}
	op, err := Want(name, "1")
	if err != nil || op == nil || op.String() != "sysctl -w net/ipv4/ip_forward=1" {
		t.Fatal(op, err)
	}
	if err := op.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(text), "1") {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := Get("net/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := Set("net/none", "1"); err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
