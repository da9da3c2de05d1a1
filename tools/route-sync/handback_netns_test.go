//go:build netns

package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestHandsBack: what flannel will go on with stays, less our mark; a second down has nothing to do, nor has an apply
// of the same state anything to add but the mark.
func TestHandsBack(t *testing.T) {
	for _, backend := range []string{typeVXLAN, typeHostGW} {
		t.Run(backend, func(t *testing.T) {
			n := newNode(t, 1, backend, true, false).alone()
			n.device()
			n.files()
			for i := 2; i <= 4; i++ {
				n.knows(dualPeer(i))
			}
			if backend == typeHostGW {
				for i := 2; i <= 4; i++ {
					p := dualPeer(i)
					p.Backend.Type, p.Backend.Data, p.Backend.DataV6 = typeHostGW, []byte("null"), []byte("null")
					n.knows(p)
				}
			}
			n.apply()
			before := n.Snapshot()
			out, errs, code := n.Exec("down", "--hand-back")
			if code != 0 || strings.Count(out, "route replace") != 6 || strings.Contains(out, " del ") {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			// Only the mark is gone. ip prints no protocol where none was given.
			if after := n.Snapshot(); after != strings.ReplaceAll(strings.ReplaceAll(before, "proto towpath ", ""), "proto 116 ", "") {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
			if out, _, _ := n.Exec("down", "--hand-back"); out != "" {
				t.Errorf("a second down: %s", out)
			}
			if out := n.apply(); strings.Count(out, "route replace") != 6 || strings.Contains(out, "neigh") || strings.Contains(out, "fdb") {
				t.Errorf("forth again:\n%s", out)
			}
		})
	}
}

// TestTakesOverHostGW: flannel's routes over the uplink become ours, and go where their node has gone.
func TestTakesOverHostGW(t *testing.T) {
	n := newNode(t, 1, typeHostGW, false, false).alone()
	n.files()
	p := peerOf(2)
	p.Backend.Type, p.Backend.Data = typeHostGW, []byte("null")
	n.knows(p)
	for i := 2; i <= 3; i++ {
		n.Run("ip", "route", "add", fmt.Sprintf("10.244.%d.0/24", i), "via", fmt.Sprintf("192.168.0.%d", i), "dev", "eth0")
	}
	n.Run("ip", "route", "add", "172.16.0.0/24", "via", "192.168.0.9")
	if out := n.apply(); !strings.HasPrefix(out, "ip route replace 10.244.2.0/24 via 192.168.0.2 dev eth0 proto 116\nwrite") {
		t.Errorf("got\n%s", out)
	}
	if out := n.apply("--take-over"); out != "ip route del 10.244.3.0/24 via 192.168.0.3 dev eth0 proto 3\n" {
		t.Errorf("taken over:\n%s", out)
	}
	if out := n.Run("ip", "route"); !strings.Contains(out, "172.16.0.0/24") {
		t.Errorf("a route outside the pod network went:\n%s", out)
	}
}

// TestTakesOverFromAnotherDevice: where the node had another back end, flannel's routes lead over a device that is not ours.
func TestTakesOverFromAnotherDevice(t *testing.T) {
	n := newNode(t, 1, typeHostGW, false, false).alone()
	n.files()
	p := peerOf(2)
	p.Backend.Type, p.Backend.Data = typeHostGW, []byte("null")
	n.knows(p)
	for _, device := range []string{"flannel.1", "other0"} {
		n.Run("ip", "link", "add", device, "type", "bridge")
		n.Run("ip", "link", "set", device, "up")
	}
	n.Run("ip", "route", "add", "10.244.2.0/24", "dev", "flannel.1")
	n.Run("ip", "route", "add", "10.244.3.0/24", "dev", "flannel.1")
	n.Run("ip", "route", "add", "10.244.4.0/24", "dev", "other0")
	if out := n.apply("--take-over"); !strings.HasPrefix(out, "ip route replace 10.244.2.0/24 via 192.168.0.2 dev eth0 proto 116\nip route del 10.244.3.0/24 dev flannel.1 proto 3") {
		t.Errorf("got\n%s", out)
	}
	if out := n.Run("ip", "route"); !strings.Contains(out, "10.244.4.0/24 dev other0") {
		t.Errorf("another's route went:\n%s", out)
	}
}
