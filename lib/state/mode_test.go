package state

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

func TestModeOf(t *testing.T) {
	was := Registry
	defer func() { Registry = was }()
	Registry = append(slices.Clone(was), File{Name: "secret.json", Mode: private}, File{Name: "/var/lib/KIND.key", Mode: private})
	for path, want := range map[string]fs.FileMode{
		"/run/towpath/lease.json": public, "/run/towpath/secret.json": private, "secret.json": private,
		"/run/towpath/peers/secret.json": public, "/run/towpath/endpoints/a-eth0.json": public,
		"/var/lib/x.key": private, "/x/var/lib/x.key": public, "/elsewhere": public,
	} {
		if mode := ModeOf(path); mode != want {
			t.Errorf("%s: mode %o, want %o", path, mode, want)
		}
	}
}

// TestPrivateFileIsPrivate: from its first byte on, whatever was there, and whichever writer writes it.
func TestPrivateFileIsPrivate(t *testing.T) {
	was := Registry
	defer func() { Registry = was }()
	Registry = append(slices.Clone(was), File{Name: "secret.json", Mode: private})
	path := filepath.Join(t.TempDir(), "secret.json")
	check := func(what string) {
		t.Helper()
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != private {
			t.Errorf("%s: mode %v (%v)", what, st.Mode(), err)
		}
	}
	if _, err := Save(path, lease()); err != nil {
		t.Fatal(err)
	}
	check("new")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	op, err := WriteOp(path, lease())
	if err != nil || op == nil {
		t.Fatalf("a file that others can read is left so (%v)", err)
	}
	if err := op.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("the same bytes, open to others")
	if op, err := WriteOp(path, lease()); err != nil || op != nil {
		t.Errorf("once more: %v, %v", op, err)
	}
	left := filepath.Join(filepath.Dir(path), ".secret.json."+strconv.Itoa(os.Getpid())+".tmp")
	if err := os.WriteFile(left, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	other := lease()
	other.Node = "worker02"
	if changed, err := Save(path, other); err != nil || !changed {
		t.Fatal(changed, err)
	}
	check("over what a killed writer left")
}
