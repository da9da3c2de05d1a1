//go:build netns

package main

import (
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/etcdtest"
	"github.com/towpath/towpath/lib/nstest"
)

// crew starts nodes that publish, each under its own address, and waits until they know each other.
func (s *etcdSite) crew(n int, more ...string) (all []*node, logs []*nstest.Log, cmds []*exec.Cmd) {
	s.t.Helper()
	for i := range n {
		m := s.member(fmt.Sprintf("n%d", i), 10+i)
		m.link("vxlan", fmt.Sprintf(vtep, 10+i))
		log, cmd := m.watch(more...)
		all, logs, cmds = append(all, m), append(logs, log), append(cmds, cmd)
	}
	for _, m := range all {
		eventually(s.t, m.name+" knows the others", func() bool { return knows(m, n) })
	}
	eventually(s.t, "all have published", func() bool { return strings.Count(fmt.Sprint(s.values()), "VtepMAC") == n })
	return all, logs, cmds
}

func knows(m *node, n int) bool {
	for i := range n {
		if name := fmt.Sprintf("192.168.7.%d", 10+i); fmt.Sprintf("n%d", i) != m.name && !exists(m.run.Peer(name)) {
			return false
		}
	}
	return exists(m.run.PeersSynced())
}

// TestEtcdAway: etcd is killed under several nodes for as long as their leases last, the store is compacted, and it comes back. Files stay as they are, nobody
// ends, no subnet changes hands, and few requests are made.
func TestEtcdAway(t *testing.T) {
	const members, away = 6, 12 * time.Second
	s := newEtcdSite(t, plain)
	all, logs, cmds := s.crew(members, "--lease-ttl", "10s", "--renew-margin", "6s")
	before := s.values()
	stands := make([]string, members)
	for i, n := range all {
		stands[i] = nstest.Run(t, "find", string(n.run), "-type", "f", "-name", "*.json", "-printf", "%p %C@\n")
	}
	s.Pause()
	<-time.After(away)
	for i, n := range all {
		eventually(t, n.name+" notices", func() bool { return strings.Contains(logs[i].String(), "the store does not answer") })
		if got := nstest.Run(t, "find", string(n.run), "-type", "f", "-name", "*.json", "-printf", "%p %C@\n"); got != stands[i] {
			t.Errorf("%s: files changed while etcd was away:\n%s", n.name, cmp.Diff(stands[i], got))
		}
		if cmds[i].ProcessState != nil {
			t.Errorf("%s ended", n.name)
		}
	}
	back := time.Now()
	s.Resume()
	s.Compact()
	began := s.Requests() // after what this test asked
	s.peerKey("10.244.99.0-24", vxlan(99))
	for _, n := range all {
		within(t, time.Minute, n.name+" hears of a late node", func() bool { return exists(n.run.Peer("192.168.7.99")) })
	}
	took := time.Since(back)
	for i := range all {
		eventually(t, "it is said", func() bool { return strings.Contains(logs[i].String(), "the store answers again") })
	}
	total := 0
	now := s.Requests()
	for _, method := range []string{"Txn", "Range", "Watch", "LeaseKeepAlive", "LeaseGrant", "LeaseTimeToLive"} {
		total += now[method] - began[method]
	}
	t.Logf("%d nodes, away for %s: all current %.1f s after the return, with %d requests", members, away, took.Seconds(), total)
	if most := members * (4 + 2*int(took.Seconds())); total > most { // a listing, a watch, and each 4 s a renewal
		t.Errorf("%d requests, more than %d: %v", total, most, now)
	}
	delete(before, "10.244.99.0-24")
	after := s.values()
	delete(after, "10.244.99.0-24")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("subnets changed hands (-before +after):\n%s", diff)
	}
	// At rest nothing is asked but the renewals.
	<-time.After(2 * time.Second)
	began = s.Requests()
	<-time.After(8 * time.Second)
	now = s.Requests()
	rest := now["Txn"] - began["Txn"] + now["Watch"] - began["Watch"] + now["LeaseTimeToLive"] - began["LeaseTimeToLive"]
	renewals := now["LeaseKeepAlive"] - began["LeaseKeepAlive"]
	if rest > 0 || renewals < members || renewals > 3*members {
		t.Errorf("in 8 s at rest %d requests beside %d renewals: %v", rest, renewals, maps.Collect(maps.All(now)))
	}
}

// TestEtcdExpiry: the leases end while the nodes cannot renew them: the others let go, and the node takes its subnet again, or another
// where that is somebody else's.
func TestEtcdExpiry(t *testing.T) {
	s := newEtcdSite(t, plain)
	b := s.member("b", 2)
	b.watch()
	a := s.member("a", 1)
	log, cmd := a.watch("--lease-ttl", "10s", "--renew-margin", "8s")
	const own = "10.244.1.0-24"
	id, granted, _ := s.lease(own)
	if id == 0 || granted != 10 {
		t.Fatalf("lease %x of %d s", id, granted)
	}
	<-time.After(6 * time.Second)
	if now, _, left := s.lease(own); now != id || left < 1 || strings.Count(log.String(), "renew 10.244.1.0/24 of a") < 2 {
		t.Errorf("the lease was not renewed: %x, want %x, %d s left", now, id, left)
	}
	cmd.Process.Kill()
	cmd.Wait()
	within(t, 20*time.Second, "the lease ends", func() bool { return s.value(own) == "" })
	eventually(t, "b lets go", func() bool { return !exists(b.run.Peer("192.168.7.1")) })
	a.watch()
	eventually(t, "a has its subnet again", func() bool { return s.value(own) != "" && exists(b.run.Peer("192.168.7.1")) })

	// A lease too short for --lease-ttl, as somebody else may have made it, is replaced by one that is not.
	short := s.member("c", 3)
	s.Put(prefix+"subnets/10.244.7.0-24", vxlan(3), s.Grant(60))
	short.must("apply")
	if _, granted, _ := s.lease("10.244.7.0-24"); granted != 86400 {
		t.Errorf("a lease of %d s", granted)
	}
}

// TestEtcdPartition: a node's packets are dropped, so that its connection dies without a word, while its lease ends and another machine takes the
// subnet. It keeps its files, and then takes another subnet.
func TestEtcdPartition(t *testing.T) {
	s := newEtcdSite(t, plain)
	near := newNode(t, "a", "1", "")
	// The test's own namespace is at the other end.
	run(t, "ip", "-n", near.Name, "link", "set", "far", "netns", "1", "name", "to-a")
	t.Cleanup(func() { try("ip", "link", "del", "to-a") })
	run(t, "ip", "addr", "add", "192.168.7.254/24", "dev", "to-a")
	run(t, "ip", "link", "set", "to-a", "up")
	near.store, near.netConf = "etcd://192.168.7.254:"+s.Port, ""
	near.link("vxlan", fmt.Sprintf(vtep, 1))
	s.peerKey("10.244.9.0-24", vxlan(9))
	log, cmd := near.watch("--lease-ttl", "6s", "--renew-margin", "3s")
	eventually(t, "a has published", func() bool { return s.value("10.244.0.0-24") == vxlan(1) })

	near.Run("nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; policy drop; }; add chain inet cut out { type filter hook output priority 0; policy drop; }")
	within(t, 20*time.Second, "the lease ends", func() bool { return s.value("10.244.0.0-24") == "" })
	s.peerKey("10.244.0.0-24", vxlan(8))
	s.Delete(prefix + "subnets/10.244.9.0-24")
	began := s.Requests()
	within(t, limit, "a notices", func() bool { return strings.Contains(log.String(), "the store does not answer") })
	if near.lease().Subnet.IPv4.String() != "10.244.0.0/24" || !exists(near.run.Peer("192.168.7.9")) || cmd.ProcessState != nil {
		t.Error("something was taken away while a was cut off")
	}
	near.Run("nft", "delete table inet cut")
	took := within(t, limit, "a has a subnet again", func() bool { return s.value("10.244.1.0-24") == vxlan(1) })
	eventually(t, "a knows what happened", func() bool {
		return near.lease().Subnet.IPv4.String() == "10.244.1.0/24" && !exists(near.run.Peer("192.168.7.9")) && exists(near.run.Peer("192.168.7.8"))
	})
	now := s.Requests()
	t.Logf("a has a subnet %.1f s after the cut was mended, with %d transactions", took.Seconds(), now["Txn"]-began["Txn"])
	if n := now["Txn"] - began["Txn"]; n > 12 {
		t.Errorf("%d transactions", n)
	}
}

// TestEtcdCompaction: a watch whose revisions were compacted away, while etcd was away and changed in between, lists again.
func TestEtcdCompaction(t *testing.T) {
	s := newEtcdSite(t, plain)
	a := s.member("a", 1)
	a.watch()
	s.peerKey("10.244.5.0-24", vxlan(5))
	s.peerKey("10.244.6.0-24", vxlan(6))
	eventually(t, "a knows both", func() bool { return exists(a.run.Peer("192.168.7.5")) && exists(a.run.Peer("192.168.7.6")) })
	s.Pause()
	s.Resume()
	// Before a is back, which takes it 0.2 s at least.
	s.Delete(prefix + "subnets/10.244.5.0-24")
	s.peerKey("10.244.7.0-24", vxlan(7))
	s.Compact()
	within(t, limit, "a knows what happened", func() bool {
		return !exists(a.run.Peer("192.168.7.5")) && exists(a.run.Peer("192.168.7.6")) && exists(a.run.Peer("192.168.7.7"))
	})
}

// TestEtcdStartsWithoutServer: with nobody to ask, what stands stays, and apply says so.
func TestEtcdStartsWithoutServer(t *testing.T) {
	s := newEtcdSite(t, plain)
	s.peerKey("10.244.5.0-24", vxlan(5))
	a := s.member("a", 1)
	a.must("apply")
	lease := read(t, a.run.Lease())
	s.Pause()
	if code, out, errs := a.exec("apply"); code != 69 || out != "" || !strings.Contains(errs, "list etcd://127.0.0.1:"+s.Port+"/coreos.com/network: ") || !strings.Contains(errs, "connection refused") {
		t.Errorf("apply: %d, %s%s", code, out, errs)
	}
	log, cmd := a.watch() // .synced stands already
	eventually(t, "watch says so", func() bool { return strings.Contains(log.String(), "cannot apply") })
	if read(t, a.run.Lease()) != lease || !exists(a.run.Peer("192.168.7.5")) || !exists(a.run.PeersSynced()) {
		t.Error("something was taken away")
	}
	s.Resume()
	s.peerKey("10.244.6.0-24", vxlan(6))
	within(t, limit, "a follows", func() bool { return exists(a.run.Peer("192.168.7.6")) })
	if cmd.ProcessState != nil {
		t.Error("watch ended")
	}
	cmd.Process.Kill()
	cmd.Wait()
	s.Pause()
	a.must("down") // asks nobody
}

// TestEtcdEmptied: an etcd that lost everything, the configuration too, takes no peer away.
func TestEtcdEmptied(t *testing.T) {
	s := newEtcdSite(t, plain)
	s.peerKey("10.244.5.0-24", vxlan(5))
	a := s.member("a", 1)
	told := statuses(t)
	a.watch()
	eventually(t, "a knows its peer", func() bool { return exists(a.run.Peer("192.168.7.5")) })
	s.Do("kv/deleterange", fmt.Sprintf(`{"key":%q,"range_end":%q}`, etcdtest.Bytes(prefix), etcdtest.Bytes(prefix+"~")), nil)
	eventually(t, "a says so", func() bool { return strings.Contains(told.String(), "holds nothing, and this node has peers") })
	if !exists(a.run.Peer("192.168.7.5")) || len(s.values()) > 0 {
		t.Errorf("the peer is gone, or a key was made: %v", s.values())
	}
	s.Put(prefix+"config", plain, 0)
	eventually(t, "a takes its subnet again", func() bool { return s.value("10.244.0.0-24") != "" && !exists(a.run.Peer("192.168.7.5")) })
}
