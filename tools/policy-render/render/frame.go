package render

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// frame is the chains of the inet table that do not depend on any policy. The fastest way is that of an
// established connection: its state, then the mark. A new one is looked up by source, then
// by destination; what a pod never sends or gets in the common case is asked only after a look-up missed.
func (c *Config) frame() []*ruleset.Object {
	out := []*ruleset.Object{
		chain("inet", "forward", "type filter hook forward priority filter; policy accept;",
			append(c.states(c.DropInvalid), "goto egress")...,
		),
		chain("inet", "egress", "", c.egress()...),
		chain("inet", "ingress", "", c.ingress()...),
		// The kernel does not track neighbour discovery, which a bridge hands through the forward hook. A
		// router would have lowered the hop limit; groups of one link are never routed.
		chain("inet", "untracked", "",
			"ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
			"ip6 daddr ff02::/16 icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept",
			"goto egress",
		),
		chain("inet", "unknown-pod", "", c.logAndDrop(ruleset.Unknown, ruleset.UnknownName)...),
		chain("inet", "spoofed", "", c.logAndDrop(ruleset.Spoof, ruleset.SpoofName)...),
	}
	if c.CutMark != 0 {
		out = append(out, chain("inet", "established", "", append([]string{
			fmt.Sprintf("ct mark & 0x%08x == 0x00000000 accept", c.CutMark),
		}, c.logAndDrop(ruleset.Cut, ruleset.CutName)...)...))
	}
	if c.DropInvalid {
		out = append(out, chain("inet", "invalid", "", c.invalid()...))
	}
	if c.tunnelled() {
		out = append(out, chain("inet", "tunnel", "", c.tunnel()...), chain("inet", "tunnelled", "", c.logAndDrop(ruleset.Spoof, ruleset.TunnelName)...))
	}
	if lines := c.input(); lines != nil {
		out = append(out, chain("inet", "input", "type filter hook input priority filter; policy accept;", lines...))
	}
	return append(out, c.fabric()...)
}

func chain(fam, name, hook string, lines ...string) *ruleset.Object {
	o := &ruleset.Object{ID: ruleset.ID{Family: fam, Kind: ruleset.Chain, Name: name}, Lines: lines}
	if hook != "" {
		o.Head = []string{hook}
	}
	return o
}

// states are the rules by state of the connection. Established ones are asked about without a set: while a table is loaded in
// the place of another, look-ups in sets miss for an instant (0.4 ms were measured), and what is established must not notice.
func (c *Config) states(dropInvalid bool) []string {
	established := "accept"
	if c.CutMark != 0 {
		established = "goto established"
	}
	states := []string{"related : accept", "untracked : goto untracked"}
	if dropInvalid {
		states = append(states, "invalid : goto invalid")
	}
	return []string{"ct state established " + established, "ct state vmap { " + strings.Join(states, ", ") + " }"}
}

// egress finds the source's policies. A source that is no pod's has come from a pod all the same when it
// came in by a bridge of pods; this node's own addresses come in by lo only.
func (c *Config) egress() []string {
	lines := []string{"ip saddr vmap @egress4", "ip6 saddr vmap @egress6"}
	for _, f := range families {
		if c.Subnet.Has(f.Family) {
			lines = append(lines, fmt.Sprintf(`%s saddr %s iifname != "lo" goto unknown-pod`, f.header, c.Subnet.Of(f.Family)))
		}
	}
	return append(lines, "iifname @bridges goto spoofed", "goto ingress")
}

// ingress finds the destination's policies.
func (c *Config) ingress() []string {
	lines := []string{"ip daddr vmap @ingress4", "ip6 daddr vmap @ingress6"}
	if c.tunnelled() {
		lines = append(lines, fmt.Sprintf("udp dport %d jump tunnel", c.TunnelPort))
	}
	for _, f := range families {
		if c.Subnet.Has(f.Family) {
			lines = append(lines, fmt.Sprintf("%s daddr %s fib daddr type != local goto unknown-pod", f.header, c.Subnet.Of(f.Family)))
		}
	}
	// A pod's own link-local address is in no map; from one on the same bridge it would be a way around its policies.
	return append(lines, `ip6 daddr fe80::/10 iifname @bridges fib daddr type != local goto unknown-pod`, "accept")
}

func (c *Config) tunnelled() bool {
	return c.TunnelPort != 0 && (c.Network.IPv4.IsValid() || c.Network.IPv6.IsValid())
}

// tunnel keeps packets that look like the tunnel's from its two ends: a pod must not send them to a node's address,
// and a node's address within the pod network (that of the bridge, of the tunnel's device) must not get them from a pod.
func (c *Config) tunnel() (lines []string) {
	for _, f := range families {
		if !c.Network.Has(f.Family) {
			continue
		}
		n := c.Network.Of(f.Family)
		lines = append(lines,
			fmt.Sprintf("%s saddr %s %s daddr != %s goto tunnelled", f.header, n, f.header, n),
			fmt.Sprintf("%s saddr %s fib daddr type local goto tunnelled", f.header, n))
	}
	return append(lines, "return")
}

// invalid drops pods' packets only: others' may take another way back, which is none of ours.
func (c *Config) invalid() (lines []string) {
	for _, f := range families {
		if c.Subnet.Has(f.Family) {
			for _, end := range subject {
				lines = append(lines, fmt.Sprintf("%s %s %s counter drop", f.header, end, c.Subnet.Of(f.Family)))
			}
		}
	}
	if lines == nil {
		return []string{"counter drop"}
	}
	return append(lines, "goto egress")
}

// input is what reaches this node's own addresses. What comes from no pod, such as the tunnel's packets, each of which is
// new to the kernel, is let through first.
func (c *Config) input() (lines []string) {
	for _, f := range families {
		switch {
		case c.Network.Has(f.Family):
			lines = append(lines, fmt.Sprintf("%s saddr != %s iifname != @bridges accept", f.header, c.Network.Of(f.Family)))
		case c.Network != (state.Pair[netip.Prefix]{}):
			lines = append(lines, fmt.Sprintf("meta nfproto %s iifname != @bridges accept", f.Family))
		}
	}
	if !c.PoliceNode {
		if !c.tunnelled() {
			return nil
		}
		return append(lines, fmt.Sprintf("udp dport %d jump tunnel", c.TunnelPort), "accept")
	}
	// Without a lease the node's own packets cannot be told from its pods'.
	dropInvalid := c.DropInvalid && c.Subnet != (state.Pair[netip.Prefix]{})
	return append(append(lines, c.states(dropInvalid)...), "goto egress")
}
