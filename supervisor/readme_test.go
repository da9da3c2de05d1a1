package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
)

// TestReadmeExample: typed by hand, the example prints what the README says, but for the numbers of
// processes, ages and the width of columns.
func TestReadmeExample(t *testing.T) {
	nstest.Need(t) // the supervisor that it kills leaves processes until the next one has them
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
	dir := t.TempDir() + "/example"
	cmd := exec.Command("sh", "-ec", strings.ReplaceAll(block("sh"), "/tmp/towpath-example", dir))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Minute // what it leaves running has its output
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	if diff := cmp.Diff(level(block("text")), level(strings.ReplaceAll(string(out), dir, "/tmp/towpath-example"))); diff != "" {
		t.Errorf("(-README +printed)\n%s", diff)
	}
	guests := regexp.MustCompile(`(?m)^guest +ready +(\d+) `).FindAllStringSubmatch(string(out), -1)
	if len(guests) != 2 || guests[0][1] != guests[1][1] {
		t.Errorf("the guest is another process: %v", guests)
	}
}

func level(text string) []string {
	text = regexp.MustCompile(`process \d+`).ReplaceAllString(text, "process N")
	text = regexp.MustCompile(`ready +\d+`).ReplaceAllString(text, "ready N")
	text = regexp.MustCompile(`\b\d+s\b`).ReplaceAllString(text, "0s")
	text = regexp.MustCompile(` +`).ReplaceAllString(text, " ")
	return strings.Split(text, "\n")
}
