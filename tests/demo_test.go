//go:build netns

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo runs the demo on each back end and in each stack, though not in all of their combinations, which are `make demo-all`; every check
// of it must pass. It needs `make build` and root.
func TestDemo(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "bin", "tests", "cnitool")); err != nil {
		t.Fatalf("%v: run the tests with make test", err)
	}
	for _, args := range []string{"vxlan ipv4", "vxlan dual", "vxlan-direct ipv6", "host-gw dual", "udp ipv4", "udp dual", "wireguard dual"} {
		t.Run(args, func(t *testing.T) {
			out, err := exec.Command(filepath.Join(root, "scripts", "demo"), strings.Fields(args)...).CombinedOutput()
			if err != nil {
				t.Fatalf("scripts/demo %s: %v\n%s", args, err, out)
			}
			if strings.Contains(string(out), "FAILED") || !strings.Contains(string(out), "checks passed") {
				t.Errorf("scripts/demo %s:\n%s", args, out)
			}
		})
	}
}
