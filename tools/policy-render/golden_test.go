package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/objects"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// goldens are the story's steps.
func goldens(t *testing.T) []string {
	t.Helper()
	steps, err := filepath.Glob("testdata/golden/[0-9]*.yaml")
	if err != nil || len(steps) == 0 {
		t.Fatalf("no steps: %v", err)
	}
	return steps
}

// scriptOf is the ruleset of node n1 in a step of the story.
func scriptOf(t *testing.T, step, lease string, c render.Config) []byte {
	t.Helper()
	w := newWorld("n1", c)
	if lease != "" {
		path := filepath.Join(t.TempDir(), "lease.json")
		if err := os.WriteFile(path, []byte(lease), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := state.Load[state.Lease](path)
		if err != nil {
			t.Fatal(err)
		}
		w = newWorld("n1", withLease(c, &l))
	}
	for _, path := range []string{"testdata/golden/cluster.yaml", step} {
		list, err := objects.ReadPath(path, objects.Options{})
		if err == nil {
			err = objects.Load(w.cluster, list)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, changes := w.commit()
	return outputOf("", w.manifest(), changes).script()
}

var defaultConfig = render.Config{PoliceNode: true, DropInvalid: true, CutMark: 0x80000, LogGroup: 100, LogRate: "10/second"}

// dualLease is the lease of node n1, as node_netns_test.go has it.
const dualLease = `{
  "version": 1, "node": "n1", "ipMasq": true,
  "network": {"ipv4": "10.244.0.0/16", "ipv6": "fd00:244::/48"}, "subnet": {"ipv4": "10.244.1.0/24", "ipv6": "fd00:244:0:1::/64"},
  "publicIP": {"ipv4": "192.168.9.1"}, "interface": {"name": "eth0", "mtu": 1500, "ip": {"ipv4": "192.168.9.1"}},
  "backend": {"type": "vxlan", "port": 8472, "vni": 1}
}
`

// variants are ways to render one step.
func variants(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, step := range goldens(t) {
		out[strings.TrimSuffix(step, ".yaml")+".nft"] = scriptOf(t, step, dualLease, defaultConfig)
	}
	last := "testdata/golden/6-every-kind-of-rule.yaml"
	out["testdata/golden/without-lease.nft"] = scriptOf(t, last, "", defaultConfig)
	ipv4 := strings.NewReplacer(`, "ipv6": "fd00:244::/48"`, "", `, "ipv6": "fd00:244:0:1::/64"`, "").Replace(dualLease)
	open := defaultConfig
	open.PoliceNode, open.DropInvalid, open.CutMark, open.LogGroup, open.LogRate = false, false, 0, 7, "3/minute"
	out["testdata/golden/ipv4-all-off.nft"] = scriptOf(t, last, ipv4, open)
	return out
}

func TestGolden(t *testing.T) {
	for path, got := range variants(t) {
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s (-golden +rendered):\n%s", path, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
		}
	}
}
