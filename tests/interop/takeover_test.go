//go:build peer

package interop

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

// TestTakeOver runs flanneld on two nodes, makes one of them towpath's and flannel's again, and takes it over once more, while pods ping
// each other 100 times a second and two TCP connections carry data.
func TestTakeOver(t *testing.T) {
	for _, b := range []struct {
		name, conf string
		gap        bool // flanneld itself carries the packets, so none pass until the other does
	}{
		{"vxlan", `{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}`, false},
		{"vxlan, DirectRouting", `{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": true}}`, false},
		{"vxlan, EnableNFTables", `{"Network": "10.244.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}`, false},
		{"host-gw", `{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}`, false},
		{"udp", `{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}`, true},
	} {
		t.Run(b.name, func(t *testing.T) {
			s := newSite(t, b.conf)
			a, z := s.node("a", "192.168.7.1/24"), s.node("z", "192.168.7.2/24")
			a.flanneld()
			z.flanneld()
			pa, pz := a.pod(), z.pod()
			eventually(t, 20*time.Second, func() error { return errors.Join(pa.ping(pz.ips[0], 0), pz.ping(pa.ips[0], 0)) })
			there, back := pa.flow(t, pz, 7000), pz.flow(t, pa, 7001)
			during := func(what string, do func()) {
				t.Helper()
				there, back := pa.pinging(pz), pz.pinging(pa)
				do()
				for name, stop := range map[string]func() (int, int){"a to z": there, "z to a": back} {
					sent, lost := stop()
					t.Logf("%s: ping %s: %d of %d packets lost", what, name, lost, sent)
					if sent == 0 || lost > 0 && !b.gap {
						t.Errorf("%s: ping %s: %d of %d packets lost", what, name, lost, sent)
					}
				}
			}
			subnet := read(t, a.subnetEnv())
			for _, turn := range []string{"", " again"} {
				during("in"+turn, func() { in(t, a, b.gap) })
				isOurs(t, a)
				if turn != "" {
					break
				}
				during("back", func() { out(t, a) })
				isFlannels(t, a)
			}
			if now := read(t, a.subnetEnv()); now != subnet {
				t.Errorf("subnet.env was\n%snow\n%s", subnet, now)
			}
			if p, err := a.tryPod(); err != nil {
				t.Error(err)
			} else if err := errors.Join(p.ping(pz.ips[0], 0), pz.ping(p.ips[0], p.mtu)); err != nil {
				t.Error(err)
			}
			there.stop(t)
			back.stop(t)
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// in is docs/MIGRATION.md's way in; at once is the one that lets the supervisor's stages take over, each as it comes.
func in(t *testing.T, n *node, atOnce bool) {
	t.Helper()
	if _, err := n.towpath("takeover", "--from", "flannel", "--yes"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("flanneld runs: process %d\n", n.serves.Process.Pid)) {
		t.Errorf("beside flanneld: %v", err)
	}
	n.serves.stop(t)
	if atOnce {
		n.supervise("TOWPATH_TAKE_OVER=true")
		return
	}
	if out, err := n.towpath("takeover", "--from", "flannel", "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n.supervise()
}

// out is the way back.
func out(t *testing.T, n *node) {
	t.Helper()
	n.serves.stop(t)
	n.flanneld()
	if out, err := n.towpath("handback", "--to", "flannel", "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// rules are all packet filters' of a node.
func rules(n *node) string {
	legacy, _ := n.Try("iptables-legacy-save") // where there is such a program
	return n.Run("nft", "list", "ruleset") + legacy
}

func isOurs(t *testing.T, n *node) {
	t.Helper()
	if text := strings.ToLower(rules(n)); strings.Contains(text, "flannel") || !strings.Contains(text, "towpath-masq") {
		t.Errorf("rules:\n%s", text)
	}
	for line := range strings.Lines(n.Run("ip", "-N", "route")) {
		if strings.HasPrefix(line, "10.244.") && !strings.Contains(line, "dev cni0") && !strings.Contains(line, "proto 116") {
			t.Errorf("not ours: %s", line)
		}
	}
}

// isFlannels sees that nothing of ours is left.
func isFlannels(t *testing.T, n *node) {
	t.Helper()
	if text := rules(n); strings.Contains(strings.ToLower(text), "towpath") || !strings.Contains(strings.ToLower(text), "flannel") {
		t.Errorf("rules:\n%s", text)
	}
	if text := n.Run("ip", "-N", "route", "show", "table", "all"); strings.Contains(text, "proto 116") {
		t.Errorf("routes:\n%s", text)
	}
	if text := n.Run("ip", "link"); strings.Contains(text, "alias towpath") {
		t.Errorf("devices:\n%s", text)
	}
	if text := n.Run("ip", "-br", "link"); strings.Count(text, "flannel") > 1 {
		t.Errorf("devices:\n%s", text)
	}
	if entries, err := os.ReadDir(string(n.run)); err == nil {
		t.Errorf("left in the run directory: %v", entries)
	}
	if entries, err := os.ReadDir(n.confDir); err != nil || len(entries) != 1 || entries[0].Name() != "10-flannel.conflist" {
		t.Errorf("%s: %v, %v", n.confDir, entries, err)
	}
}

// TestTakeOverToAnother changes the back end in the same go: what flannel made for the one it had is gone from both nodes.
func TestTakeOverToAnother(t *testing.T) {
	s := newSite(t, `{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}`)
	a, z := s.node("a", "192.168.7.1/24"), s.node("z", "192.168.7.2/24")
	nodes := []*node{a, z}
	for _, n := range nodes {
		n.flanneld()
	}
	pa, pz := a.pod(), z.pod()
	eventually(t, 20*time.Second, func() error { return errors.Join(pa.ping(pz.ips[0], 0), pz.ping(pa.ips[0], 0)) })
	for _, n := range nodes {
		n.serves.stop(t)
	}
	s.configure(`{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}`)
	for _, n := range nodes {
		planned, err := n.towpath("takeover", "--from", "flannel")
		if err != nil {
			t.Fatal(err)
		}
		if text := n.Run("ip", "link"); !strings.Contains(text, "flannel.1") {
			t.Errorf("the plan deleted the device:\n%s", text)
		}
		if out, err := n.towpath("takeover", "--from", "flannel", "--yes"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if text := n.Run("ip", "link"); strings.Contains(text, "flannel.1") || !strings.Contains(planned, "ip link del flannel.1\n") {
			t.Errorf("planned:\n%sdevices:\n%s", planned, text)
		}
	}
	for _, n := range nodes {
		n.supervise()
		isOurs(t, n)
	}
	eventually(t, 20*time.Second, func() error { return errors.Join(pa.ping(pz.ips[0], 0), pz.ping(pa.ips[0], pa.mtu)) })
}
