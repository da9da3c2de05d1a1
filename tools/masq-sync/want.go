package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/state"
)

// options are the flags.
type options struct {
	RandomFully  bool
	ForwardRules bool
	BridgeNF     string // auto, on, off
	TakeOver     bool
}

// net4or6 is what the lease says of one address family.
type net4or6 struct {
	Network netip.Prefix // of the whole cluster
	Subnet  netip.Prefix // this node's pods
}

// want is the wanted state of the node, as a value.
type want struct {
	options
	Masquerade bool
	Nets       state.Pair[net4or6] // the families in use
	Uplink     string
}

// wantOf reads the lease's part in it. The error names path and key.
func wantOf(path string, l state.Lease, o options) (want, error) {
	w := want{options: o, Masquerade: l.IPMasq, Uplink: l.Interface.Name}
	bad := func(key, format string, args ...any) (want, error) {
		return want{}, &state.Error{Path: path, Key: key, Err: fmt.Errorf(format, args...)}
	}
	if strings.Contains(w.Uplink, "/") || filepath.Clean(w.Uplink) != w.Uplink || strings.HasPrefix(w.Uplink, "..") {
		return bad("interface.name", "%q is no name of an interface", w.Uplink)
	}
	for _, f := range state.Families {
		if !l.Subnet.Has(f) {
			continue
		}
		network, subnet := l.Network.Of(f), l.Subnet.Of(f)
		switch {
		case !l.Network.Has(f):
			return bad("network."+string(f), "%w", errors.New("missing, but there is a subnet of this family"))
		case network.Bits() > subnet.Bits() || !network.Contains(subnet.Addr()):
			return bad("subnet."+string(f), "%s is not part of the network %s", subnet, network)
		case network.Bits() == 0:
			// "Not to the network" would never hold, and neither nft nor iptables have a rule for it.
			return bad("network."+string(f), "%s is every address there is", network)
		}
		w.Nets.Set(f, net4or6{Network: network, Subnet: subnet})
	}
	return w, nil
}

func optionsOf(random, forward bool, bridge string) (options, error) {
	switch bridge {
	case "auto", "on", "off":
		return options{RandomFully: random, ForwardRules: forward, BridgeNF: bridge}, nil
	}
	return options{}, exit.Errorf(exit.Usage, "--bridge-nf %q: use auto, on or off", bridge)
}

// The table's family and name.
const (
	tableFamily = "inet"
	tableName   = "towpath-masq"
)

// multicast is never masqueraded: its receivers are on this link.
var multicast = map[state.Family]string{state.IPv4: "224.0.0.0/4", state.IPv6: "ff00::/8"}

var nftFamily = map[state.Family]string{state.IPv4: "ip", state.IPv6: "ip6"}

// table renders the nftables table; ok is false when none is wanted.
//
// The nat chain sits at srcnat (100), where kube-proxy, portmap and iptables have theirs: the kernel
// asks the chains there one after the other until one gives the connection an address, so a chain
// that returns leaves the packet to the others, and no order among them matters: what kube-proxy
// marked returns here, what it did not mark it returns. The forward chain sits at filter (0); an accept
// there ends that chain alone and overrides nobody's drop.
func (w want) table() (t nft.Table, ok bool) {
	t = nft.Table{Family: tableFamily, Name: tableName, Comment: "masq-sync of towpath replaces this table as a whole"}
	if w.Masquerade {
		t.Chains = append(t.Chains, nft.Chain{
			Name: "postrouting", Hook: "type nat hook postrouting priority srcnat; policy accept;", Rules: w.masquerade(),
		})
	}
	if w.ForwardRules {
		var rules []nft.Rule
		for _, f := range state.Families {
			if n := w.Nets.Of(f); w.Nets.Has(f) {
				rules = append(rules,
					nft.Rule{Text: fmt.Sprintf("%s saddr %s accept", nftFamily[f], n.Network), Comment: "from pods"},
					nft.Rule{Text: fmt.Sprintf("%s daddr %s accept", nftFamily[f], n.Network), Comment: "to pods"})
			}
		}
		t.Chains = append(t.Chains, nft.Chain{
			Name: "forward", Hook: "type filter hook forward priority filter; policy accept;", Rules: rules,
		})
	}
	return t, len(t.Chains) > 0
}

// masquerade is flannel's six iptables rules, in their order, for each family.
func (w want) masquerade() []nft.Rule {
	verdict := "masquerade"
	if w.RandomFully {
		verdict = "masquerade fully-random"
	}
	// Masked: other bits of the mark belong to others.
	rules := []nft.Rule{{Text: "meta mark & 0x00004000 == 0x00004000 return", Comment: "kube-proxy masquerades what it marked"}}
	for _, f := range state.Families {
		if !w.Nets.Has(f) {
			continue
		}
		n, ip := w.Nets.Of(f), nftFamily[f]
		add := func(comment, format string, args ...any) {
			rules = append(rules, nft.Rule{Text: fmt.Sprintf(format, args...), Comment: comment})
		}
		add("pod to pod", "%s saddr %s %s daddr %s return", ip, n.Subnet, ip, n.Network)
		add("pod to pod", "%s saddr %s %s daddr %s return", ip, n.Network, ip, n.Subnet)
		add("outside to own pod", "%s saddr != %s %s daddr %s return", ip, n.Network, ip, n.Subnet)
		add("pod to outside", "%s saddr %s %s daddr != %s %s", ip, n.Network, ip, multicast[f], verdict)
		add("outside to a pod of another node", "%s saddr != %s %s daddr %s %s", ip, n.Network, ip, n.Network, verdict)
	}
	return rules
}
