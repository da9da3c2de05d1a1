package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/sysctl"
)

// The kinds of devices, as the kernel names them.
const (
	kindWireGuard = "wireguard"
	kindTUN       = "tun"
)

// differ turns differences into operations.
type differ struct {
	conn    *nl.Conn
	control *control
	kind    string // of the devices wanted
	// carry makes the operation that carries a device in this process; nil: no device is carried by it.
	carry   func(w tunnel) plan.Op
	keyFile string
	input   string // wireguard.json, which holds the PSK
	prune   bool   // peers that nobody asks for are to go
	now     time.Time
}

// links lists what makes the kernel hold exactly the wanted devices, and no other with our mark and one of our names. It
// trusts refuse to have refused devices that are not ours.
func (d differ) links(want []tunnel, have observed) []plan.Op {
	var ops []plan.Op
	for _, name := range []string{deviceName, deviceNameV6} {
		is, ok := have.Links[name]
		wanted := slices.ContainsFunc(want, func(w tunnel) bool { return w.Name == name })
		if ok && !wanted && is.Alias == nl.Mark {
			ops = append(ops, d.conn.LinkDel(name))
		}
	}
	for _, w := range want {
		is, ok := have.Links[w.Name]
		dev, answers := have.Devices[w.Name]
		if ok && is.Kind != d.kind {
			ops = append(ops, d.conn.LinkDel(w.Name))
			ok = false
		}
		if !ok {
			dev, answers = wireguard{}, false
		}
		switch {
		case !ok && d.kind == kindTUN:
			ops = append(ops, d.conn.AddTUN(w.Name), d.conn.LinkMTU(w.Name, w.MTU))
		case !ok:
			ops = append(ops, d.conn.AddWireGuard(w.Name, w.MTU))
		case is.MTU != w.MTU:
			ops = append(ops, d.conn.LinkMTU(w.Name, w.MTU))
		}
		if !ok || is.Alias != nl.Mark {
			ops = append(ops, d.conn.LinkAlias(w.Name, nl.Mark))
		}
		if ok && have.RAs[w.Name] || !ok && have.IPv6 {
			ops = append(ops, sysctl.Zero(sysctl.AcceptRA(w.Name)))
		}
		if w.ipv6() && (ok && have.NoIPv6[w.Name] || !ok && have.NoIPv6[sysctl.Anew]) {
			ops = append(ops, sysctl.Zero(sysctl.DisableIPv6(w.Name)))
		}
		if d.carry != nil && !answers {
			ops = append(ops, d.carry(w))
		}
		if op := d.own(w, dev); op != nil && (d.kind == kindWireGuard || answers || d.carry != nil) {
			ops = append(ops, op)
		}
		var addrs []nl.Addr
		if ok {
			addrs = have.Addrs[is.Index]
		}
		ops = append(ops, setup.Addresses(d.conn, w.Name, w.Addresses, addrs)...)
		if !ok || !is.Up {
			ops = append(ops, d.conn.LinkUp(w.Name))
		}
	}
	return ops
}

// own is the operation on what a device holds beside its peers; nil: nothing.
func (d differ) own(w tunnel, have wireguard) plan.Op {
	s := setting{control: d.control, device: w.Name}
	var words []string
	if have.Port != w.Port {
		words = append(words, fmt.Sprintf("listen-port %d", w.Port))
		s.config.ListenPort = &w.Port
	}
	if have.Key != w.Key {
		words = append(words, "private-key "+d.keyFile)
		s.config.PrivateKey = w.Key.key()
	}
	if len(words) == 0 {
		return nil
	}
	s.text = strings.Join(words, " ")
	return &s
}

// peers lists what makes a device hold the wanted peers: first what is added and changed, which takes subnets from those
// that had them, then what is to go. have is kept up to date with what was done.
func (d differ) peers(w tunnel, have wireguard) []plan.Op {
	var ops []plan.Op
	moved := map[netip.Prefix]bool{}
	for _, key := range sortedKeys(w.Peers, func(p peer) string { return p.Node }) {
		p := w.Peers[key]
		for _, a := range p.Allowed {
			moved[a] = true
		}
		h, ok := have.Peers[key]
		told := func() {
			h.peer, h.Asked = p, p.Endpoint
			have.Peers[key] = h
		}
		if op := d.change(w.Name, key, p, h); op != nil {
			op.done = told
			ops = append(ops, op)
		} else if ok {
			h.Asked = p.Endpoint
			have.Peers[key] = h
		}
	}
	for _, key := range sortedKeys(have.Peers, func(held) string { return "" }) {
		if _, wanted := w.Peers[key]; wanted {
			continue
		}
		// One whose every subnet is another's by now is the old key of a node.
		useless := !slices.ContainsFunc(have.Peers[key].Allowed, func(a netip.Prefix) bool { return !moved[a] })
		if !d.prune && !useless {
			continue
		}
		op := d.setPeer(w.Name, key, "remove", wgtypes.PeerConfig{Remove: true})
		op.done = func() { delete(have.Peers, key) }
		ops = append(ops, op)
	}
	return ops
}

func (d differ) setPeer(device string, key wgtypes.Key, text string, cfg wgtypes.PeerConfig) *peerSetting {
	cfg.PublicKey = key
	return &peerSetting{setting{
		control: d.control, device: device, text: "peer " + key.String() + " " + text, config: wgtypes.Config{Peers: []wgtypes.PeerConfig{cfg}},
	}}
}

// rejectAfter is WireGuard's: a session that is older carries nothing.
const rejectAfter = 180 * time.Second

// change is the operation that makes a peer as it has to be; nil: it is.
func (d differ) change(device string, key wgtypes.Key, want peer, have held) *peerSetting {
	var words []string
	var cfg wgtypes.PeerConfig
	if have.PSK != want.PSK {
		words = append(words, "preshared-key "+d.pskText(want.PSK))
		cfg.PresharedKey = want.PSK.key()
	}
	// WireGuard itself follows a peer that answers from elsewhere, as one behind NAT does; that is left while it works.
	published := have.Asked.IsValid() && have.Asked != want.Endpoint // another one, since it was set
	roams := !published && have.Endpoint.IsValid() && d.now.Sub(have.Handshake) < rejectAfter
	if have.Endpoint != want.Endpoint && !roams {
		words = append(words, "endpoint "+want.Endpoint.String())
		cfg.Endpoint = net.UDPAddrFromAddrPort(want.Endpoint)
	}
	if have.Keepalive != want.Keepalive {
		words = append(words, fmt.Sprintf("persistent-keepalive %d", int(want.Keepalive.Seconds())))
		cfg.PersistentKeepaliveInterval = &want.Keepalive
	}
	if !slices.Equal(have.Allowed, want.Allowed) {
		texts := make([]string, len(want.Allowed))
		for i, a := range want.Allowed {
			texts[i] = a.String()
		}
		words = append(words, "allowed-ips "+strings.Join(texts, ","))
		cfg.ReplaceAllowedIPs, cfg.AllowedIPs = true, ipNets(want.Allowed)
	}
	if len(words) == 0 {
		return nil
	}
	return d.setPeer(device, key, strings.Join(words, " "), cfg)
}

// pskText is how a person gives wg the key without showing it: a file, here one of bash's.
func (d differ) pskText(psk secret) string {
	if psk == (secret{}) {
		return "/dev/null"
	}
	return "<(jq -r .backend.raw.PSK " + d.input + ")"
}

// sortedKeys orders keys by what name says of their values, then by themselves.
func sortedKeys[V any](m map[wgtypes.Key]V, name func(V) string) []wgtypes.Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b wgtypes.Key) int {
		if c := strings.Compare(name(m[a]), name(m[b])); c != 0 {
			return c
		}
		return slices.Compare(a[:], b[:])
	})
}

// ipv6 says whether the device gets an IPv6 address.
func (w tunnel) ipv6() bool {
	return slices.ContainsFunc(w.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
}
