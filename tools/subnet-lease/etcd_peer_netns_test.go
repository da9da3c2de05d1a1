//go:build netns && peer

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/etcdtest"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// TestEtcdPeer: flanneld itself, which PEER_FLANNELD names, and towpath on one etcd: they write the same bytes, read each other, and
// hand a subnet to each other.
func TestEtcdPeer(t *testing.T) {
	program := os.Getenv("PEER_FLANNELD")
	if program == "" {
		t.Fatal("it needs PEER_FLANNELD=PROGRAM")
	}
	for _, c := range []struct{ name, conf, ours string }{
		{"vxlan", `{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}`, "10.244.0.0-24"},
		{"host-gw", `{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"host-gw"}}`, "10.244.0.0-24"},
		{"dual", `{"EnableIPv6":true,"Network":"10.244.0.0/16","IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}`, "10.244.0.0-24&fd00:10:244::-64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newEtcdSite(t, c.conf)
			near := nstest.New(t, "flanneld")
			run(t, "ip", "link", "add", "to-f", "type", "veth", "peer", "name", "eth0", "netns", near.Name)
			t.Cleanup(func() { try("ip", "link", "del", "to-f") })
			for _, addr := range []string{"192.168.7.254/24", "fd00:7::fe/64"} {
				run(t, "ip", "addr", "add", addr, "dev", "to-f")
			}
			run(t, "ip", "link", "set", "to-f", "up")
			near.NoDAD()
			near.Run("ip", "addr", "add", "192.168.7.9/24", "dev", "eth0")
			near.Run("ip", "addr", "add", "fd00:7::9/64", "dev", "eth0", "nodad")
			near.Run("ip", "link", "set", "eth0", "up")
			near.Run("ip", "route", "add", "default", "via", "192.168.7.254")
			near.Run("ip", "-6", "route", "add", "default", "via", "fd00:7::fe")

			env := filepath.Join(t.TempDir(), "subnet.env")
			start := func() *etcdtest.Process {
				log := filepath.Join(t.TempDir(), "flanneld.log")
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(etcdtest.Tail(log))
					}
				})
				return etcdtest.Run(t, log, "ip", "netns", "exec", near.Name, program, "--etcd-endpoints=http://192.168.7.254:"+s.Port, "--iface=eth0", "--subnet-file="+env, "--iptables-forward-rules=false")
			}
			flanneld := start()
			eventually(t, "flanneld has a lease", func() bool { return len(s.values()) == 1 && exists(env) })
			var key, value string
			for key, value = range s.values() {
			}
			id, granted, _ := s.lease(key)
			r, err := recordAt(key, []byte(value), 1, id)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := valueOf(r); err != nil || again != value || keyOf(r.Subnet) != key || granted != 86400 {
				t.Errorf("flanneld wrote %s %s, lease of %d s; the same is written here as\n%s %s (%v)", key, value, granted, keyOf(r.Subnet), again, err)
			}

			// towpath beside it. Each knows the other.
			a := s.member("a", 1)
			a.watch()
			l := state.Link{Version: 1, Uplink: a.uplink, MTU: 1430, Publish: state.Published{Type: "host-gw"}}
			l.Device.IPv4 = state.Device{Name: a.uplink, MTU: 1500}
			if c.name != "host-gw" {
				l.Publish = state.Published{Type: "vxlan", Data: []byte(fmt.Sprintf(vtep, 1))}
				l.Device.IPv4 = state.Device{Name: "flannel.1", MTU: 1450}
			}
			if c.name == "dual" {
				l.Publish.DataV6 = []byte(fmt.Sprintf(vtep, 2))
				l.Device.IPv6 = state.Device{Name: "flannel-v6.1", MTU: 1430}
			}
			if _, err := state.Save(a.run.Link(), l); err != nil {
				t.Fatal(err)
			}
			eventually(t, "towpath knows flanneld's node", func() bool { return a.peer("192.168.7.9").Subnet == r.Subnet })
			eventually(t, "flanneld has a route to towpath's node", func() bool {
				routes := near.Run("ip", "route")
				if c.name == "dual" {
					routes += near.Run("ip", "-6", "route")
				}
				return strings.Contains(routes, a.lease().Subnet.IPv4.String()+" via") && (c.name != "dual" || strings.Contains(routes, a.lease().Subnet.IPv6.String()+" via"))
			})
			want := value
			want = strings.ReplaceAll(strings.ReplaceAll(want, "192.168.7.9", "192.168.7.1"), "fd00:7::9", "fd00:7::1")
			for _, data := range []struct{ theirs, ours string }{{string(r.Backend.Data), string(l.Publish.Data)}, {string(r.Backend.DataV6), string(l.Publish.DataV6)}} {
				if data.theirs != "" {
					want = strings.Replace(want, data.theirs, data.ours, 1)
				}
			}
			eventually(t, "towpath's value is flanneld's but for the addresses", func() bool { return s.value(c.ours) == want })

			// flanneld's node is taken over, and handed back: the key stays, whoever runs.
			flanneld.Kill()
			b := &node{Namespace: near, t: t, name: "b", run: state.Dir(filepath.Join(t.TempDir(), "run")), store: "etcd://192.168.7.254:" + s.Port}
			if got := b.must("apply"); strings.Contains(got, "acquire") || strings.Contains(got, "publish") || b.lease().Subnet != r.Subnet || s.value(key) != value {
				t.Errorf("towpath in flanneld's place: %s\n%s, want %s", got, s.value(key), value)
			}
			if _, err := state.Save(b.run.Link(), state.Link{Version: 1, Uplink: "eth0", MTU: 1450, Device: l.Device, Publish: r.Backend}); err != nil {
				t.Fatal(err)
			}
			if got := b.must("apply"); strings.Contains(got, "publish") {
				t.Errorf("the same is published again: %s", got)
			}
			os.Remove(env)
			start()
			eventually(t, "flanneld is back", func() bool { return exists(env) })
			if _, ok := s.values()[key]; !ok || len(s.values()) != 2 {
				t.Errorf("the keys are %v", s.values())
			}
		})
	}
}
