//go:build netns

package nl

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
)

// TestBridgeAndVeth makes a bridge with a pair as the CNI plugin does, and compares with what ip(8) says.
func TestBridgeAndVeth(t *testing.T) {
	host, pod := nstest.New(t, "host"), nstest.New(t, "pod")
	netns, err := OpenNetns(pod.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	host.Do(func() {
		s, err := OpenSocket()
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		br := Bridge{Name: "br0", MAC: MAC{2, 0, 0, 0, 0, 1}, MTU: 1400, Alias: "mine"}
		if err := s.Do(AddBridge(br), AddBridge(br), SetBridge(br)); err != nil {
			t.Error(err)
		}
		d, ok, err := s.Device("br0")
		if err != nil || !ok || d.Kind != "bridge" || d.MTU != 1400 || d.MAC != "02:00:00:00:00:01" || d.Alias != "mine" || !d.Up || d.Promisc {
			t.Errorf("%+v %t %v", d, ok, err)
		}
		v := Veth{Name: "v0", MAC: MAC{2, 0, 0, 0, 0, 2}, MTU: 1400, Bridge: d.Index, Peer: "eth0", PeerMAC: MAC{2, 0, 0, 0, 0, 3}, Netns: netns}
		if err := s.Do(AddVeth(v), NoLinkLocal("v0"), SetPort("v0", Port{Hairpin: true, Isolated: true, Alias: "pod"})); err != nil {
			t.Error(err)
		}
		if err := s.Do(AddVeth(v)); !errors.Is(err, unix.EEXIST) || !strings.HasPrefix(err.Error(), "ip link add v0 ") {
			t.Errorf("a second pair: %v", err)
		}
		ports, err := s.Ports(d.Index)
		if err != nil || len(ports) != 1 || !ports[0].Hairpin || !ports[0].Isolated || ports[0].Alias != "pod" || ports[0].Kind != "veth" || !ports[0].Up {
			t.Errorf("%+v %v", ports, err)
		}
		gw := AddrChange{Verb: Replace, Prefix: netip.MustParsePrefix("10.1.0.1/24"), Link: d.Index, Dev: "br0"}
		gw6 := AddrChange{Verb: Replace, Prefix: netip.MustParsePrefix("fd00::1/64"), Link: d.Index, Dev: "br0"}
		if err := s.Do(gw, gw, gw6, gw6); err != nil {
			t.Error(err)
		}
		for _, v6 := range []bool{false, true} {
			addrs, err := s.Addrs(d.Index, v6)
			if err != nil || len(addrs) != 1 || addrs[0].Unusable || addrs[0].Prefix.Addr().Is6() != v6 {
				t.Errorf("%+v %v", addrs, err)
			}
		}
		gw.Verb = Delete
		if err := s.Do(gw, gw, SetMTU(d.Index, "br0", 1300), SetMAC(d.Index, "br0", MAC{2, 0, 0, 0, 0, 9})); err != nil {
			t.Error(err)
		}
		if d, _, _ := s.Device("br0"); d.MTU != 1300 || d.MAC != "02:00:00:00:00:09" {
			t.Errorf("%+v", d)
		}
		if _, ok, err := s.Device("none"); ok || err != nil {
			t.Errorf("a device that is not there: %t %v", ok, err)
		}
	})
	if out := host.Run("ip", "-6", "addr", "show", "v0"); strings.Contains(out, "fe80") {
		t.Errorf("the port has a link-local address:\n%s", out)
	}
	if out := host.Run("ip", "addr", "show", "br0"); strings.Contains(out, "10.1.0.1") || !strings.Contains(out, "fd00::1/64") {
		t.Errorf("addresses of the bridge:\n%s", out)
	}
	err = netns.Do(func() error {
		s, err := OpenSocket()
		if err != nil {
			return err
		}
		defer s.Close()
		d, ok, err := s.Device("eth0")
		if err != nil || !ok || d.MAC != "02:00:00:00:00:03" || d.MTU != 1400 || d.Up {
			t.Errorf("%+v %t %v", d, ok, err)
		}
		table := 100
		return s.Do(
			AddrChange{Verb: Add, Prefix: netip.MustParsePrefix("10.1.0.2/24"), Link: d.Index, Dev: "eth0"}, SetUp(d.Index, "eth0"),
			PathChange{RouteChange{Replace, Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.1.0.1"), Link: d.Index, Protocol: ProtocolBoot}, "eth0"}, table, -1, 1200, 1100},
		)
	})
	if err != nil {
		t.Error(err)
	}
	if out := pod.Run("ip", "route", "show", "table", "100"); !strings.Contains(out, "default via 10.1.0.1 dev eth0 mtu 1200 advmss 1100") {
		t.Errorf("route: %s", out)
	}
	if out := pod.Run("ip", "-br", "addr", "show", "eth0"); !strings.Contains(out, "10.1.0.2/24") {
		t.Errorf("addresses of the pod: %s", out)
	}
	if out := pod.Run("ip", "addr", "show", "eth0"); !strings.Contains(out, "brd 10.1.0.255") {
		t.Errorf("no broadcast address: %s", out)
	}
	host.Do(func() {
		s, err := OpenSocket()
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		if err := s.Do(DeleteLink("v0"), DeleteLink("v0")); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenNetns(t *testing.T) {
	a := nstest.New(t, "a")
	one, err := OpenNetns(a.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	own, err := OwnNetns()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if again, err := OpenNetns(a.Path); err != nil || !again.Same(one) || own.Same(one) {
		t.Errorf("the same namespace is not the same: %v", err)
	}
	if _, err := OpenNetns("/run/netns/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	if _, err := OpenNetns("/etc/passwd"); !errors.Is(err, ErrNoNetns) {
		t.Errorf("a file: %v", err)
	}
}
