package nstest

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// Programs is Main for the tests of programs: the test binary is also each of them, under its name in
// $PATH, so that scripts and examples run what was just built.
//
//	func TestMain(m *testing.M) { nstest.Programs(m, map[string]func(){"vxlan-setup": main}) }
func Programs(m *testing.M, mains map[string]func()) {
	Main(func() int {
		testscript.Main(m, mains)
		return 0
	})
}

// Scripts runs the scripts in dir, each command of them by `exec`. setup, if not nil, is called for
// each.
func Scripts(t *testing.T, p testscript.Params) {
	t.Helper()
	Need(t)
	setup := p.Setup
	p.RequireExplicitExec = true
	p.Setup = func(e *testscript.Env) error {
		e.Setenv(inside, os.Getenv(inside))
		if setup == nil {
			return nil
		}
		return setup(e)
	}
	testscript.Run(t, p)
}

// scripts counts the namespaces of InNamespace.
var scripts atomic.Int32

// InNamespace is a Setup for Scripts that gives each script a network namespace of its own, whose name is in $NS.
func InNamespace(e *testscript.Env) error {
	ns := "script-" + strconv.Itoa(int(scripts.Add(1)))
	if err := exec.Command("ip", "netns", "add", ns).Run(); err != nil {
		return err
	}
	e.Defer(func() { exec.Command("ip", "netns", "del", ns).Run() }) //nolint:errcheck // the whole goes with the test's own namespaces
	e.Setenv("NS", ns)
	return nil
}

// example is where a README's example works when a person types it in.
const example = "/tmp/towpath-example"

// Readme types in the example of the README.md in the working directory and compares what it prints:
// the first ```sh block is the script, the first ```text block its standard output. /tmp/towpath-example
// is another directory in the test. level, if not nil, makes both texts comparable where they hold
// times, process ids and the like. It returns what was printed.
func Readme(t *testing.T, level func(string) string) string {
	t.Helper()
	Need(t)
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		m := regexp.MustCompile("(?s)\n```" + kind + "\n(.*?)```").FindSubmatch(page)
		if m == nil {
			t.Fatalf("README.md has no block of %s", kind)
		}
		return string(m[1])
	}
	if level == nil {
		level = func(text string) string { return text }
	}
	dir := t.TempDir() + "/example"
	cmd := exec.Command("bash", "-c", "set -euo pipefail\n"+strings.ReplaceAll(block("sh"), example, dir))
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.WaitDelay = time.Minute // what the example leaves running has its output
	var stderr strings.Builder
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	out := strings.ReplaceAll(string(data), dir, example)
	if err != nil {
		t.Fatalf("the example: %v\n%s%s", err, out, stderr.String())
	}
	if diff := cmp.Diff(level(block("text")), level(out)); diff != "" {
		t.Errorf("the example (-README.md +printed):\n%s", diff)
	}
	return out
}
