//go:build netns

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/tool"
)

// wide is a network with room for thousands of nodes.
const wide = `{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMin":"10.240.0.0","Backend":{"Type":"vxlan"}}`

// benchStep is a step in the test's own namespace whose outputs stand, beside a store of so many peers.
func benchStep(b testing.TB, peers int) *step {
	b.Helper()
	n := newNode(b, "bench", "1", filepath.Join(b.TempDir(), "store"))
	fill(b, n.store, peers)
	write(b, n.netConf, wide)
	s := &step{
		env:     &tool.Env{RunDir: n.run, Log: slog.New(slog.DiscardHandler)},
		store:   newFileStore(n.store),
		node:    n.name,
		netConf: n.netConf, ttl: 24 * time.Hour, margin: time.Hour, ipMasq: true,
		selection: Selection{Ifaces: []string{"127.0.0.1"}},
		told:      map[string]string{}, files: map[string]peerFile{},
	}
	err := tool.Settle(b.Context(), s.Plan, func(plan.Op) {})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// TestFollowsStore: joins, changes and leaves come at once, and cost the other records nothing.
func TestFollowsStore(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	a, b := newNode(t, "a", "1", store), newNode(t, "b", "2", store)
	a.watch()
	b.must("apply")
	eventually(t, "a knows b", func() bool { return a.peer("b").Subnet.IPv4.String() == "10.244.1.0/24" })
	b.link("vxlan", `{"VNI":1,"VtepMAC":"62:00:00:00:00:02"}`)
	b.must("apply")
	eventually(t, "a knows b's MAC address", func() bool { return strings.Contains(string(a.peer("b").Backend.Data), "62:00:00:00:00:02") })

	good := read(t, filepath.Join(store, "b.json"))
	write(t, filepath.Join(store, "b.json"), good[:40])
	write(t, filepath.Join(store, "c.json"), strings.NewReplacer(`"b"`, `"c"`, "10.244.1.0", "10.244.0.0").Replace(good))
	fill(t, store, 1) // n0 overlaps a, too; it comes last, so the others have been seen when a peer d is there
	write(t, filepath.Join(store, "d.json"), strings.NewReplacer(`"b"`, `"d"`, "10.244.1.0", "10.244.9.0").Replace(good))
	eventually(t, "a knows d", func() bool { return exists(a.run.Peer("d")) })
	if !exists(a.run.Peer("b")) || exists(a.run.Peer("c")) || exists(a.run.Peer("n0")) {
		t.Error("an unreadable record takes the peer away, or one that overlaps our own subnet is a peer")
	}
	os.Remove(filepath.Join(store, "b.json"))
	eventually(t, "b is gone", func() bool { return !exists(a.run.Peer("b")) })

	// Somebody gives a's own lease back.
	a.must("release")
	eventually(t, "a has a lease again", func() bool { return a.record("a").Subnet.IPv4.IsValid() })
	eventually(t, "the lease is the record's", func() bool { return a.record("a").Subnet == a.lease().Subnet })
}

// TestStoreVanishes: a store that is not there removes nothing, and is used again when it is back.
func TestStoreVanishes(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	a, b := newNode(t, "a", "1", store), newNode(t, "b", "2", store)
	b.must("apply")
	log, _ := a.watch()
	eventually(t, "a knows b", func() bool { return exists(a.run.Peer("b")) })
	if err := os.Rename(store, store+".away"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a complains", func() bool { return strings.Contains(log.String(), "holds nothing, and this node has peers") })
	if !exists(a.run.Peer("b")) || !exists(a.run.Lease()) {
		t.Error("files were removed")
	}
	if err := os.Rename(store+".away", store); err != nil {
		t.Fatal(err)
	}
	c := newNode(t, "c", "3", store)
	c.must("apply")
	eventually(t, "a knows c", func() bool { return exists(a.run.Peer("c")) })
}

// TestExpiry: an expired peer leaves, a watching node's lease does not expire, and a renewal changes no
// file.
func TestExpiry(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	a, b, c := newNode(t, "a", "1", store), newNode(t, "b", "2", store), newNode(t, "c", "3", store)
	b.must("apply", "--lease-ttl", "10s")
	a.watch()
	c.watch("--lease-ttl", "10s", "--renew-margin", "9500ms")
	eventually(t, "a knows b and c", func() bool { return exists(a.run.Peer("b")) && exists(a.run.Peer("c")) })
	written := inode(t, a.run.Peer("c"))
	first := c.record("c").Expires
	eventually(t, "b is gone", func() bool { return !exists(a.run.Peer("b")) })
	eventually(t, "c has renewed", func() bool { return c.record("c").Expires.After(first.Add(2 * time.Second)) })
	if inode(t, a.run.Peer("c")) != written {
		t.Error("the peer's file was written again")
	}
	if !exists(filepath.Join(store, "b.json")) {
		t.Error("the expired record was removed though nobody needs its subnet")
	}
	b.must("apply")
	eventually(t, "b is back", func() bool { return b.lease().Subnet == a.peer("b").Subnet })
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	stat, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return stat.Sys().(*syscall.Stat_t).Ino
}

// TestFollowsInterface: addresses, the MTU and the default route are followed, and a fixed public
// address stays.
func TestFollowsInterface(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	a, b := newNode(t, "a", "1", store), newNode(t, "b", "2", store)
	a.watch()
	b.watch("--public-ip", "203.0.113.2")
	eventually(t, "a knows b", func() bool { return a.peer("b").PublicIP.IPv4.String() == "203.0.113.2" })

	a.Run("ip", "addr", "add", "192.168.7.77/24", "dev", "eth0")
	a.Run("ip", "link", "set", "eth0", "mtu", "1400")
	eventually(t, "a has the MTU", func() bool { return a.lease().Interface.MTU == 1400 })
	if a.lease().PublicIP.IPv4.String() != "192.168.7.1" {
		t.Error("another address beside the first changed the public one")
	}
	a.Run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
	a.Run("ip", "addr", "del", "192.168.7.1/24", "dev", "eth0")
	eventually(t, "a and b have the new address", func() bool {
		return a.lease().PublicIP.IPv4.String() == "192.168.7.77" && b.peer("a").PublicIP.IPv4.String() == "192.168.7.77"
	})

	b.Run("ip", "addr", "add", "192.168.7.88/24", "dev", "eth0")
	b.Run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
	b.Run("ip", "addr", "del", "192.168.7.2/24", "dev", "eth0")
	eventually(t, "b has the new address", func() bool { return b.lease().Interface.IP.IPv4.String() == "192.168.7.88" })
	if b.lease().PublicIP.IPv4.String() != "203.0.113.2" {
		t.Error("the fixed public address is gone")
	}

	a.Run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
	a.Run("ip", "addr", "add", "192.168.9.1/24", "dev", "eth1")
	a.Run("ip", "link", "set", "far1", "up")
	a.Run("ip", "link", "set", "eth1", "up")
	a.Run("ip", "route", "replace", "default", "via", "192.168.9.254")
	eventually(t, "a follows the default route", func() bool { return a.lease().Interface.Name == "eth1" })

	subnet := a.lease().Subnet
	a.Run("ip", "link", "del", "eth1")
	a.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	eventually(t, "a is back at eth0", func() bool { return a.lease().Interface.Name == "eth0" })
	if a.lease().Subnet != subnet {
		t.Error("the subnet changed")
	}
}

// TestNoInterfaceAtStart: watch waits for the interface and removes nothing.
func TestNoInterfaceAtStart(t *testing.T) {
	n := newNode(t, "a", "1", filepath.Join(t.TempDir(), "store"))
	n.must("apply")
	n.Run("ip", "route", "del", "default")
	log, _ := n.watch()
	eventually(t, "it complains", func() bool { return strings.Contains(log.String(), "there is no default route") })
	if !exists(n.run.Lease()) {
		t.Error("the lease was removed")
	}
	n.Run("ip", "addr", "add", "192.168.8.1/24", "dev", "eth0")
	n.Run("ip", "route", "add", "default", "via", "192.168.8.254")
	eventually(t, "it goes on", func() bool { return strings.Contains(log.String(), "interface chosen") })
}

// TestFollowsConfiguration: a bad edit changes nothing and is told, a good one is followed.
func TestFollowsConfiguration(t *testing.T) {
	n := newNode(t, "a", "1", filepath.Join(t.TempDir(), "store"))
	log, _ := n.watch()
	n.link("vxlan", `{"VNI":1,"VtepMAC":"62:00:00:00:00:01"}`)
	eventually(t, "the link is published", func() bool { return strings.Contains(string(n.record("a").Backend.Data), "62:00:00:00:00:01") })
	eventually(t, "it is remembered", func() bool { return strings.Contains(read(t, n.run.Backend("vxlan")), "previous") })
	before := read(t, n.run.Backend("vxlan"))

	write(t, n.netConf, `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlna"}}`)
	eventually(t, "the typing error is told", func() bool { return strings.Contains(log.String(), `unknown back end \"vxlna\"`) })
	write(t, n.run.Link(), "{")
	eventually(t, "the broken link is told", func() bool { return strings.Contains(log.String(), n.run.Link()) })
	if read(t, n.run.Backend("vxlan")) != before {
		t.Error("a bad edit changed the back end's input")
	}
	n.link("vxlan", `{"VNI":1,"VtepMAC":"62:00:00:00:00:09"}`)
	eventually(t, "the new link is published", func() bool { return strings.Contains(string(n.record("a").Backend.Data), "62:00:00:00:00:09") })

	write(t, n.netConf, `{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}`)
	eventually(t, "host-gw is chosen", func() bool { return exists(n.run.Backend("host-gw")) })
	if exists(n.run.Backend("vxlan")) || n.lease().Backend.Type != "host-gw" {
		t.Error("the old back end is still there")
	}
	if n.record("a").Backend.Type != "vxlan" {
		t.Error("the link of the old back end is not published any more, before there is a new one")
	}
	n.link("host-gw", "null")
	eventually(t, "the new link is published", func() bool { return n.record("a").Backend.Type == "host-gw" })

	write(t, n.netConf, `{"Network":"10.99.0.0/16","Backend":{"Type":"host-gw"}}`)
	eventually(t, "the network is followed", func() bool { return n.lease().Subnet.IPv4.String() == "10.99.0.0/24" })
	eventually(t, "the change of the subnet is told", func() bool {
		return strings.Contains(log.String(), "subnet 10.244.0.0/24 is given up: it lies outside the network 10.99.0.0/16")
	})
	os.Remove(n.run.Lease())
	eventually(t, "a removed output is put back", func() bool { return exists(n.run.Lease()) })
}

// TestStaleFiles: what left while nobody looked is removed at the start, and only then is the mark set.
func TestStaleFiles(t *testing.T) {
	n := newNode(t, "a", "1", filepath.Join(t.TempDir(), "store"))
	fill(t, n.store, 3)
	write(t, n.run.Peer("gone"), "{}")
	write(t, n.run.Peer("a"), "{}")
	write(t, string(n.run)+"/peers/.n1.json.99.tmp", "{")
	write(t, string(n.run)+"/.lease.json.99.tmp", "{")
	write(t, string(n.run)+"/peers/README", "not ours")
	out := n.must("apply")
	for _, path := range []string{n.run.Peer("gone"), n.run.Peer("a"), string(n.run) + "/peers/.n1.json.99.tmp", string(n.run) + "/.lease.json.99.tmp"} {
		if exists(path) || !strings.Contains(out, "remove "+path+"\n") {
			t.Errorf("%s was not removed:\n%s", path, out)
		}
	}
	if !strings.HasSuffix(out, "write "+n.run.PeersSynced()+"\n") {
		t.Errorf("the mark is not the last:\n%s", out)
	}
	if out := n.must("apply"); out != "" {
		t.Errorf("a second apply:\n%s", out)
	}
	n.must("down")
	if left, _ := filepath.Glob(string(n.run) + "/*"); len(left) != 2 { // lock, peers with the foreign file
		t.Errorf("left: %s", left)
	}
}
