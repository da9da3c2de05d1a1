package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBuildIsReproducible builds a program twice, the second time from a copy of the tree elsewhere,
// and compares the bytes.
func TestBuildIsReproducible(t *testing.T) {
	build := func(dir string) []byte {
		out := filepath.Join(t.TempDir(), "vxlan-setup")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", out, "./tools/vxlan-setup")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "PWD="+dir)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build in %s: %v\n%s", dir, err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for _, part := range []string{"lib", "packaging", "supervisor", "tests", "tools", "go.work", "go.work.sum"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(here, part), elsewhere).CombinedOutput(); err != nil {
			t.Fatalf("copy: %v\n%s", err, out)
		}
	}
	if !bytes.Equal(build(here), build(elsewhere)) {
		t.Error("two builds of the same source differ")
	}
}
