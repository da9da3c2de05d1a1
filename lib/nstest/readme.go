package nstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Readme types in the example of the README.md in the working directory and compares what it prints:
// the first ```sh block is the script, the first ```text block its standard output. program is found
// as the test binary itself (see Program).
func Readme(t *testing.T, program string) {
	t.Helper()
	Need(t)
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, kind := range []string{"sh", "text"} {
		m := regexp.MustCompile("(?s)```" + kind + "\n(.*?)```").FindSubmatch(page)
		if m == nil {
			t.Fatalf("README.md has no block of %s", kind)
		}
		blocks[kind] = string(m[1])
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s \"$@\"\n", asProgram, self)
	if err := os.WriteFile(filepath.Join(bin, program), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", "set -euo pipefail\n"+blocks["sh"])
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Dir = t.TempDir()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || string(out) != blocks["text"] {
		t.Errorf("the example: %v\nit prints\n%s\nREADME.md says\n%s\nstderr:\n%s", err, out, blocks["text"], stderr.String())
	}
}
