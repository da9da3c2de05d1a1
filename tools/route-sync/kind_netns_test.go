//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// become makes the node one of another backend, whose device is dev ("" is the uplink). A TUN does for the routes of each, so
// that kernels without the backend's own are tested too.
func (n *node) become(kind, dev string) {
	n.t.Helper()
	lease, err := state.Load[state.Lease](n.Dir.Lease())
	if err != nil {
		n.t.Fatal(err)
	}
	link, err := state.Load[state.Link](n.Dir.Link())
	if err != nil {
		n.t.Fatal(err)
	}
	if dev == "" {
		dev = link.Uplink
	} else if _, err := n.Try("ip", "link", "show", dev); err != nil {
		n.Run("ip", "tuntap", "add", "dev", dev, "mode", "tun")
		n.Run("ip", "link", "set", dev, "up")
	}
	n.backend, lease.Backend.Type, link.Publish = kind, kind, state.Published{Type: kind}
	link.DirectRouting = false
	for _, f := range state.Families {
		if lease.Subnet.Has(f) {
			link.Device.Set(f, state.Device{Name: dev, MTU: 1420})
		}
	}
	n.Save(n.Dir.Lease(), lease)
	n.Save(n.Dir.Link(), link)
}

func (n *node) knowsAs(kind string, numbers ...int) {
	n.t.Helper()
	for _, i := range numbers {
		p := peerOf(i)
		if n.dual {
			p = dualPeer(i)
		}
		if p.Backend.Type = kind; kind != typeVXLAN {
			p.Backend.Data, p.Backend.DataV6 = json.RawMessage("null"), nil
		}
		n.knows(p)
	}
}

// TestKindsInKernel changes a node from vxlan to each kind and back while its peers follow one by one.
func TestKindsInKernel(t *testing.T) {
	for _, tc := range []struct {
		kind, dev  string
		dual       bool
		has4, has6 string // in what ip shows
	}{
		{"udp", "flannel0", false, "dev flannel0 proto", ""},
		{"wireguard", "flannel-wg", true, "dev flannel-wg proto", "dev flannel-wg proto"},
		{"ipip", "flannel.ipip", false, "via 192.168.0.2 dev flannel.ipip proto", ""},
		{"host-gw", "", true, "via 192.168.0.2 dev eth0 proto", "via fd00::2 dev eth0 proto"},
		{"alloc", "", true, "", ""},
		{"extension", "", true, "", ""},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			n := newNode(t, 1, typeVXLAN, tc.dual, false).alone()
			n.device()
			n.files()
			n.knowsAs(typeVXLAN, 2, 3)
			n.apply()
			tunnel := n.Snapshot()

			link, err := os.ReadFile(n.Dir.Link())
			if err != nil {
				t.Fatal(err)
			}
			n.become(tc.kind, tc.dev)
			before := n.Run("ip", "route")
			if out, errs, code := n.Exec("apply"); code != exit.OK || strings.Contains(out, "ip ") {
				t.Fatalf("peers that have not changed: exit %d\n%s%s", code, out, errs)
			}
			n.knowsAs(tc.kind, 2, 3)
			n.apply()
			if tc.kind == "wireguard" {
				n.Run("ip", "link", "set", tc.dev, "down")
				n.Run("ip", "link", "set", tc.dev, "up")
				if out := n.apply(); strings.Count(out, "route add") < 2 {
					t.Errorf("after the device was down: %s", out)
				}
			}
			show := func(args ...string) string { return strings.TrimSpace(n.Run("ip", append(args, "route", "show")...)) }
			has := func(dst, want, out string) {
				line := ""
				for l := range strings.Lines(out) {
					if strings.HasPrefix(l, dst) {
						line += l
					}
				}
				if (want == "") != (line == "") || !strings.Contains(line, want) || strings.Count(line, "\n") > 1 {
					t.Errorf("route to %s: %q, want %q", dst, line, want)
				}
			}
			has("10.244.2.0/24", tc.has4, show())
			has("fd00:10:0:2::/64", tc.has6, show("-6"))
			if r := n.routes(); r.Peers != 2 || len(r.LeftOut) > 0 {
				t.Errorf("routes.json: %+v", r)
			}
			if out := n.Run("ip", "neigh", "show", "nud", "permanent") + n.Run("bridge", "fdb", "show", "dev", "flannel.1"); strings.Contains(out, "02:00:00:00:00:02") {
				t.Errorf("of vxlan there is left\n%s", out)
			}
			if tc.has4 != "" && n.Run("ip", "route") == before {
				t.Error("nothing changed")
			}

			// and back, by the same steps
			if err := os.WriteFile(n.Dir.Link(), link, 0o644); err != nil {
				t.Fatal(err)
			}
			lease, err := state.Load[state.Lease](n.Dir.Lease())
			if err != nil {
				t.Fatal(err)
			}
			lease.Backend.Type = typeVXLAN
			n.Save(n.Dir.Lease(), lease)
			if out, errs, code := n.Exec("apply"); code != exit.OK || strings.Contains(out, "ip ") {
				t.Fatalf("back, peers that have not changed: exit %d\n%s%s", code, out, errs)
			}
			n.knowsAs(typeVXLAN, 2, 3)
			n.apply()
			if tc.dev != "" {
				n.Run("ip", "link", "del", tc.dev)
			}
			if d := cmp.Diff(tunnel, n.Snapshot()); d != "" {
				t.Errorf("forth and back (-before +after)\n%s", d)
			}
			if out, errs, code := n.Exec("down"); code != exit.OK || strings.Contains(n.Run("ip", "route")+n.Run("ip", "-6", "route"), "proto 116") {
				t.Errorf("down: exit %d\n%s%s", code, out, errs)
			}
		})
	}
}

// TestFlannelsNetworkRoute: the one route that flannel's wireguard and udp have stays until the word is given; packets take
// ours, which is narrower.
func TestFlannelsNetworkRoute(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.files()
	n.become("wireguard", "flannel-wg")
	n.Run("ip", "route", "add", "10.0.0.0/8", "dev", "flannel-wg")
	n.knowsAs("wireguard", 2)
	if out := n.apply(); !strings.HasPrefix(out, "ip route add 10.244.2.0/24 dev flannel-wg proto 116\nwrite ") {
		t.Errorf("got\n%s", out)
	}
	if d := cmp.Diff([]string{"10.0.0.0/8 dev flannel-wg proto 3"}, n.routes().Foreign); d != "" {
		t.Errorf("foreign (-want +got)\n%s", d)
	}
	out, errs, code := n.Exec("apply", "--take-over")
	if want := fmt.Sprintf("ip route del 10.0.0.0/8 dev flannel-wg proto 3\nwrite %s\n", n.Dir.Routes()); code != exit.OK || out != want {
		t.Errorf("taken over: exit %d, want\n%s\ngot\n%s%s", code, want, out, errs)
	}
	if out, _, _ := n.Exec("apply", "--take-over"); out != "" {
		t.Errorf("twice: %s", out)
	}
}
