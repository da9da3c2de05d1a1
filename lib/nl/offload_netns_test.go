//go:build netns

package nl

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

// tunnelled makes two nodes with a VXLAN device each, joined by join, that know each other.
func tunnelled(t *testing.T, join func(a *nstest.Namespace, devA, addrsA string, b *nstest.Namespace, devB, addrsB string)) (a, b *nstest.Namespace) {
	t.Helper()
	a, b = nstest.New(t, "a"), nstest.New(t, "b")
	join(a, "eth0", "192.168.9.1/24 fd00:9::1/64", b, "eth0", "192.168.9.2/24 fd00:9::2/64")
	for i, n := range []*nstest.Namespace{a, b} {
		self, other := fmt.Sprint(i+1), fmt.Sprint(2-i)
		n.Run("ip", "link", "add", "flannel.1", "address", "02:00:00:00:00:0"+self, "mtu", "1450", "type", "vxlan", "id", "1", "dev", "eth0",
			"local", "192.168.9."+self, "dstport", "8472", "nolearning")
		n.Run("ip", "link", "add", "flannel-v6.1", "address", "02:00:00:00:06:0"+self, "mtu", "1430", "type", "vxlan", "id", "1", "dev", "eth0",
			"local", "fd00:9::"+self, "dstport", "8472", "nolearning")
		n.Run("ip", "addr", "add", "10.244."+self+".0/32", "dev", "flannel.1")
		n.Run("ip", "addr", "add", "fd00:10:"+self+"::/128", "dev", "flannel-v6.1", "nodad")
		for _, dev := range []string{"flannel.1", "flannel-v6.1"} {
			n.Run("ip", "link", "set", dev, "up")
		}
		n.Run("ip", "neigh", "add", "10.244."+other+".0", "lladdr", "02:00:00:00:00:0"+other, "dev", "flannel.1")
		n.Run("bridge", "fdb", "add", "02:00:00:00:00:0"+other, "dev", "flannel.1", "dst", "192.168.9."+other)
		n.Run("ip", "route", "add", "10.244."+other+".0/24", "via", "10.244."+other+".0", "dev", "flannel.1", "onlink")
		n.Run("ip", "neigh", "add", "fd00:10:"+other+"::", "lladdr", "02:00:00:00:06:0"+other, "dev", "flannel-v6.1")
		n.Run("bridge", "fdb", "add", "02:00:00:00:06:0"+other, "dev", "flannel-v6.1", "dst", "fd00:9::"+other)
		n.Run("ip", "-6", "route", "add", "fd00:10:"+other+"::/64", "via", "fd00:10:"+other+"::", "dev", "flannel-v6.1", "onlink")
	}
	return a, b
}

func TestEthtool(t *testing.T) {
	n, _, events, _ := vxlanNamespace(t, WatchLinks)
	n.Run("ip", "link", "add", "br0", "type", "bridge")
	n.Do(func() {
		for dev, want := range map[string]string{"vx0": "vxlan", "eth0": "veth", "br0": "bridge"} {
			if got, err := Driver(dev); got != want || err != nil {
				t.Errorf("driver of %s: %q %v", dev, got, err)
			}
		}
		if err := events.Drain(func(Event) {}); err != nil {
			t.Error(err)
		}
		for _, want := range []bool{false, true} { // it is on at first
			op := SetTxChecksum("vx0", want)
			if text := "ethtool -K vx0 tx-checksum-ip-generic " + map[bool]string{true: "on", false: "off"}[want]; op.String() != text {
				t.Errorf("%q, want %q", op, text)
			}
			if err := op.Do(t.Context()); err != nil {
				t.Error(err)
			}
			if on, err := TxChecksum("vx0"); on != want || err != nil {
				t.Errorf("set %t, is %t %v", want, on, err)
			}
			told := false
			if err := events.Drain(func(ev Event) { told = told || ev.What == LinkEvent && ev.Link.Name == "vx0" }); err != nil || !told {
				t.Errorf("the change to %t was not told (%v)", want, err)
			}
		}
		for _, name := range []string{"none", "a-name-too-long-for-a-device"} {
			if _, err := TxChecksum(name); !errors.Is(err, unix.ENODEV) || exit.Of(err) != exit.Refused {
				t.Errorf("%s: %v", name, err)
			}
			if err := SetTxChecksum(name, true).Do(t.Context()); !errors.Is(err, unix.ENODEV) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := SetTxChecksum("lo", false).Do(t.Context()); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("lo, whose checksum offload is fixed: %v", err)
		}
	})
}

func TestKnock(t *testing.T) {
	for _, tc := range []struct {
		name      string
		join      func(a *nstest.Namespace, devA, addrsA string, b *nstest.Namespace, devB, addrsB string)
		offload   bool
		offloaded bool // is answered
	}{
		{"by a cable", nstest.Connect, true, true},
		{"over a card with the fault", nstest.ConnectFaulty, true, false},
		{"over that card, offload off", nstest.ConnectFaulty, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, _ := tunnelled(t, tc.join)
			a.Do(func() {
				for dev, ends := range map[string][2]string{"flannel.1": {"10.244.1.0", "10.244.2.0"}, "flannel-v6.1": {"fd00:10:1::", "fd00:10:2::"}} {
					if !tc.offload {
						if err := SetTxChecksum(dev, false).Do(t.Context()); err != nil {
							t.Error(err)
						}
					}
					k, err := OpenKnock(t.Context(), netip.MustParseAddr(ends[0]), netip.AddrPortFrom(netip.MustParseAddr(ends[1]), 33434))
					if err != nil {
						t.Error(err)
						return
					}
					defer k.Close()
					for i, complete := range []bool{true, false, true} {
						text := fmt.Sprintf("datagram %d %t", i, complete)
						if err := k.Send([]byte(text), complete); err != nil {
							t.Errorf("%s %s: %v", dev, text, err)
						}
						want, wait := complete || tc.offloaded, 500*time.Millisecond
						if want {
							wait = 10 * time.Second
						}
						got, ok, err := k.Answered(time.Now().Add(wait))
						if err != nil || ok != want || ok && string(got) != text {
							t.Errorf("%s %s: answered %t about %q (%v)", dev, text, ok, got, err)
						}
					}
				}
			})
		})
	}
}
