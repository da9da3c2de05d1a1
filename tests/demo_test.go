//go:build netns

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo runs the demo on each back end; every check of it must pass. It needs `make build` and root.
func TestDemo(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "bin", "tests", "cnitool")); err != nil {
		t.Fatalf("%v: run the tests with make test", err)
	}
	for _, backend := range []string{"vxlan", "vxlan-direct", "host-gw"} {
		t.Run(backend, func(t *testing.T) {
			out, err := exec.Command(filepath.Join(root, "scripts", "demo"), backend).CombinedOutput()
			if err != nil {
				t.Fatalf("scripts/demo %s: %v\n%s", backend, err, out)
			}
			if strings.Contains(string(out), "FAILED") || !strings.Contains(string(out), "checks passed") {
				t.Errorf("scripts/demo %s:\n%s", backend, out)
			}
		})
	}
}
