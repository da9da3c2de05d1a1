//go:build netns

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
)

// TestReadmeExample types the example in, and compares what it prints with what the page says.
func TestReadmeExample(t *testing.T) {
	nstest.Need(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		_, rest, _ := strings.Cut(string(page), "\n```"+kind+"\n")
		text, _, ok := strings.Cut(rest, "```\n")
		if !ok {
			t.Fatalf("README.md has no block of %s", kind)
		}
		return text
	}
	cmd := exec.Command("bash", "-e")
	cmd.Stdin = strings.NewReader(block("sh"))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
	if diff := cmp.Diff(block("text"), out.String()); diff != "" {
		t.Errorf("what it prints (-README +really):\n%s", diff)
	}
}
