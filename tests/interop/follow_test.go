//go:build peer

package interop

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestFollow makes the end of the tunnel anew on one node after the other, as a reboot does: the other network's node follows, and each node
// has the subnet that it had.
func TestFollow(t *testing.T) {
	s := newSite(t, `{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}`)
	a, z := s.node("a", "192.168.7.1/24"), s.node("z", "192.168.7.2/24")
	z.flanneld()
	a.supervise()
	pa, pz := a.pod(), z.pod()
	reach := func(after string) {
		t.Helper()
		took := eventually(t, 20*time.Second, func() error { return errors.Join(pa.ping(pz.ips[0], 0), pz.ping(pa.ips[0], 0)) })
		t.Logf("%s: pods reach each other after %s, five pings each way included", after, took.Round(10*time.Millisecond))
	}
	reach("start")
	of := func(n *node) string { return n.Run("cat", "/sys/class/net/flannel.1/address") }
	for _, n := range []*node{z, a} {
		mac, subnet := of(n), read(t, n.subnetEnv())
		n.serves.stop(t)
		n.Run("ip", "link", "del", "flannel.1")
		if n == z {
			n.flanneld()
			if of(n) == mac {
				t.Error("flannel's device has the address that it had: nothing was to be followed")
			}
		} else {
			if err := os.RemoveAll(string(n.run)); err != nil {
				t.Fatal(err)
			}
			n.supervise()
			if of(n) != mac {
				t.Error("our device has another address than it had, and than etcd remembers")
			}
		}
		reach(n.name + " made anew")
		if now := read(t, n.subnetEnv()); now != subnet {
			t.Errorf("%s: subnet.env was\n%snow\n%s", n.name, subnet, now)
		}
	}
}
