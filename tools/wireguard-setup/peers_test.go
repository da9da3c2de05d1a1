package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/state"
)

// TestModes: which device carries what, where peers are reached, and what is published.
func TestModes(t *testing.T) {
	open := func(p state.Peer) state.Peer {
		p.PublicIP.IPv6 = netip.MustParseAddr("2001:db8::12")
		return p
	}
	onlyV6 := func(in state.BackendInput) state.BackendInput {
		in.Subnet.IPv4, in.PublicIP.IPv4 = netip.Prefix{}, netip.Addr{}
		return in
	}
	flannels := func() state.Peer { // in the mode auto of a dual-stack cluster, flannel publishes ListenPortV6 although nothing listens there
		return node(2)
	}
	for _, tc := range []struct {
		name      string
		in        state.BackendInput
		peer      state.Peer
		devices   string
		published string
	}{
		{
			"separate", dual(`{}`), node(2),
			"flannel-wg 10.244.1.0/32 < 192.168.0.12:51820 10.244.2.0/24; flannel-wg-v6 fd00:10:1::/128 < [fd00::12]:51821 fd00:10:2::/64", "51820 51821",
		},
		{"IPv4 only", input(), node(2), "flannel-wg 10.244.1.0/32 < 192.168.0.12:51820 10.244.2.0/24", "51820 -"},
		{"IPv6 only", onlyV6(dual(`{}`)), node(2), "flannel-wg-v6 fd00:10:1::/128 < [fd00::12]:51821 fd00:10:2::/64", "- 51821"},
		{
			"auto, all private", dual(`{"Mode":"auto"}`), flannels(),
			"flannel-wg 10.244.1.0/32 fd00:10:1::/128 < 192.168.0.12:51820 10.244.2.0/24 fd00:10:2::/64", "51820 51820",
		},
		{
			"auto, IPv6 is open", func() state.BackendInput {
				in := dual(`{"Mode":"auto"}`)
				in.PublicIP.IPv6 = netip.MustParseAddr("2001:db8::11")
				return in
			}(), open(node(2)),
			"flannel-wg 10.244.1.0/32 fd00:10:1::/128 < [2001:db8::12]:51821 10.244.2.0/24 fd00:10:2::/64", "51820 51820",
		},
		{"auto, IPv6 only", onlyV6(dual(`{"Mode":"auto"}`)), node(2), "flannel-wg fd00:10:1::/128 < [fd00::12]:51821 fd00:10:2::/64", "- 51820"},
		{
			"ipv6", dual(`{"Mode":"ipv6"}`), node(2),
			"flannel-wg 10.244.1.0/32 fd00:10:1::/128 < [fd00::12]:51821 10.244.2.0/24 fd00:10:2::/64", "51820 51820",
		},
		{
			"ipv4", dual(`{"Mode":"ipv4","ListenPort":7}`), node(2),
			"flannel-wg 10.244.1.0/32 fd00:10:1::/128 < 192.168.0.12:51820 10.244.2.0/24 fd00:10:2::/64", "7 7",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want, link, leftOut := decide(t, tc.in, uplink(), tc.peer)
			if len(leftOut) > 0 {
				t.Error(leftOut)
			}
			var devices []string
			for _, w := range want {
				p := w.Peers[keyOf(2).public()]
				devices = append(devices, strings.Join([]string{w.Name, list(w.Addresses), "<", p.Endpoint.String(), list(p.Allowed)}, " "))
			}
			if got := strings.Join(devices, "; "); got != tc.devices {
				t.Errorf("devices\n%s, want\n%s", got, tc.devices)
			}
			var ports []string
			for _, raw := range []json.RawMessage{link.Publish.Data, link.Publish.DataV6} {
				var d state.WireGuardData
				if len(raw) == 0 {
					ports = append(ports, "-")
					continue
				}
				if err := json.Unmarshal(raw, &d); err != nil || d.PublicKey != public(1) {
					t.Errorf("published %s: %v", raw, err)
				}
				if want := fmt.Sprintf(`{"PublicKey":%q,"Port":%d}`, public(1), d.Port); string(raw) != want { // flannel's bytes
					t.Errorf("published %s, want %s", raw, want)
				}
				ports = append(ports, fmt.Sprint(d.Port))
			}
			if got := strings.Join(ports, " "); got != tc.published {
				t.Errorf("ports published: %s, want %s", got, tc.published)
			}
		})
	}
}

func list(prefixes []netip.Prefix) string {
	var words []string
	for _, p := range prefixes {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

// TestOneFaultIsNoOthers: every odd node is left out with its reason, and the sound ones are peers.
func TestOneFaultIsNoOthers(t *testing.T) {
	change := func(n byte, f func(*state.Peer)) state.Peer {
		p := node(n)
		f(&p)
		return p
	}
	want, _, leftOut := decide(t, dual(`{}`), uplink(),
		node(2),
		change(3, func(p *state.Peer) { p.Backend.Type = "vxlan" }),
		change(4, func(p *state.Peer) { p.Backend.Data, p.Backend.DataV6 = data(2, 1), data(2, 1) }),
		change(5, func(p *state.Peer) { p.Backend.Data = json.RawMessage(`{"PublicKey":"junk"}`) }),
		change(6, func(p *state.Peer) { p.Backend.Data = json.RawMessage(`"text"`) }),
		change(7, func(p *state.Peer) { p.Backend.Data = nil }),
		change(8, func(p *state.Peer) { p.Backend.Data = data(1, 51820) }),
		change(9, func(p *state.Peer) { p.PublicIP.IPv4 = netip.Addr{} }),
		change(10, func(p *state.Peer) { p.Subnet.IPv4 = node(2).Subnet.IPv4 }),
		change(11, func(p *state.Peer) { p.Subnet.IPv6, p.Backend.DataV6 = netip.Prefix{}, nil }),
		change(12, func(p *state.Peer) { p.Backend.Data = data(12, 0) }),
		change(13, func(p *state.Peer) { p.Backend.Data = data(13, 99999) }),
	)
	for node, says := range map[string]string{
		"worker03": "its back end is vxlan", "worker04": "node worker02 has its key too", "worker05": `"junk" is no public key`,
		"worker06": "cannot be read", "worker07": "publishes no key for ipv4", "worker08": "this node's own key",
		"worker09": "no public ipv4 address", "worker10": "node worker02 claims its subnet 10.244.2.0/24 too", "worker13": "99999 is no UDP port",
	} {
		if !strings.Contains(leftOut[node], says) {
			t.Errorf("%s: %q, want %q", node, leftOut[node], says)
		}
		delete(leftOut, node)
	}
	if len(leftOut) > 0 {
		t.Errorf("left out too: %q", leftOut)
	}
	names := func(w tunnel) string {
		var all []string
		for _, k := range sortedKeys(w.Peers, func(p peer) string { return p.Node }) {
			all = append(all, w.Peers[k].Node)
		}
		return strings.Join(all, " ")
	}
	if got := names(want[0]); got != "worker02 worker11 worker12" {
		t.Errorf("IPv4: %s", got)
	}
	if got := names(want[1]); got != "worker02 worker05 worker07 worker08 worker09 worker10 worker12 worker13" {
		t.Errorf("IPv6: %s", got)
	}
	if e := want[0].Peers[keyOf(12).public()].Endpoint.Port(); e != 51820 {
		t.Errorf("a port of 0 means %d", e)
	}
}

// FuzzEndsOf: whatever a node publishes, it is a peer or it is left out.
func FuzzEndsOf(f *testing.F) {
	for _, seed := range []string{string(data(2, 51820)), `null`, `{"PublicKey":1}`, `{"Port":-1}`, `[`, ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		n := node(2)
		n.Backend.Data = json.RawMessage(raw)
		want, _, leftOut := decide(t, input(), uplink(), n)
		if peers := len(want[0].Peers); peers+len(leftOut) != 1 {
			t.Errorf("%q: %d peers, left out %q", raw, peers, leftOut)
		}
	})
}

// TestSilence: what is not answered is told, after a while, with what can be known of why.
func TestSilence(t *testing.T) {
	want, _, _ := decide(t, input(), uplink(), node(2))
	key := keyOf(2).public()
	now := time.Unix(10000, 0)
	var s silence
	look := func(after time.Duration, h held) (string, time.Duration) {
		now = now.Add(after)
		left := map[string]string{}
		wait := s.look(now, want, observed{Devices: map[string]wireguard{deviceName: {Peers: map[wgtypes.Key]held{key: h}}}}, left)
		return left["worker02"], wait
	}
	expect := func(what, says string, wait bool, after time.Duration, h held) {
		t.Helper()
		text, w := look(after, h)
		if (text == "") != (says == "") || !strings.Contains(text, says) || (w > 0) != wait {
			t.Errorf("%s: %q, wait %s", what, text, w)
		}
	}
	expect("nothing was sent", "", false, 0, held{})
	expect("idle", "", false, time.Hour, held{})
	s = silence{}
	expect("asked", "", true, 0, held{Sent: 148})
	expect("not answered", "nothing valid comes from 192.168.0.12:51820", false, grace, held{Sent: 600})
	session := held{Sent: 800, Received: 400, Handshake: now}
	expect("a session", "", false, time.Second, session)
	expect("it is old, and nobody needs it", "", false, time.Hour, session)
	session.Sent = 2000
	expect("it is needed, and does not come", "nothing valid", false, time.Second, session)
	s = silence{}
	expect("asked again", "", true, 0, held{Sent: 148, Received: 148})
	expect("the other end answers, and no session comes of it", "is PSK the same", false, grace, held{Sent: 600, Received: 600})
}

// TestSecretsAreNotPrinted: in no form that fmt or JSON knows.
func TestSecretsAreNotPrinted(t *testing.T) {
	want, _, _ := decide(t, dual(`{"PSK":"`+psk+`"}`), uplink(), node(2))
	j, err := json.Marshal(want[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	key := keyOf(1).key().String()
	bytes := strings.Trim(fmt.Sprint([32]byte(keyOf(1))), "[]")
	for _, text := range []string{
		string(j), fmt.Sprintf("%d %v %x", want[0].Key, want[0], want[0].Key), fmt.Sprint(want), fmt.Sprintf("%+v", want), fmt.Sprintf("%#v", want), fmt.Sprintf("%s", want[0].Key), fmt.Sprintf("%x", want[0].Key.String()),
	} {
		if strings.Contains(text, psk) || strings.Contains(text, key) || strings.Contains(text, bytes) {
			t.Errorf("a key is in %s", text)
		}
	}
}
