package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// TestEtcdKeys: what flannel writes, to the byte. The forms are those of flannel 0.28.
func TestEtcdKeys(t *testing.T) {
	for _, c := range []struct {
		name, key, value string
		lease            int64
		want             Record
	}{
		{
			"vxlan", "10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`, 7,
			Record{PublicIP: ips("192.168.64.3"), Backend: state.Published{Type: "vxlan", Data: []byte(`{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}`)}},
		},
		{
			"dual stack", "10.5.52.0-24&fd00::-64",
			`{"PublicIP":"192.168.64.3","PublicIPv6":"fd00:7::3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:45"}}`, 7,
			Record{PublicIP: ips("192.168.64.3 fd00:7::3"), Backend: state.Published{
				Type: "vxlan", Data: []byte(`{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}`), DataV6: []byte(`{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:45"}`),
			}},
		},
		{"host-gw", "10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"host-gw"}`, 7, Record{PublicIP: ips("192.168.64.3"), Backend: state.Published{Type: "host-gw"}}},
		{"udp has no type", "10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null}`, 7, Record{PublicIP: ips("192.168.64.3"), Backend: state.Published{Type: "udp"}}},
		{"a reservation", "10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null}`, 0, Record{PublicIP: ips("192.168.64.3")}},
		{"a reservation of udp", "10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"udp"}`, 0, Record{PublicIP: ips("192.168.64.3"), Backend: state.Published{Type: "udp"}}},
		{
			"wireguard", "10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"a/b+c=","Port":51820}}`, 7,
			Record{PublicIP: ips("192.168.64.3"), Backend: state.Published{Type: "wireguard", Data: []byte(`{"PublicKey":"a/b+c=","Port":51820}`)}},
		},
		{"IPv6 alone", "fd00::-64", `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:7::3","BackendType":"host-gw"}`, 7, Record{PublicIP: ips("fd00:7::3"), Backend: state.Published{Type: "host-gw"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := recordAt(c.key, []byte(c.value), 5, c.lease)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Version, c.want.Created, c.want.Lease, c.want.Subnet = 1, 5, c.lease, got.Subnet
			if diff := cmp.Diff(c.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
			if key := keyOf(got.Subnet); key != c.key {
				t.Errorf("key %q, want %q", key, c.key)
			}
			if value, err := valueOf(got); err != nil || value != c.value {
				t.Errorf("value\n%s, want\n%s (%v)", value, c.value, err)
			}
		})
	}
	// The keys of an object in any order, as link.json has them, are written in flannel's.
	r := Record{PublicIP: ips("192.168.64.3"), Lease: 7, Backend: state.Published{Type: "wireguard", Data: []byte(`{"Port":51820,"PublicKey":"a"}`)}}
	if value, _ := valueOf(r); value != `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"a","Port":51820}}` {
		t.Errorf("value %s", value)
	}
}

func ips(texts string) (p state.Pair[netip.Addr]) {
	for text := range strings.FieldsSeq(texts) {
		a := netip.MustParseAddr(text)
		p.Set(state.FamilyOf(a), a)
	}
	return p
}

func TestEtcdKeysRefused(t *testing.T) {
	const good = `{"PublicIP":"192.168.64.3"}`
	for _, c := range []struct{ key, value, want string }{
		{"10.5.52.0", good, "is no subnet"},
		{"10.5.52.1-24", good, "is no subnet"},
		{"10.5.52.0-33", good, "is no subnet"},
		{"10.5.52.0-24&10.5.53.0-24", good, "is no subnet"},
		{"", good, "is no subnet"},
		{"x/10.5.52.0-24", good, "is no subnet"},
		{"10.5.52.0-24", "", "value: unexpected end"},
		{"10.5.52.0-24", `{"PublicIP":7}`, "value: json"},
		{"10.5.52.0-24", `{}`, "PublicIP is missing"},
		{"10.5.52.0-24", `{"PublicIP":"0.0.0.0","PublicIPv6":null}`, "PublicIP is missing"},
		{"10.5.52.0-24", `{"PublicIP":"fd00::1"}`, `"fd00::1" is no IPv4 address`},
		{"10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":"192.168.64.3"}`, "is no IPv6 address"},
	} {
		if _, err := recordAt(c.key, []byte(c.value), 1, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %s: %v, want %q", c.key, c.value, err, c.want)
		}
	}
}

func TestAddressName(t *testing.T) {
	for addr, want := range map[string]string{"192.168.7.1": "192.168.7.1", "fd00:7::1": "fd00-7--1", "fd00::": "fd00--0", "::1": "0--1"} {
		name := addressName(ips(addr))
		if name != want || state.CheckNodeName(name) != nil {
			t.Errorf("%s: %q, want %q", addr, name, want)
		}
		for _, text := range []string{name, addr} {
			if back, ok := addressOfName(text); !ok || back != ips(addr) {
				t.Errorf("%q is %v", text, back)
			}
		}
	}
	for _, text := range []string{"", "worker01", "10.5.52.0-24", "0.0.0.0", "fe80::1%eth0"} {
		if _, ok := addressOfName(text); ok {
			t.Errorf("%q is an address", text)
		}
	}
}

// memory is a store that was told of keys: "KEY ADDRESS", in the order of their making.
func memory(node string, me state.Pair[netip.Addr], keys ...string) *etcdStore {
	s := newEtcdStore(etcdAccess{scheme: "etcd", endpoints: []string{"127.0.0.1:1"}, prefix: "/p"}, node, true)
	s.Identify(me, nil)
	for i, text := range keys {
		key, address, _ := strings.Cut(text, " ")
		s.put(kv(key, address, int64(i+1), int64(i+1)))
	}
	return s
}

func kv(key, address string, created, modified int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte("/p/subnets/" + key), Value: []byte(fmt.Sprintf(`{"PublicIP":%q,"BackendType":"host-gw"}`, address)), CreateRevision: created, ModRevision: modified, Lease: 1}
}

// nodes are the names that a store has for its keys.
func nodes(s *etcdStore) map[string]string {
	all := map[string]string{}
	for name, e := range s.listing().Entries {
		all[name] = "unreadable"
		if e.Record != nil {
			all[name] = keyOf(e.Record.Subnet)
			if e.Record.Node != name {
				all[name] += " of " + e.Record.Node
			}
		}
	}
	return all
}

// TestEtcdNames: a node is its address, this one its name; the oldest key of an address is the node's, and every change names all
// whose files are others then.
func TestEtcdNames(t *testing.T) {
	is := func(t *testing.T, s *etcdStore, want ...string) {
		t.Helper()
		all := map[string]string{}
		for i := 0; i < len(want); i += 2 {
			all[want[i]] = want[i+1]
		}
		if diff := cmp.Diff(all, nodes(s)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(s.names) != len(s.held) {
			t.Errorf("%d names of %d keys: %v", len(s.names), len(s.held), s.names)
		}
	}
	touched := func(t *testing.T, got []string, want ...string) {
		t.Helper()
		set := func(list []string) map[string]bool {
			m := map[string]bool{}
			for _, x := range list {
				m[x] = true
			}
			return m
		}
		if diff := cmp.Diff(set(want), set(got)); diff != "" {
			t.Errorf("touched (-want +got):\n%s", diff)
		}
	}
	s := memory("me", ips("192.168.7.1"), "10.5.1.0-24 192.168.7.1", "10.5.2.0-24 192.168.7.2")
	is(t, s, "me", "10.5.1.0-24", "192.168.7.2", "10.5.2.0-24")

	// Another key of an address that is known, and the first one goes.
	touched(t, s.put(kv("10.5.0.0-24", "192.168.7.2", 3, 3)), "192.168.7.2-10.5.0.0-24")
	is(t, s, "me", "10.5.1.0-24", "192.168.7.2", "10.5.2.0-24", "192.168.7.2-10.5.0.0-24", "10.5.0.0-24")
	touched(t, s.drop("10.5.2.0-24"), "192.168.7.2", "192.168.7.2-10.5.0.0-24")
	is(t, s, "me", "10.5.1.0-24", "192.168.7.2", "10.5.0.0-24")

	// A renewal of flannel's, with another lease, is no news; nor is the same once more.
	k := kv("10.5.0.0-24", "192.168.7.2", 3, 9)
	k.Lease = 99
	before := s.held["10.5.0.0-24"].entry.Record
	touched(t, s.put(k))
	if s.held["10.5.0.0-24"].entry.Record != before || s.held["10.5.0.0-24"].lease != 99 {
		t.Error("a renewal makes another record")
	}
	k.Lease = 0 // but that a lease became a reservation is
	touched(t, s.put(k), "192.168.7.2")

	// What cannot be read keeps its name as long as it is known.
	bad := kv("10.5.0.0-24", "nonsense", 3, 10)
	touched(t, s.put(bad), "192.168.7.2")
	is(t, s, "me", "10.5.1.0-24", "192.168.7.2", "unreadable")
	touched(t, s.put(kv("10.5.9.0-24&fd00::-64", "nonsense", 11, 11)), "10.5.9.0-24.fd00---64")
	is(t, s, "me", "10.5.1.0-24", "192.168.7.2", "unreadable", "10.5.9.0-24.fd00---64", "unreadable")
	if got := s.held["10.5.9.0-24&fd00::-64"].entry.Claims; len(got) != 2 {
		t.Errorf("what cannot be read claims %v", got)
	}

	// This node's address changes: its key is the one of its last lease.json, until it told the new one.
	lease := &state.Lease{Subnet: s.held["10.5.1.0-24"].entry.Record.Subnet, PublicIP: ips("192.168.7.1")}
	s.Identify(ips("192.168.7.99"), lease)
	is(t, s, "me", "10.5.1.0-24", "192.168.7.2", "unreadable", "10.5.9.0-24.fd00---64", "unreadable")
	touched(t, s.put(kv("10.5.1.0-24", "192.168.7.99", 1, 12)), "me")
	// It is lost, and another machine made it its own.
	touched(t, s.drop("10.5.1.0-24"), "me")
	touched(t, s.put(kv("10.5.1.0-24", "192.168.7.5", 13, 13)), "192.168.7.5")
	is(t, s, "192.168.7.5", "10.5.1.0-24", "192.168.7.2", "unreadable", "10.5.9.0-24.fd00---64", "unreadable")
}

// TestEtcdOldNews: what a watch tells late changes nothing that is known better.
func TestEtcdOldNews(t *testing.T) {
	s := memory("me", ips("192.168.7.1"), "10.5.1.0-24 192.168.7.1")
	s.synced, s.listed, s.revision = true, 5, 5
	s.told([]*mvccpb.Event{{Type: mvccpb.PUT, Kv: kv("10.5.3.0-24", "192.168.7.3", 4, 4)}, {Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("/p/subnets/10.5.1.0-24"), ModRevision: 5}}})
	if diff := cmp.Diff(map[string]string{"me": "10.5.1.0-24"}, nodes(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h := s.hints.take(); h.All || len(h.Nodes) > 0 {
		t.Errorf("hint %+v", h)
	}
	s.told([]*mvccpb.Event{{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("/p/subnets/10.5.1.0-24"), ModRevision: 6}}})
	if h := s.hints.take(); len(nodes(s)) != 0 || len(h.Nodes) != 1 || h.Nodes[0] != "me" {
		t.Errorf("nodes %v, hint %+v", nodes(s), h)
	}
	s.told([]*mvccpb.Event{{Type: mvccpb.PUT, Kv: &mvccpb.KeyValue{Key: []byte("/p/config"), Value: []byte(plain), ModRevision: 7}}})
	if h := s.hints.take(); !h.All || s.confText == nil {
		t.Errorf("the configuration is new: hint %+v", h)
	}
}

// TestEtcdEmptiedEvents: only the end of the last key, where another node had one, is looked into before it counts.
func TestEtcdEmptiedEvents(t *testing.T) {
	gone := func(key string) *mvccpb.Event {
		return &mvccpb.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("/p/subnets/" + key), ModRevision: 6}}
	}
	made := func(key, ip string) *mvccpb.Event { return &mvccpb.Event{Type: mvccpb.PUT, Kv: kv(key, ip, 6, 6)} }
	both := []string{"10.5.1.0-24 192.168.7.1", "10.5.2.0-24 192.168.7.2"}
	for _, c := range []struct {
		name   string
		held   []string
		events []*mvccpb.Event
		want   bool
	}{
		{"all", both, []*mvccpb.Event{gone("10.5.1.0-24"), gone("10.5.2.0-24")}, true},
		{"all, one of which was told anew before", both, []*mvccpb.Event{made("10.5.1.0-24", "192.168.7.1"), gone("10.5.1.0-24"), gone("10.5.2.0-24")}, true},
		{"the other's", both, []*mvccpb.Event{gone("10.5.2.0-24")}, false},
		{"all, and a new one", both, []*mvccpb.Event{gone("10.5.1.0-24"), gone("10.5.2.0-24"), made("10.5.3.0-24", "192.168.7.3")}, false},
		{"the only one, of this node", both[:1], []*mvccpb.Event{gone("10.5.1.0-24")}, false},
		{"the only one, of another", both[1:], []*mvccpb.Event{gone("10.5.2.0-24")}, true},
		{"none", both[:1], nil, false},
	} {
		if got := memory("me", ips("192.168.7.1"), c.held...).emptied(c.events); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestExpiryByEtcd: what etcd's own lease ends is not ended by a clock here, since etcd may be away.
func TestExpiryByEtcd(t *testing.T) {
	r := Record{Lease: 7, Expires: now.Add(-time.Hour)}
	if r.Expired(now) || r.Reserved() {
		t.Error("a lease of etcd's is ended by this node's clock")
	}
	if r := (Record{Lease: 7}); r.Reserved() || r.Expired(now) {
		t.Error("a lease whose end is not known is a reservation")
	}
}

// FuzzRecordAt: whatever is in etcd, reading it does no harm, and what can be read is written as it was.
func FuzzRecordAt(f *testing.F) {
	f.Add("10.5.52.0-24", `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}`)
	f.Add("10.5.52.0-24&fd00::-64", `{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::1"}`)
	f.Add("-", `{"PublicIP":"::ffff:1.2.3.4","BackendData":null}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		r, err := recordAt(key, []byte(value), 1, 1)
		if err != nil {
			return
		}
		r.Node = addressName(r.PublicIP)
		if err := r.Validate(); err != nil {
			t.Fatalf("%q %s: %v", key, value, err)
		}
		text, err := valueOf(r)
		if err != nil {
			t.Fatalf("%q %s: %v", key, value, err)
		}
		again, err := recordAt(keyOf(r.Subnet), []byte(text), 1, 1)
		again.Node = r.Node
		if err != nil || !again.equal(&r) {
			t.Fatalf("%q %s: written as %s, read as %+v (%v)", key, value, text, again, err)
		}
	})
}

// TestEtcdHints: what a refused connection is called depends on how far it came before the end of it was seen.
func TestEtcdHints(t *testing.T) {
	const (
		want  = "does the server want a client certificate?"
		check = "check --etcd-cafile, --etcd-certfile and --etcd-keyfile"
	)
	for _, c := range []struct{ scheme, certFile, text, hint string }{
		{state.Etcds, "", `error reading server preface: remote error: tls: certificate required`, want},
		{state.Etcds, "", `authentication handshake failed: remote error: tls: bad certificate`, want},
		{state.Etcds, "", `write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe`, want},
		{state.Etcds, "", `authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority`, check},
		{state.Etcds, "a.pem", `error reading server preface: remote error: tls: bad certificate`, check},
		{state.Etcd, "", `error reading server preface: EOF`, "does the server speak TLS?"},
	} {
		err := etcdAccess{scheme: c.scheme, endpoints: []string{"127.0.0.1:1"}, prefix: "/x", certFile: c.certFile}.wrap("list", errors.New(c.text))
		if hint := strings.Join(exit.Hints(err), "\n"); !strings.Contains(hint, c.hint) {
			t.Errorf("%s: hint %q, want %q", c.text, hint, c.hint)
		}
	}
}
