//go:build netns

package policy

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/probe"
)

// TestSpoof is what a pod with raw sockets may try. No policy isolates anybody: what is dropped is dropped for lying.
func TestSpoof(t *testing.T) {
	n := node.New(t)
	n.Namespaces("dev")
	n.Policies()
	evil, victim, other := n.Pod("dev/evil", ""), n.Pod("dev/victim", ""), n.Pod("dev/other", "")
	s := &scene{Node: n, t: t, pods: map[string]*node.Pod{"evil": evil, "victim": victim, "other": other}}
	open := "evil -> victim 80/TCP: allow\nevil -> external 80/UDP: allow\nvictim -> other 80/TCP: allow\nother -> victim 80/SCTP: allow\nexternal -> victim 80/TCP: allow\n"
	world := node.World{Node: n}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"source address", func(t *testing.T) { spoofedSource(t, s, evil, []node.Place{victim, world}) }},
		{"source MAC", func(t *testing.T) { spoofedMAC(t, s, evil, victim, other) }},
		{"ARP", func(t *testing.T) { spoofedARP(t, s, evil, victim, other) }},
		{"ND", func(t *testing.T) { spoofedND(t, s, evil, victim, other) }},
		{"other ethertypes", func(t *testing.T) { ethertypes(t, s, evil, victim) }},
		{"VXLAN", func(t *testing.T) { vxlan(t, s, evil, victim, world) }},
		{"an interface that nobody announced", func(t *testing.T) { stranger(t, s, evil, world) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer s.in(t)()
			s.expect(t, open)
			test.run(t)
			s.expect(t, open)
		})
	}
}

func spoofedSource(t *testing.T, s *scene, evil *node.Pod, targets []node.Place) {
	for family := range 2 {
		lies := []string{
			s.address("other", family).String(), node.Gateway[family], node.Uplink[family], node.Next[family], node.External[2*family], node.Remote[2*family],
			[]string{"10.244.1.250", "fd00:10:244:1::fa"}[family], []string{"127.0.0.1", "::1"}[family], []string{"0.0.0.0", "::"}[family],
			[]string{"255.255.255.255", "fe80::1234"}[family], []string{"224.0.0.1", "ff02::1"}[family],
		}
		for i, target := range targets {
			to := []netip.Addr{s.address("victim", family), netip.MustParseAddr(node.External[2*family])}[i]
			for _, lie := range lies {
				for _, protocol := range []uint8{probe.UDP, probe.TCP, probe.ICMP} {
					p := probe.Packet{From: netip.MustParseAddr(lie), To: to, Protocol: protocol, Port: 80}
					if s.Passes(evil, target, p, false) {
						t.Errorf("%s arrives", p)
					}
				}
			}
		}
		for _, lie := range lies { // and to a socket of the node
			if s.heardOn(t, evil, netip.MustParseAddr(lie), netip.MustParseAddr(node.Gateway[family]), 4321, false) {
				t.Errorf("a datagram from %s arrives at the node", lie)
			}
		}
	}
}

func spoofedMAC(t *testing.T, s *scene, evil, victim, other *node.Pod) {
	gateway := s.bridgeMAC()
	for family := range 2 {
		ethertype := []uint16{probe.IPv4, probe.IPv6}[family]
		for _, lie := range []net.HardwareAddr{other.MAC, gateway, {2, 1, 2, 3, 4, 5}} {
			p := s.Next(probe.Packet{From: evil.IPs[family], To: victim.IPs[family], Protocol: probe.UDP, Port: 80})
			s.frame(t, evil, probe.Frame(victim.MAC, lie, ethertype, p.Bytes()))
			if s.Arrives(victim, p, 20*time.Millisecond) {
				t.Errorf("%s from MAC %s arrives", p, lie)
			}
		}
	}
	// A learned lie would lead other's packets to evil.
	if out := s.Namespace.Run("bridge", "fdb", "show", "dynamic"); strings.Count(out, other.MAC.String()) > 1 {
		t.Errorf("the bridge knows %s twice:\n%s", other.MAC, out)
	}
}

// seen says whether a frame that holds these bytes arrives at a pod. expected decides how long it is waited for, not the answer.
func (s *scene) seen(at *node.Pod, what []byte, expected bool) bool {
	limit := 20 * time.Millisecond
	if expected {
		limit = 3 * time.Second
	}
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if frame := at.Wire.Receive(5); bytes.Contains(frame, what) {
			return true
		}
	}
	return false
}

func (s *scene) frame(t *testing.T, from *node.Pod, frame []byte) {
	t.Helper()
	if err := from.Wire.Send(frame); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) bridgeMAC() net.HardwareAddr {
	var link *net.Interface
	s.Do(func() { link, _ = net.InterfaceByName("cni0") })
	return link.HardwareAddr
}

var everybody = net.HardwareAddr{255, 255, 255, 255, 255, 255}

func spoofedARP(t *testing.T, s *scene, evil, victim, other *node.Pod) {
	gateway, none := netip.MustParseAddr(node.Gateway[0]), net.HardwareAddr{0, 0, 0, 0, 0, 0}
	own := probe.ARP(1, evil.MAC, evil.IPs[0], none, victim.IPs[0])
	s.frame(t, evil, probe.Frame(everybody, evil.MAC, probe.TypeARP, own))
	if !s.seen(victim, own, true) {
		t.Error("an honest request does not arrive")
	}
	for _, lie := range []netip.Addr{gateway, other.IPs[0], netip.MustParseAddr("10.244.1.250"), netip.MustParseAddr("192.0.2.1")} {
		for _, to := range []net.HardwareAddr{victim.MAC, everybody} {
			for operation := range uint16(2) {
				for _, message := range [][]byte{
					probe.ARP(1+operation, evil.MAC, lie, victim.MAC, victim.IPs[0]), // "I am the other"
					probe.ARP(1+operation, evil.MAC, lie, evil.MAC, lie),             // gratuitous
				} {
					s.frame(t, evil, probe.Frame(to, evil.MAC, probe.TypeARP, message))
					if s.seen(victim, message, false) {
						t.Errorf("ARP %d, %s is at %s, arrives", 1+operation, lie, evil.MAC)
					}
				}
			}
		}
	}
	message := probe.ARP(2, other.MAC, evil.IPs[0], victim.MAC, victim.IPs[0])
	s.frame(t, evil, probe.Frame(victim.MAC, evil.MAC, probe.TypeARP, message))
	if s.seen(victim, message, false) {
		t.Errorf("ARP, %s is at %s, arrives", evil.IPs[0], other.MAC)
	}
	for _, n := range []*nstest.Namespace{victim.Namespace, s.Namespace} {
		if out := n.Run("ip", "-4", "neigh"); strings.Count(out, evil.MAC.String()) > 1 || strings.Contains(out, evil.IPs[0].String()+" dev eth0 lladdr "+other.MAC.String()) {
			t.Errorf("%s believes the lie:\n%s", n.Name, out)
		}
	}
}

func spoofedND(t *testing.T, s *scene, evil, victim, other *node.Pod) {
	gateway, all, local := netip.MustParseAddr(node.Gateway[1]), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("fe80::bad")
	send := func(kind uint8, from, to, target netip.Addr, mac net.HardwareAddr, want bool) {
		t.Helper()
		message := probe.ND(kind, from, to, target, mac)
		s.frame(t, evil, probe.Frame(victim.MAC, evil.MAC, probe.IPv6, message))
		if got := s.seen(victim, message, want); got != want {
			t.Errorf("ND %d from %s: %s is at %s: arrives %v", kind, from, target, mac, got)
		}
	}
	send(probe.NeighbourAdvert, evil.IPs[1], victim.IPs[1], evil.IPs[1], evil.MAC, true)
	send(probe.NeighbourSolicitation, evil.IPs[1], victim.IPs[1], victim.IPs[1], evil.MAC, true)
	for _, from := range []netip.Addr{evil.IPs[1], other.IPs[1], gateway, local} {
		for _, to := range []netip.Addr{victim.IPs[1], all} {
			send(probe.NeighbourAdvert, from, to, gateway, evil.MAC, false)
			send(probe.NeighbourAdvert, from, to, other.IPs[1], evil.MAC, false)
			send(probe.RouterAdvertisement, from, to, gateway, evil.MAC, false)
			send(probe.Redirect, from, to, gateway, evil.MAC, false)
		}
	}
	send(probe.NeighbourSolicitation, other.IPs[1], victim.IPs[1], victim.IPs[1], evil.MAC, false)
	send(probe.NeighbourSolicitation, gateway, victim.IPs[1], victim.IPs[1], evil.MAC, false)
	for _, n := range []*nstest.Namespace{victim.Namespace, s.Namespace} {
		for line := range strings.Lines(n.Run("ip", "-6", "neigh")) {
			if strings.Contains(line, evil.MAC.String()) && (strings.HasPrefix(line, other.IPs[1].String()+" ") || strings.HasPrefix(line, gateway.String()+" ")) {
				t.Errorf("%s believes the lie: %s", n.Name, line)
			}
		}
	}
	if out := victim.Run("ip", "-6", "route"); strings.Contains(out, "proto ra") {
		t.Errorf("a pod's router advertisement is believed:\n%s", out)
	}
}

// ethertypes other than those of IP and ARP could carry anything past the rules: VLAN tags, PPPoE, MPLS.
func ethertypes(t *testing.T, s *scene, evil, victim *node.Pod) {
	for _, kind := range []uint16{0x8100, 0x88a8, 0x8864, 0x8847, 0x88cc, 0x9000, 0x8137} {
		p := s.Next(probe.Packet{From: netip.MustParseAddr(node.External[0]), To: victim.IPs[0], Protocol: probe.UDP, Port: 80}).Bytes()
		for _, head := range [][]byte{nil, {0, 1, 8, 0}, {0x11, 0, 0, 1, 0, byte(len(p) + 2), 0, 0x21}} {
			message := append(bytes.Clone(head), p...)
			s.frame(t, evil, probe.Frame(victim.MAC, evil.MAC, kind, message))
			if s.seen(victim, p, false) {
				t.Errorf("a frame of ethertype %04x arrives", kind)
			}
		}
	}
}

func vxlan(t *testing.T, s *scene, evil, victim *node.Pod, world node.World) {
	for family := range 2 {
		for _, to := range []string{node.Next[family], node.External[2*family]} {
			p := probe.Packet{From: evil.IPs[family], To: netip.MustParseAddr(to), Protocol: probe.UDP, Port: 8472}
			if s.Passes(evil, world, p, false) {
				t.Errorf("%s arrives", p)
			}
			if p.Port = 8471; !s.Passes(evil, world, p, true) {
				t.Errorf("%s does not arrive", p)
			}
		}
		for _, to := range []string{node.Gateway[family], node.Uplink[family]} {
			if s.heardOn(t, evil, evil.IPs[family], netip.MustParseAddr(to), 8472, false) {
				t.Errorf("a datagram to the node's %s port 8472 arrives", to)
			}
			if !s.heardOn(t, evil, evil.IPs[family], netip.MustParseAddr(to), 8473, true) {
				t.Errorf("a datagram to the node's %s port 8473 does not arrive", to)
			}
		}
		p := probe.Packet{From: evil.IPs[family], To: victim.IPs[family], Protocol: probe.UDP, Port: 8472}
		if !s.Passes(evil, victim, p, true) {
			t.Errorf("%s does not arrive; it is between pods", p)
		}
	}
}

// stranger is a device that somebody made a port of the bridge, with an address of this node's subnet, and told nobody.
func stranger(t *testing.T, s *scene, evil *node.Pod, world node.World) {
	far := nstest.New(t, "stranger")
	nstest.Connect(s.Namespace, "stranger0", "", far, "eth0", "10.244.1.222/24 fd00:10:244:1::de/64")
	s.Namespace.Run("ip", "link", "set", "stranger0", "master", "cni0")
	var wire *probe.Wire
	var err error
	var own net.HardwareAddr
	far.Do(func() {
		if wire, err = probe.Open("eth0"); err == nil {
			link, _ := net.InterfaceByName("eth0")
			own = link.HardwareAddr
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	for family, address := range []string{"10.244.1.222", "fd00:10:244:1::de"} {
		at := strangePlace{wire, own, s.bridgeMAC()}
		self := netip.MustParseAddr(address)
		// Its neighbours are found out as everybody's are.
		s.Namespace.Run("ip", "neigh", "replace", address, "lladdr", own.String(), "dev", "cni0")
		p := s.Next(probe.Packet{From: evil.IPs[family], To: self, Protocol: probe.UDP, Port: 80})
		s.frame(t, evil, probe.Frame(own, evil.MAC, []uint16{probe.IPv4, probe.IPv6}[family], p.Bytes()))
		if s.Arrives(at, p, 20*time.Millisecond) {
			t.Errorf("%s arrives", p)
		}
		for _, p := range []probe.Packet{
			{From: netip.MustParseAddr(node.External[2*family]), To: self, Protocol: probe.TCP, Port: 80},
			{From: netip.MustParseAddr(node.Remote[2*family]), To: self, Protocol: probe.UDP, Port: 80},
		} {
			if s.Passes(world, at, p, false) {
				t.Errorf("%s arrives", p)
			}
		}
		if p := (probe.Packet{From: self, To: netip.MustParseAddr(node.External[2*family]), Protocol: probe.UDP, Port: 80}); s.Passes(at, world, p, false) {
			t.Errorf("%s arrives", p)
		}
		p = s.Next(probe.Packet{From: self, To: evil.IPs[family], Protocol: probe.UDP, Port: 80})
		if err := wire.Send(probe.Frame(evil.MAC, own, []uint16{probe.IPv4, probe.IPv6}[family], p.Bytes())); err != nil {
			t.Fatal(err)
		}
		if s.Arrives(evil, p, 20*time.Millisecond) {
			t.Errorf("%s arrives", p)
		}
	}
}

// strangePlace is a Place that is no pod.
type strangePlace struct {
	wire     *probe.Wire
	own, hop net.HardwareAddr
}

func (p strangePlace) At() *probe.Wire { return p.wire }

func (p strangePlace) Hop(netip.Addr) (next, own net.HardwareAddr) { return p.hop, p.own }
