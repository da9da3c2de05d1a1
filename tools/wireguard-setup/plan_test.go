package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

const psk = "2vXs3cn9ysnnRSu2oSzP9CR6a8IXZD8wX0KD2jT0a/s="

// keyOf is a private key that is the same in every run.
func keyOf(n byte) secret {
	k := wgtypes.Key{1: n, 31: 64}
	return secret(k)
}

func public(n byte) string { return keyOf(n).public().String() }

func input() state.BackendInput {
	in := state.BackendInput{
		Version: 1, Node: "worker01", Backend: state.Backend{Type: backend, Port: 51820, Raw: json.RawMessage(`{}`)},
		Interface: state.Interface{Name: "eth0", MTU: 1500},
	}
	in.Subnet.IPv4, in.PublicIP.IPv4 = netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("192.168.0.11")
	return in
}

func dual(raw string) state.BackendInput {
	in := input()
	in.Backend.Raw = json.RawMessage(raw)
	in.Subnet.IPv6, in.PublicIP.IPv6 = netip.MustParsePrefix("fd00:10:1::/64"), netip.MustParseAddr("fd00::11")
	return in
}

// node is worker0N as it publishes itself with flannel's default ports.
func node(n byte) state.Peer {
	p := state.Peer{Version: 1, Node: fmt.Sprintf("worker%02d", n), Backend: state.Published{
		Type: backend, Data: data(n, 51820), DataV6: data(n, 51821),
	}}
	p.Subnet.IPv4, p.Subnet.IPv6 = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:%d::/64", n))
	p.PublicIP.IPv4, p.PublicIP.IPv6 = netip.MustParseAddr(fmt.Sprintf("192.168.0.%d", 10+n)), netip.MustParseAddr(fmt.Sprintf("fd00::%d", 10+n))
	return p
}

func data(n byte, port int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"PublicKey":%q,"Port":%d}`, public(n), port))
}

func uplink() observed {
	return observed{
		Kernel: setup.Kernel{Links: map[string]nl.Link{"eth0": {Index: 2, Name: "eth0", MTU: 1500, Up: true}}, Addrs: map[int][]nl.Addr{}},
		IPv6:   true, RAs: map[string]bool{}, Devices: map[string]wireguard{},
	}
}

// decide is what Plan does with its inputs.
func decide(t *testing.T, in state.BackendInput, have observed, nodes ...state.Peer) ([]tunnel, state.Link, map[string]string) {
	t.Helper()
	set, all, err := settingsOf("wireguard.json", in)
	if err != nil {
		t.Fatal(err)
	}
	want, link, err := tunnelsOf("wireguard.json", in, set, have, keyOf(1))
	if err != nil {
		t.Fatal(err)
	}
	peers := map[string]state.Peer{}
	for _, n := range nodes {
		peers[n.Node] = n
	}
	return want, link, peersOf(want, in, set, all, peers)
}

func kernelDiffer() differ {
	return differ{conn: new(nl.Conn), kind: kindWireGuard, keyFile: "wireguard.key", input: "wireguard.json", now: time.Unix(1000, 0)}
}

func texts(ops []plan.Op) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString(op.String() + "\n")
	}
	return b.String()
}

// all is every operation in Plan's order.
func all(d differ, want []tunnel, have observed) string {
	out := texts(d.links(want, have))
	for _, w := range want {
		dev := have.Devices[w.Name]
		if dev.Peers == nil {
			dev.Peers = map[wgtypes.Key]held{}
		}
		out += texts(d.peers(w, dev))
	}
	return out
}

// made is a machine as the tunnels ask for.
func made(want []tunnel, kind string) observed {
	o := uplink()
	for i, w := range want {
		index := 10 + i
		o.Links[w.Name] = nl.Link{Index: index, Name: w.Name, Kind: kind, MTU: w.MTU, Alias: nl.Mark, Up: true}
		for _, a := range w.Addresses {
			o.Addrs[index] = append(o.Addrs[index], nl.Addr{Prefix: a, Link: index})
		}
		dev := wireguard{Key: w.Key, Port: w.Port, Peers: map[wgtypes.Key]held{}}
		for key, p := range w.Peers {
			p.Node = "" // a device knows no names
			dev.Peers[key] = held{peer: p}
		}
		o.Devices[w.Name] = dev
	}
	return o
}

func TestDiff(t *testing.T) {
	in := dual(`{"PSK":"` + psk + `","PersistentKeepaliveInterval":25}`)
	want, link, leftOut := decide(t, in, uplink(), node(2), node(3))
	if len(leftOut) > 0 {
		t.Error(leftOut)
	}
	if err := link.Validate(); err != nil || link.MTU != 1420 || link.Device.IPv4.Name != deviceName || link.Device.IPv6.Name != deviceNameV6 {
		t.Errorf("link.json %+v: %v", link, err)
	}
	peerText := func(device, n, endpoint, subnet string) string {
		return fmt.Sprintf("wg set %s peer %s preshared-key <(jq -r .backend.raw.PSK wireguard.json) endpoint %s persistent-keepalive 25 allowed-ips %s\n", device, n, endpoint, subnet)
	}
	v4 := peerText(deviceName, public(2), "192.168.0.12:51820", "10.244.2.0/24") + peerText(deviceName, public(3), "192.168.0.13:51820", "10.244.3.0/24")
	v6 := peerText(deviceNameV6, public(2), "[fd00::12]:51821", "fd00:10:2::/64") + peerText(deviceNameV6, public(3), "[fd00::13]:51821", "fd00:10:3::/64")
	fresh := `ip link add flannel-wg mtu 1420 type wireguard
ip link set dev flannel-wg alias towpath
sysctl -w net/ipv6/conf/flannel-wg/accept_ra=0
wg set flannel-wg listen-port 51820 private-key wireguard.key
ip addr add 10.244.1.0/32 dev flannel-wg
ip link set dev flannel-wg up
ip link add flannel-wg-v6 mtu 1420 type wireguard
ip link set dev flannel-wg-v6 alias towpath
sysctl -w net/ipv6/conf/flannel-wg-v6/accept_ra=0
wg set flannel-wg-v6 listen-port 51821 private-key wireguard.key
ip -6 addr add fd00:10:1::/128 dev flannel-wg-v6 nodad
ip link set dev flannel-wg-v6 up
` + v4 + v6
	d := kernelDiffer()
	if diff := cmp.Diff(fresh, all(d, want, uplink())); diff != "" {
		t.Errorf("nothing there (-want +got)\n%s", diff)
	}
	if got := all(d, want, made(want, kindWireGuard)); got != "" {
		t.Errorf("as it should be:\n%s", got)
	}
	off := uplink()
	off.NoIPv6 = map[string]bool{sysctl.Anew: true}
	const ra = "accept_ra=0\nwg set flannel-wg-v6"
	if diff := cmp.Diff(strings.Replace(fresh, ra, "accept_ra=0\nsysctl -w net/ipv6/conf/flannel-wg-v6/disable_ipv6=0\nwg set flannel-wg-v6", 1), all(d, want, off)); diff != "" {
		t.Errorf("nothing there, and new devices have no IPv6 (-want +got)\n%s", diff)
	}
	// Carried by this process.
	u := kernelDiffer()
	u.kind = kindTUN
	u.carry = func(w tunnel) plan.Op { return plan.Func{Text: "wireguard-go " + w.Name} }
	carried := strings.NewReplacer(
		"ip link add flannel-wg mtu 1420 type wireguard\n", "ip tuntap add dev flannel-wg mode tun vnet_hdr\nip link set dev flannel-wg mtu 1420\n",
		"ip link add flannel-wg-v6 mtu 1420 type wireguard\n", "ip tuntap add dev flannel-wg-v6 mode tun vnet_hdr\nip link set dev flannel-wg-v6 mtu 1420\n",
		"wg set flannel-wg listen", "wireguard-go flannel-wg\nwg set flannel-wg listen", "wg set flannel-wg-v6 listen", "wireguard-go flannel-wg-v6\nwg set flannel-wg-v6 listen",
	).Replace(fresh)
	if diff := cmp.Diff(carried, all(u, want, uplink())); diff != "" {
		t.Errorf("in this process (-want +got)\n%s", diff)
	}
	for _, tc := range []struct {
		name   string
		change func(*observed)
		want   string
	}{
		{"flannel's own is adopted", func(o *observed) { l := o.Links[deviceName]; l.Alias = ""; o.Links[deviceName] = l }, "ip link set dev flannel-wg alias towpath\n"},
		{"set down", func(o *observed) { l := o.Links[deviceName]; l.Up = false; o.Links[deviceName] = l }, "ip link set dev flannel-wg up\n"},
		{"no IPv6 on the one for IPv6", func(o *observed) { o.NoIPv6 = map[string]bool{deviceName: true, deviceNameV6: true} }, "sysctl -w net/ipv6/conf/flannel-wg-v6/disable_ipv6=0\n"},
		{"other MTU", func(o *observed) { l := o.Links[deviceName]; l.MTU = 1400; o.Links[deviceName] = l }, "ip link set dev flannel-wg mtu 1420\n"},
		{"another subnet before", func(o *observed) { o.Addrs[10][0].Prefix = netip.MustParsePrefix("10.244.9.0/32") }, "ip addr add 10.244.1.0/32 dev flannel-wg\nip addr del 10.244.9.0/32 dev flannel-wg\n"},
		{"other key and port", func(o *observed) { d := o.Devices[deviceName]; d.Key, d.Port = keyOf(9), 1; o.Devices[deviceName] = d }, "wg set flannel-wg listen-port 51820 private-key wireguard.key\n"},
		{"peer removed by hand", func(o *observed) { delete(o.Devices[deviceName].Peers, keyOf(2).public()) }, peerText(deviceName, public(2), "192.168.0.12:51820", "10.244.2.0/24")},
		{"a userspace device in the way", func(o *observed) { l := o.Links[deviceName]; l.Kind = kindTUN; o.Links[deviceName] = l }, "ip link del flannel-wg\n" + fresh[:strings.Index(fresh, "ip link add flannel-wg-v6")]},
		{"stranger: kept without a full listing", func(o *observed) {
			o.Devices[deviceName].Peers[keyOf(8).public()] = held{peer: peer{Allowed: []netip.Prefix{netip.MustParsePrefix("10.244.8.0/24")}}}
		}, ""},
		{"old key of a node: goes at once", func(o *observed) {
			p := o.Devices[deviceName].Peers[keyOf(2).public()]
			delete(o.Devices[deviceName].Peers, keyOf(2).public())
			o.Devices[deviceName].Peers[keyOf(8).public()] = p
		}, peerText(deviceName, public(2), "192.168.0.12:51820", "10.244.2.0/24") + "wg set flannel-wg peer " + public(8) + " remove\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			have := made(want, kindWireGuard)
			tc.change(&have)
			got := all(d, want, have)
			if tc.name == "a userspace device in the way" { // its peers are gone with it
				got, _, _ = strings.Cut(got, "wg set flannel-wg peer")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	d.prune = true
	have := made(want, kindWireGuard)
	have.Devices[deviceName].Peers[keyOf(8).public()] = held{peer: peer{Allowed: []netip.Prefix{netip.MustParsePrefix("10.244.8.0/24")}}}
	if got := all(d, want, have); got != "wg set flannel-wg peer "+public(8)+" remove\n" {
		t.Errorf("a stranger, with a full listing:\n%s", got)
	}
	have = made(want, kindWireGuard)
	if got := all(d, want[:1], have); got != "ip link del flannel-wg-v6\n" {
		t.Errorf("a device that is no longer asked for:\n%s", got)
	}
}

// TestRoaming: an endpoint that WireGuard learnt is left while it works; one that is published anew counts at once.
func TestRoaming(t *testing.T) {
	want, _, _ := decide(t, input(), uplink(), node(2))
	key := keyOf(2).public()
	d := kernelDiffer()
	set := "wg set flannel-wg peer " + public(2) + " endpoint 192.168.0.12:51820\n"
	elsewhere := netip.MustParseAddrPort("203.0.113.5:4444")
	for _, tc := range []struct {
		name      string
		asked     netip.AddrPort
		handshake time.Time
		want      string
	}{
		{"works, after a restart", netip.AddrPort{}, d.now.Add(-time.Minute), ""},
		{"works", want[0].Peers[key].Endpoint, d.now.Add(-time.Minute), ""},
		{"works no longer", want[0].Peers[key].Endpoint, d.now.Add(-rejectAfter), set},
		{"never did", netip.AddrPort{}, time.Time{}, set},
		{"another was published", netip.MustParseAddrPort("192.168.0.12:51000"), d.now.Add(-time.Minute), set},
	} {
		have := made(want, kindWireGuard)
		h := have.Devices[deviceName].Peers[key]
		h.Endpoint, h.Asked, h.Handshake = elsewhere, tc.asked, tc.handshake
		have.Devices[deviceName].Peers[key] = h
		if got := all(d, want, have); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   func(*state.BackendInput)
		code exit.Code
		says string
	}{
		{"other type", func(in *state.BackendInput) { in.Backend.Type = "vxlan" }, exit.BadInput, `key "backend.type"`},
		{"port", func(in *state.BackendInput) { in.Backend.Raw = json.RawMessage(`{"ListenPort":70000}`) }, exit.BadInput, `key "backend.raw.ListenPort"`},
		{"type of a key", func(in *state.BackendInput) { in.Backend.Raw = json.RawMessage(`{"ListenPort":"x"}`) }, exit.BadInput, `key "backend.raw.ListenPort"`},
		{"raw is no object", func(in *state.BackendInput) { in.Backend.Raw = json.RawMessage(`[1`) }, exit.BadInput, `key "backend.raw"`},
		{"mode", func(in *state.BackendInput) { in.Backend.Raw = json.RawMessage(`{"Mode":"both"}`) }, exit.BadInput, `key "backend.raw.Mode"`},
		{"keepalive", func(in *state.BackendInput) { in.Backend.Raw = json.RawMessage(`{"PersistentKeepaliveInterval":-1}`) }, exit.BadInput, "-1 seconds"},
		{"PSK", func(in *state.BackendInput) { in.Backend.Raw = json.RawMessage(`{"PSK":"hush"}`) }, exit.BadInput, `key "backend.raw.PSK"`},
		{"one port for two tunnels", func(in *state.BackendInput) { *in = dual(`{"ListenPort":7,"ListenPortV6":7}`) }, exit.BadInput, `key "backend.raw.ListenPortV6"`},
		{"MTU above the uplink's", func(in *state.BackendInput) { in.Backend.MTU = 9000 }, exit.BadConfig, `key "backend.mtu"`},
		{"MTU negative", func(in *state.BackendInput) { in.Backend.MTU = -1 }, exit.BadInput, `key "backend.mtu"`},
		{"MTU too small for IPv6", func(in *state.BackendInput) { *in = dual(`{}`); in.Backend.MTU = 1300 }, exit.BadInput, "ipv6 needs 1280"},
		{"no uplink", func(in *state.BackendInput) { in.Interface.Name = "eth9" }, exit.TryAgain, `"eth9"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := input()
			tc.in(&in)
			set, _, err := settingsOf("wireguard.json", in)
			if err == nil {
				_, _, err = tunnelsOf("wireguard.json", in, set, uplink(), keyOf(1))
			}
			if err == nil || exit.Of(err) != tc.code || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v (exit %d), want exit %d saying %q", err, exit.Of(err), tc.code, tc.says)
			}
		})
	}
	want, _, _ := decide(t, input(), uplink())
	other := uplink()
	other.Links[deviceName] = nl.Link{Name: deviceName, Kind: "bridge"}
	if err := refuse(want, other, kindWireGuard, false); exit.Of(err) != exit.Refused || !strings.Contains(err.Error(), "a bridge") {
		t.Errorf("another's device: %v", err)
	}
	if err := refuse(want, other, kindWireGuard, true); err != nil {
		t.Errorf("taken over: %v", err)
	}
}

func TestChosen(t *testing.T) {
	for _, tc := range []struct {
		asked string
		has   bool
		kind  string
		code  exit.Code
	}{
		{auto, true, kernel, exit.OK},
		{auto, false, userspace, exit.OK},
		{kernel, true, kernel, exit.OK},
		{kernel, false, "", exit.Refused},
	} {
		kind, why, err := chosen(tc.asked, tc.has)
		if kind != tc.kind || exit.Of(err) != tc.code || kind == userspace && !strings.Contains(why, "no WireGuard") {
			t.Errorf("%s, kernel has it %t: %q %q %v", tc.asked, tc.has, kind, why, err)
		}
	}
	if _, _, err := choose("fast"); exit.Of(err) != exit.Usage {
		t.Error(err)
	}
	if kind, _, err := choose(userspace); kind != userspace || err != nil {
		t.Error(kind, err)
	}
}
