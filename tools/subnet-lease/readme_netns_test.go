//go:build netns

package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
)

// TestReadme types the README's example in and compares what it prints.
func TestReadme(t *testing.T) {
	nstest.Need(t)
	blocks := regexp.MustCompile("(?s)```(?:sh|text)\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks in README.md, not a script and its output", len(blocks))
	}
	var errs strings.Builder
	cmd := exec.Command("sh", "-eu")
	cmd.Stdin, cmd.Stderr = strings.NewReader(blocks[0][1]), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	left := regexp.MustCompile(`23h59m\d\ds`) // of 24h0m0s, on a slow machine
	if diff := cmp.Diff(blocks[1][1], left.ReplaceAllString(string(out), "24h0m0s")); diff != "" {
		t.Errorf("(-README.md +printed):\n%s", diff)
	}
}
