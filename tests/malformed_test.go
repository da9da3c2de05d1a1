//go:build netns

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	nstest.Run(t, name, args...)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestMalformedInputs gives every program each of its input files broken in every way: it must end
// 65 or 78, name the file, and leave the kernel alone.
func TestMalformedInputs(t *testing.T) {
	for _, c := range []struct {
		backend, program string
		inputs           func(n *node) []string
	}{
		{"vxlan", "subnet-lease", func(n *node) []string { return []string{n.netConf, n.run.Link()} }},
		{"vxlan", "vxlan-setup", func(n *node) []string { return []string{n.run.Backend("vxlan")} }},
		{"host-gw", "hostgw-setup", func(n *node) []string { return []string{n.run.Backend("host-gw")} }},
		{"vxlan", "route-sync", func(n *node) []string {
			return []string{n.run.Lease(), n.run.Link(), n.run.Peer("z"), n.run.PeersSynced()}
		}},
		{"extension", "extension-setup", func(n *node) []string {
			return []string{n.run.Backend("extension"), n.run.Lease(), n.run.Peer("z"), n.run.PeersSynced()}
		}},
		{"vxlan", "masq-sync", func(n *node) []string { return []string{n.run.Lease()} }},
		{"vxlan", "cni-bridge", func(n *node) []string { return []string{n.run.Lease(), n.run.Link(), n.cniConf} }},
	} {
		t.Run(c.program, func(t *testing.T) {
			backend := backendOf(t, c.backend)
			n := newNode(t, "a", ipv4.address(1), backend.netConf(ipv4), filepath.Join(t.TempDir(), "store"))
			for _, s := range backend.steps() {
				n.must(s, "apply")
			}
			write(t, n.run.Peer("z"), peerZ)
			if c.program == "route-sync" { // what it made before stays, whatever its inputs become
				n.must("route-sync", "apply")
			}
			before := n.kernel()
			for _, path := range c.inputs(n) {
				good := read(t, path)
				for kind, text := range broken(good) {
					t.Run(filepath.Base(path)+" "+kind, func(t *testing.T) {
						write(t, path, text)
						defer write(t, path, good)
						for _, verb := range []string{"plan", "apply"} {
							code, _, errs := n.exec(c.program, verb)
							if code != 65 && code != 78 {
								t.Errorf("%s: exit status %d\n%s", verb, code, errs)
							}
							if !strings.Contains(errs, path) {
								t.Errorf("%s: the file is not named: %s", verb, errs)
							}
							if kind == "newer version" && !strings.Contains(errs, "version") {
								t.Errorf("%s: the key is not named: %s", verb, errs)
							}
						}
						if diff := cmp.Diff(before, n.kernel()); diff != "" {
							t.Errorf("the kernel was changed (-before +after):\n%s", diff)
						}
					})
				}
			}
		})
	}
}

const peerZ = `{
  "version": 1,
  "backend": {"data": {"VNI": 1, "VtepMAC": "62:00:00:00:00:01"}, "type": "vxlan"},
  "node": "z",
  "publicIP": {"ipv4": "192.168.7.2"},
  "subnet": {"ipv4": "10.244.1.0/24"}
}
`

// broken are the ways in which a file can be no good.
func broken(good string) map[string]string {
	b := map[string]string{
		"empty":     "",
		"truncated": good[:len(good)/2],
		"malformed": "Network=10.244.0.0/16\n",
		"binary":    "\x7fELF\x00\x01\x02",
		"an array":  "[1, 2]\n",
		"huge":      strings.Repeat(" ", 2*state.MaxSize) + good,
	}
	if strings.Contains(good, `"version": 1`) {
		b["newer version"] = strings.Replace(good, `"version": 1`, `"version": 99`, 1)
		b["no version"] = strings.Replace(good, `"version": 1`, `"edition": 1`, 1)
	}
	return b
}

// TestMissingInput: an input that is not there yet is status 75, and nothing is removed.
func TestMissingInput(t *testing.T) {
	n := newNode(t, "a", ipv4.address(1), backendOf(t, "vxlan").netConf(ipv4), filepath.Join(t.TempDir(), "store"))
	for _, s := range []string{"subnet-lease", "vxlan-setup", "subnet-lease", "route-sync", "masq-sync", "cni-bridge"} {
		n.must(s, "apply")
	}
	write(t, n.run.Peer("z"), peerZ)
	n.must("route-sync", "apply")
	before := n.kernel()
	if !strings.Contains(before, "10.244.1.0/24") {
		t.Fatalf("no route to the peer:\n%s", before)
	}
	if err := exec.Command("rm", "-rf", string(n.run)).Run(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"vxlan-setup", "route-sync", "masq-sync", "cni-bridge"} {
		if code, _, errs := n.exec(p, "apply"); code != 75 {
			t.Errorf("%s without inputs: exit status %d\n%s", p, code, errs)
		}
	}
	if diff := cmp.Diff(before, n.kernel()); diff != "" {
		t.Errorf("the kernel was changed (-before +after):\n%s", diff)
	}
}
