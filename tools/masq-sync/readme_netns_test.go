//go:build netns

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
)

// TestReadmeExample: typed by hand, the example prints what the README says.
func TestReadmeExample(t *testing.T) {
	nstest.Need(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		_, after, ok := strings.Cut(string(readme), "```"+kind+"\n")
		text, _, end := strings.Cut(after, "```\n")
		if !ok || !end {
			t.Fatalf("the README has no block of %s", kind)
		}
		return text
	}
	cmd := exec.Command("sh", "-ec", strings.ReplaceAll(block("sh"), "/tmp/towpath-example", t.TempDir()))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	got := strings.Split(string(out), "\n")
	want := strings.Split(block("text"), "\n")
	for _, lines := range [][]string{got, want} { // the directory is another one
		for i, l := range lines {
			if strings.HasSuffix(l, "/masq.json") {
				lines[i] = strings.Fields(l)[0] + " masq.json"
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-README +printed)\n%s", d)
	}
}
