//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/etcdtest"
	"github.com/towpath/towpath/lib/state"
)

const prefix = "/coreos.com/network/"

// etcdSite is an etcd whose nodes are run directories in the test's own namespace, behind uplinks u1, u2 and so on.
type etcdSite struct {
	*etcdtest.Server
	t testing.TB
}

// newEtcdSite has flannel's configuration in the store.
func newEtcdSite(t testing.TB, conf string) *etcdSite {
	s := &etcdSite{etcdtest.Start(t, etcdtest.Options{}), t}
	s.Put(prefix+"config", conf, 0)
	return s
}

func (s *etcdSite) store() string { return "etcd://127.0.0.1:" + s.Port }

// member is a node that is given the store and nothing else.
func (s *etcdSite) member(name string, host int) *node {
	n := newMember(s.t, name, host, s.store())
	n.netConf = ""
	return n
}

// value is a subnet's value, or "".
func (s *etcdSite) value(subnet string) string {
	return string(s.Keys(prefix + "subnets/")[prefix+"subnets/"+subnet].Value)
}

// values are the values of all subnets.
func (s *etcdSite) values() map[string]string {
	all := map[string]string{}
	for key, k := range s.Keys(prefix + "subnets/") {
		all[strings.TrimPrefix(key, prefix+"subnets/")] = string(k.Value)
	}
	return all
}

// lease is the lease of a subnet: what it was made for and what is left of it, in seconds.
func (s *etcdSite) lease(subnet string) (id int64, granted, left int) {
	s.t.Helper()
	id = s.Keys(prefix + "subnets/")[prefix+"subnets/"+subnet].Lease
	if id == 0 {
		return 0, 0, 0
	}
	var answer struct {
		TTL        int `json:",string"`
		GrantedTTL int `json:"grantedTTL,string"`
	}
	s.Do("lease/timetolive", fmt.Sprintf(`{"ID":"%d"}`, id), &answer)
	return id, answer.GrantedTTL, answer.TTL
}

// peerKey puts a key as flannel would.
func (s *etcdSite) peerKey(subnet, value string) int64 {
	lease := s.Grant(86400)
	s.Put(prefix+"subnets/"+subnet, value, lease)
	return lease
}

// vxlan is the value of a node 192.168.7.HOST.
func vxlan(host int) string {
	return fmt.Sprintf(`{"PublicIP":"192.168.7.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":`+vtep+`}`, host, host)
}

// TestEtcdOnce: the way of a node with etcd, by apply, beside a node of flannel's.
func TestEtcdOnce(t *testing.T) {
	s := newEtcdSite(t, plain)
	s.peerKey("10.244.0.0-24", vxlan(9))
	a := s.member("a", 1)
	url := s.store() + "/coreos.com/network"
	if got, want := a.must("explain"), "node a: no key in "+url+" tells its address 192.168.7.1\n"; !strings.HasSuffix(got, want) {
		t.Errorf("explain printed\n%s, want at the end\n%s", got, want)
	}
	want := fmt.Sprintf("acquire 10.244.1.0/24 for a\nwrite %[1]s/lease.json\nwrite %[1]s/vxlan.json\nwrite %[1]s/peers/192.168.7.9.json\nwrite %[1]s/peers/.synced\n", a.run)
	if got := a.must("plan"); got != want || s.value("10.244.1.0-24") != "" {
		t.Errorf("plan printed\n%s, want\n%s", got, want)
	}
	if got := a.must("apply"); got != want {
		t.Errorf("apply printed\n%s, want\n%s", got, want)
	}
	if got := s.value("10.244.1.0-24"); got != `{"PublicIP":"192.168.7.1","PublicIPv6":null,"BackendType":"vxlan"}` {
		t.Errorf("before the link stands: %s", got)
	}
	lease, granted, left := s.lease("10.244.1.0-24")
	if lease == 0 || granted != 86400 || left < 86300 {
		t.Errorf("lease %x of %d s, %d left", lease, granted, left)
	}
	if p := a.peer("192.168.7.9"); p.Subnet.IPv4.String() != "10.244.0.0/24" || p.Backend.Type != "vxlan" || !strings.Contains(string(p.Backend.Data), "62:00:00:00:00:09") {
		t.Errorf("a knows of flannel's node: %+v", p)
	}
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	if got := a.must("apply"); got != `publish 192.168.7.1 vxlan {"VNI":1,"VtepMAC":"62:00:00:00:00:01"} of a`+"\nwrite "+a.run.Backend("vxlan")+"\n" {
		t.Errorf("apply printed\n%s", got)
	}
	if got := s.value("10.244.1.0-24"); got != vxlan(1) {
		t.Errorf("value\n%s, want\n%s", got, vxlan(1))
	}
	if id, _, _ := s.lease("10.244.1.0-24"); id != lease {
		t.Error("another lease after a publication")
	}
	if got := a.must("apply"); got != "" {
		t.Errorf("the second apply printed\n%s", got)
	}
	if got := a.must("list"); !strings.Contains(got, "192.168.7.1  10.244.1.0/24  192.168.7.1  vxlan     leased  23h59m") && !strings.Contains(got, "leased  24h0m0s") || strings.Count(got, "\n") != 3 {
		t.Errorf("list:\n%s", got)
	}
	if got := a.must("explain"); !strings.Contains(got, "node a: the key 10.244.1.0-24 of "+url+" is its own, until ") {
		t.Errorf("explain printed\n%s", got)
	}

	// flannel found its way by the address before, and so does a node without a run directory: its subnet and its MAC address are there.
	os.RemoveAll(string(a.run))
	if got := a.must("apply"); strings.Contains(got, "acquire") || a.lease().Subnet.IPv4.String() != "10.244.1.0/24" || !strings.Contains(read(t, a.run.Backend("vxlan")), "62:00:00:00:00:01") {
		t.Errorf("after a reboot apply printed\n%s", got)
	}
	// Its address changed: the subnet stays, under the new address.
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	run(t, "ip", "addr", "del", "192.168.7.1/24", "dev", a.uplink)
	run(t, "ip", "addr", "add", "192.168.7.101/24", "dev", a.uplink)
	if run := a.must("apply"); !strings.HasPrefix(run, "publish 192.168.7.101 vxlan") || a.must("apply") != "" {
		t.Errorf("apply printed\n%s", run)
	}
	if diff := cmp.Diff(map[string]string{"10.244.0.0-24": vxlan(9), "10.244.1.0-24": strings.Replace(vxlan(1), "7.1\"", "7.101\"", 1)}, s.values()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A network of another length: the key moves in one transaction, with its lease.
	s.Put(prefix+"config", `{"Network":"10.244.0.0/16","SubnetLen":26,"Backend":{"Type":"vxlan"}}`, 0)
	if got := a.must("apply"); !strings.HasPrefix(got, "acquire 10.244.1.0/26 for a\n") {
		t.Errorf("apply printed\n%s", got)
	}
	if id, _, _ := s.lease("10.244.1.0-26"); id != lease || len(s.values()) != 2 {
		t.Errorf("lease %x, want %x; keys %v", id, lease, s.values())
	}
	// Both families, and back.
	s.Put(prefix+"config", dual, 0)
	if got := a.must("apply"); !strings.HasPrefix(got, "acquire 10.244.1.0/24 fd00:10:244::/64 for a\n") {
		t.Errorf("apply printed\n%s", got)
	}
	if got := s.value("10.244.1.0-24&fd00:10:244::-64"); !strings.HasPrefix(got, `{"PublicIP":"192.168.7.101","PublicIPv6":"fd00:7::1","BackendType":"vxlan"`) {
		t.Errorf("keys %v", s.values())
	}

	for _, args := range [][]string{{"release"}, {"release", "--node", "192.168.7.101"}} {
		n := *a
		n.name = ""
		if got, want := n.must(args[0], args[1:]...), map[int]string{1: "release 10.244.1.0/24 fd00:10:244::/64 of 192.168.7.101\n", 3: ""}[len(args)]; got != want {
			t.Errorf("%v printed %q, want %q", args, got, want)
		}
	}
	var left2 struct{ Leases []struct{ ID string } }
	if s.Do("lease/leases", "{}", &left2); len(s.values()) != 1 || len(left2.Leases) != 1 {
		t.Errorf("after release: keys %v, leases %v", s.values(), left2)
	}
	a.must("down")
}

// TestEtcdConfig: where the configuration comes from, and what is said when it is missing or wrong.
func TestEtcdConfig(t *testing.T) {
	s := &etcdSite{etcdtest.Start(t, etcdtest.Options{}), t}
	a := s.member("a", 1)
	if code, _, errs := a.exec("apply"); code != 75 || !strings.Contains(errs, "/coreos.com/network/config: there is no configuration in etcd") || !strings.Contains(errs, "etcdctl put /coreos.com/network/config") {
		t.Errorf("without a configuration: %d, %s", code, errs)
	}
	s.Put(prefix+"config", `{"Network":7}`, 0)
	if code, _, errs := a.exec("apply"); code != 78 || !strings.Contains(errs, "/coreos.com/network/config") || !strings.Contains(errs, `key "Network"`) {
		t.Errorf("with a wrong one: %d, %s", code, errs)
	}
	file := *a
	file.netConf = filepath.Join(t.TempDir(), "net-conf.json")
	write(t, file.netConf, `{"Network":"10.99.0.0/16"}`)
	if got := file.must("apply"); !strings.HasPrefix(got, "acquire 10.99.0.0/24 for a\n") {
		t.Errorf("with a file: %s", got)
	}
	if code, _, errs := a.exec("list", "--etcd-prefix", "/elsewhere"); code != 69 || !strings.Contains(errs, "there is no store there") {
		t.Errorf("list of nothing: %d, %s", code, errs)
	}
	s.Put("/elsewhere/config", plain, 0)
	if got := a.must("apply", "--etcd-prefix", "/elsewhere/"); !strings.HasPrefix(got, "acquire 10.244.0.0/24 for a\n") || len(s.Keys("/elsewhere/subnets/")) != 1 {
		t.Errorf("another prefix: %s", got)
	}
	// Followed by watch; a wrong one leaves the last one.
	s.Put(prefix+"config", plain, 0)
	log, _ := a.watch()
	eventually(t, "the configuration counts", func() bool { return a.lease().Network.IPv4.String() == "10.244.0.0/16" })
	s.Put(prefix+"config", `{"Network":"10.88.0.0/16"}`, 0)
	eventually(t, "the configuration is followed", func() bool { return a.lease().Subnet.IPv4.String() == "10.88.0.0/24" })
	s.Put(prefix+"config", `{"Network":`, 0)
	eventually(t, "a wrong one is told of", func() bool {
		return strings.Contains(log.String(), "cannot use the configuration, going on with the last one")
	})
	s.Delete(prefix + "config")
	eventually(t, "that there is none is told of", func() bool { return strings.Contains(log.String(), "there is no configuration in etcd") })
	if a.lease().Subnet.IPv4.String() != "10.88.0.0/24" {
		t.Errorf("the subnet is %s", a.lease().Subnet.IPv4)
	}
}

// TestEtcdReservation: a key without a lease stays one for ever, whoever made it.
func TestEtcdReservation(t *testing.T) {
	s := newEtcdSite(t, plain)
	s.Put(prefix+"subnets/10.244.52.0-24", `{"PublicIP":"192.168.7.1"}`, 0) // as flannel's manual has it
	a, b := s.member("a", 1), s.member("b", 2)
	a.must("apply")
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	a.must("apply")
	log, _ := a.watch("--lease-ttl", "3s", "--renew-margin", "2s")
	if got := b.must("apply"); !strings.HasPrefix(got, "acquire 10.244.0.0/24 for b\n") || b.peer("192.168.7.1").Subnet.IPv4.String() != "10.244.52.0/24" {
		t.Errorf("b printed\n%s", got)
	}
	<-time.After(4 * time.Second)
	if id, _, _ := s.lease("10.244.52.0-24"); id != 0 || s.value("10.244.52.0-24") != vxlan(1) || strings.Contains(log.String(), "renew") {
		t.Errorf("lease %x, value %s\n%s", id, s.value("10.244.52.0-24"), log)
	}
	b.name = "192.168.7.77"
	if got := b.must("reserve", "--subnet", "10.244.77.0/24"); got != "reserve 10.244.77.0/24 for 192.168.7.77\n" {
		t.Errorf("reserve printed %q", got)
	}
	if id, _, _ := s.lease("10.244.77.0-24"); id != 0 || s.value("10.244.77.0-24") != `{"PublicIP":"192.168.7.77","PublicIPv6":null}` {
		t.Errorf("lease %x, value %s", id, s.value("10.244.77.0-24"))
	}
	if got := b.must("reserve", "--subnet", "10.244.77.0/24"); got != "" {
		t.Errorf("a second reserve printed %q", got)
	}
	if got := b.must("list"); !strings.Contains(got, "192.168.7.77  10.244.77.0/24  192.168.7.77  -         reserved  -") {
		t.Errorf("list:\n%s", got)
	}
	if code, _, errs := b.exec("reserve", "--subnet", "10.244.52.0/24"); code != 78 || !strings.Contains(errs, "holds 10.244.77.0/24") {
		t.Errorf("a second subnet: %d, %s", code, errs)
	}
	b.name = "worker09"
	if code, _, errs := b.exec("reserve", "--subnet", "10.244.9.0/24"); code != 64 || !strings.Contains(errs, "nodes have no other name than their address") {
		t.Errorf("reserve for a name: %d, %s", code, errs)
	}
	b.name = "192.168.7.1"
	if got := b.must("release"); got != "release 10.244.52.0/24 of 192.168.7.1, and keep it reserved\n" {
		t.Errorf("release printed %q", got)
	}
	eventually(t, "watch takes it up again", func() bool { return s.value("10.244.52.0-24") == vxlan(1) })
	if id, _, _ := s.lease("10.244.52.0-24"); id != 0 {
		t.Error("the reservation became a lease")
	}
}

// TestEtcdRace: 32 nodes at once, half of them by apply, half by watch, get the 32 lowest subnets.
func TestEtcdRace(t *testing.T) {
	const racers = 32
	s := newEtcdSite(t, plain)
	one := s.member("r", 1)
	before := s.Requests()["Txn"]
	var done sync.WaitGroup
	nodes := make([]*node, racers)
	for i := range racers {
		n := *one
		n.name, n.run = fmt.Sprintf("racer%d", i), state.Dir(filepath.Join(t.TempDir(), "run"))
		nodes[i] = &n
		address := fmt.Sprintf("192.168.7.%d", 10+i)
		if i%2 == 1 {
			n.watch("--public-ip", address)
			continue
		}
		done.Go(func() {
			if code, out, errs := n.exec("apply", "--public-ip", address); code != 0 {
				t.Errorf("%s: exit status %d\n%s%s", n.name, code, out, errs)
			}
		})
	}
	done.Wait()
	seen := map[netip.Prefix]string{}
	for _, n := range nodes {
		subnet := n.lease().Subnet.IPv4
		if other, twice := seen[subnet]; twice {
			t.Errorf("%s and %s both have %s", n.name, other, subnet)
		}
		seen[subnet] = n.name
	}
	for i := range racers {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24); seen[p] == "" {
			t.Errorf("nobody has %s: not the lowest ones were taken", p)
		}
	}
	var leases struct{ Leases []struct{ ID string } }
	if s.Do("lease/leases", "{}", &leases); len(s.values()) != racers || len(leases.Leases) != racers {
		t.Errorf("%d keys, %d leases", len(s.values()), len(leases.Leases))
	}
	t.Logf("%d nodes took %d transactions", racers, s.Requests()["Txn"]-before)
}

// TestEtcdOverlap: nodes that disagree about the length of a subnet never get what overlaps.
func TestEtcdOverlap(t *testing.T) {
	s := newEtcdSite(t, plain)
	one := s.member("r", 1)
	var done sync.WaitGroup
	for i := range 12 {
		n := *one
		n.name, n.run = fmt.Sprintf("o%d", i), state.Dir(filepath.Join(t.TempDir(), "run"))
		n.netConf = filepath.Join(t.TempDir(), "net-conf.json")
		write(t, n.netConf, fmt.Sprintf(`{"Network":"10.244.0.0/16","SubnetLen":%d}`, 22+i%5))
		done.Go(func() { n.must("apply", "--public-ip", fmt.Sprintf("192.168.7.%d", 10+i)) })
	}
	done.Wait()
	var all []netip.Prefix
	for key := range s.values() {
		subnets, err := subnetsAt(key)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range all {
			if other.Overlaps(subnets.IPv4) {
				t.Errorf("%s overlaps %s", subnets.IPv4, other)
			}
		}
		all = append(all, subnets.IPv4)
	}
	if len(all) != 12 {
		t.Errorf("%d keys", len(all))
	}
}

// TestEtcdFollows: what happens in etcd is followed, by one write for each change, and what is no news costs nothing.
func TestEtcdFollows(t *testing.T) {
	s := newEtcdSite(t, plain)
	a := s.member("a", 1)
	a.link("vxlan", fmt.Sprintf(vtep, 1))
	told := statuses(t)
	log, _ := a.watch()
	eventually(t, "a has published", func() bool { return s.value("10.244.0.0-24") == vxlan(1) })
	changes := func() int { return strings.Count(log.String(), "msg=changed") }
	logged(t, log, "acquire ", "lease.json", "vxlan.json", ".synced")
	stands := changes()
	s.peerKey("10.244.5.0-24", vxlan(5))
	eventually(t, "a node of flannel's is a peer", func() bool { return exists(a.run.Peer("192.168.7.5")) })
	eventually(t, "that is logged", func() bool { return changes() > stands })
	if n := changes() - stands; n != 1 {
		t.Errorf("a join took %d changes", n)
	}
	s.peerKey("10.244.5.0-24", vxlan(5)) // flannel renews
	s.peerKey("10.244.6.0-24", `{"PublicIP":"192.168.7.6","PublicIPv6":null}`)
	eventually(t, "a node of flannel's udp is a peer", func() bool { return a.peer("192.168.7.6").Backend.Type == "udp" })
	eventually(t, "that is logged", func() bool { return changes() > stands+1 })
	if n := changes() - stands; n != 2 {
		t.Errorf("a join and a renewal took %d changes", n-1)
	}
	s.Put(prefix+"subnets/10.244.5.0-24", "{", 0)
	eventually(t, "what cannot be read is told of", func() bool { return strings.Contains(log.String(), "subnets/10.244.5.0-24: value:") })
	if !exists(a.run.Peer("192.168.7.5")) {
		t.Error("an unreadable value takes the peer away")
	}
	s.Delete(prefix + "subnets/10.244.6.0-24")
	eventually(t, "a peer is gone", func() bool { return !exists(a.run.Peer("192.168.7.6")) })

	// Somebody deletes this node's own key: it is taken again.
	s.Delete(prefix + "subnets/10.244.0.0-24")
	eventually(t, "a takes its subnet again", func() bool { return s.value("10.244.0.0-24") == vxlan(1) })
	// Somebody else has it before: another is taken, and said.
	s.Do("kv/txn", fmt.Sprintf(`{"success":[{"requestPut":{"key":%q,"value":%q}}]}`, etcdtest.Bytes(prefix+"subnets/10.244.0.0-24"), etcdtest.Bytes(vxlan(8))), nil)
	eventually(t, "a takes another subnet", func() bool {
		return a.lease().Subnet.IPv4.String() == "10.244.1.0/24" && s.value("10.244.1.0-24") == vxlan(1)
	})
	eventually(t, "the other is a peer", func() bool { return a.peer("192.168.7.8").Subnet.IPv4.String() == "10.244.0.0/24" })

	// Another machine with the address of this one.
	for range 3 {
		s.Put(prefix+"subnets/10.244.1.0-24", strings.Replace(vxlan(1), "00:01\"", "00:77\"", 1), s.Keys(prefix + "subnets/")[prefix+"subnets/10.244.1.0-24"].Lease)
		eventually(t, "a puts back its own", func() bool { return s.value("10.244.1.0-24") == vxlan(1) })
	}
	const cause = `another machine publishes the address 192.168.7.1 too, or flanneld runs on this one: set --public-ip, or stop it`
	eventually(t, "the cause is told", func() bool { return strings.Contains(log.String(), cause) && strings.Contains(told.String(), cause) })

	// The store is compacted while this node follows, and etcd is restarted.
	s.Compact()
	s.peerKey("10.244.9.0-24", vxlan(9))
	eventually(t, "a follows after a compaction", func() bool { return exists(a.run.Peer("192.168.7.9")) })
}

// TestEtcdLink: the v6 end of a tunnel that is published with the other.
func TestEtcdLink(t *testing.T) {
	s := newEtcdSite(t, dual)
	a := s.member("a", 1)
	a.must("apply")
	l := state.Link{Version: 1, Uplink: a.uplink, MTU: 1430, Publish: state.Published{
		Type: "vxlan", Data: json.RawMessage(fmt.Sprintf(vtep, 1)), DataV6: json.RawMessage(fmt.Sprintf(vtep, 2)),
	}}
	l.Device.IPv4, l.Device.IPv6 = state.Device{Name: "flannel.1", MTU: 1450}, state.Device{Name: "flannel-v6.1", MTU: 1430}
	if _, err := state.Save(a.run.Link(), l); err != nil {
		t.Fatal(err)
	}
	a.must("apply")
	want := map[string]string{"10.244.0.0-24&fd00:10:244::-64": `{"PublicIP":"192.168.7.1","PublicIPv6":"fd00:7::1","BackendType":"vxlan",` +
		`"BackendData":{"VNI":1,"VtepMAC":"62:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"62:00:00:00:00:02"}}`}
	if diff := cmp.Diff(want, s.values()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := a.must("apply"); got != "" {
		t.Errorf("a further apply printed\n%s", got)
	}
	s.Put(prefix+"config", onlyIP6, 0)
	a.must("apply")
	if got := s.value("fd00:10:244::-64"); !strings.HasPrefix(got, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:7::1"`) || len(s.values()) != 1 {
		t.Errorf("IPv6 alone: %v", s.values())
	}
	if got := a.must("apply"); got != "" {
		t.Errorf("a further apply printed\n%s", got)
	}
}
