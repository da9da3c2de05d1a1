//go:build netns

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// old gives the node the device of the VNI that it had before, which still leads to node 2.
func (n *node) old() {
	n.Run("ip", "link", "add", "flannel.9", "type", "vxlan", "id", "9", "dev", "eth0", "local", "192.168.0.1", "dstport", "8472", "nolearning")
	n.Run("ip", "link", "set", "flannel.9", "alias", nl.Mark, "up")
	n.Run("ip", "neigh", "add", "10.244.2.0", "lladdr", mac(2), "dev", "flannel.9", "nud", "permanent")
	n.Run("bridge", "fdb", "add", mac(2), "dev", "flannel.9", "dst", "192.168.0.2")
	n.Run("ip", "route", "add", "10.244.2.0/24", "via", "10.244.2.0", "dev", "flannel.9", "onlink", "proto", "116")
}

func (n *node) exists(dev string) bool {
	_, err := n.Try("ip", "link", "show", dev)
	return err == nil
}

// since dates the silence of a device back.
func (n *node) since(dev string, f func(*state.Retiring)) {
	n.t.Helper()
	r := n.routes()
	one, ok := r.Retiring[dev]
	if !ok {
		n.t.Fatalf("%s is not about to go: %+v", dev, r)
	}
	one.Since = time.Now().Add(-time.Hour)
	if f != nil {
		f(&one)
	}
	r.Retiring[dev] = one
	n.Save(n.Dir.Routes(), r)
}

// TestRetires: the device of another VNI stays as long as a peer has that VNI, and until nothing came in over it for a while. Others'
// devices stay for good.
func TestRetires(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.old()
	n.Run("ip", "link", "add", "theirs", "type", "vxlan", "id", "10", "dev", "eth0", "dstport", "4789")
	n.files()
	p := peerOf(2)
	p.Backend.Data = []byte(`{"VNI":9,"VtepMAC":"` + mac(2) + `"}`)
	n.knows(p)
	before := n.Snapshot()
	n.apply()
	if r := n.routes(); len(r.Retiring) > 0 || !strings.Contains(r.LeftOut["n2"], "its VNI is 9") {
		t.Errorf("%+v", r)
	}
	if after := n.Snapshot(); after != before {
		t.Errorf("changed for a peer that has the old VNI:\n%s", after)
	}

	p = peerOf(2)
	n.knows(p)
	out := n.apply()
	if !strings.Contains(out, "ip route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink proto 116\nip neigh del 10.244.2.0 dev flannel.9\n") {
		t.Errorf("the peer has the new VNI:\n%s", out)
	}
	if out := n.apply(); out != "" {
		t.Errorf("once more:\n%s", out)
	}
	n.since("flannel.9", func(r *state.Retiring) { r.Received = 7 }) // some packets have come in meanwhile
	n.apply()
	if r := n.routes().Retiring["flannel.9"]; r.Received != 0 || time.Since(r.Since) > time.Minute {
		t.Errorf("%+v", r)
	}
	n.since("flannel.9", nil)
	if out := n.apply(); !strings.HasPrefix(out, "ip link del flannel.9\n") || n.exists("flannel.9") || !n.exists("flannel.1") || !n.exists("theirs") {
		t.Errorf("its time has come:\n%s", out)
	}
	if r := n.routes(); len(r.Retiring) > 0 || r.Peers != 1 {
		t.Errorf("%+v", r)
	}
}

// TestRetiresWhileWatching: also what waited when the program was started anew.
func TestRetiresWhileWatching(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.old()
	n.files()
	n.knows(peerOf(2))
	n.apply()
	n.since("flannel.9", nil)
	n.goOn()
	n.Eventually(30*time.Second, func() string {
		if n.exists("flannel.9") {
			return "flannel.9 is still there"
		}
		return ""
	})
	if out := n.planned(); out != "" || !n.exists("flannel.1") {
		t.Errorf("left to do:\n%s", out)
	}
}

// TestPortOfPeer: one who says no port is at this node's, like flannel, except while the device of the default port waits for those who
// have not changed.
func TestPortOfPeer(t *testing.T) {
	for _, c := range []struct {
		own, theirs int
		left        bool
		held        bool
	}{
		{8472, 0, false, false},
		{4789, 0, false, false},
		{4789, 0, true, true},
		{4789, 4789, true, false},
		{8472, 4789, false, true},
	} {
		v := view{left: map[tunnel]bool{{1, defaultPort}: c.left}}
		port := v.portOf(state.VXLANData{VNI: 1, Port: c.theirs}, device{port: c.own})
		if held := port != c.own; held != c.held {
			t.Errorf("%+v: it is at %d", c, port)
		}
	}
}
