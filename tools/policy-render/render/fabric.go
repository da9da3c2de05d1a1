package render

import (
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// fabric is the chains of the bridge table, which hold a pod to its own addresses: the rules of the inet table
// believe them. It asks no state, as no kernel is sure to track connections on a bridge. The first rule is the way of nearly
// all frames. ether type is the frame's own field, so that a VLAN tag, behind which bridged packets would
// pass by the inet table, is no IP.
func (c *Config) fabric() []*ruleset.Object {
	spoofed := c.logAndDrop(ruleset.Spoof, ruleset.SpoofName)
	return []*ruleset.Object{
		chain("bridge", "prerouting", "type filter hook prerouting priority filter; policy accept;",
			"ether type ip iifname . ether saddr . ip saddr @port4 accept",
			"ether type ip6 icmpv6 type { nd-router-advert, nd-neighbor-advert, nd-redirect } iifname @ports goto advert",
			"ether type ip6 iifname . ether saddr . ip6 saddr @port6 accept",
			"iifname @ports goto port",
		),
		// What is left: address resolution, and what a pod says before it has an address.
		chain("bridge", "port", "",
			"iifname . ether saddr != @mac goto spoofed",
			"ether type arp iifname . arp saddr ether . arp saddr ip @port4 accept",
			"ether type arp arp operation request arp saddr ip 0.0.0.0 iifname . arp saddr ether @mac accept",
			"ether type ip6 ip6 saddr :: icmpv6 type { nd-router-solicit, nd-neighbor-solicit, mld-listener-report, mld2-listener-report } accept",
			"ether type ip6 ip6 saddr fe80::/10 icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept",
			"goto spoofed",
		),
		// No pod is a router, and none answers for another.
		chain("bridge", "advert", "",
			"icmpv6 type nd-neighbor-advert iifname . ether saddr . ip6 saddr @port6 iifname . ether saddr . @th,64,128 @target6 accept",
			"goto spoofed",
		),
		chain("bridge", "spoofed", "", spoofed...),
		// A packet to many has no destination that the maps know, and on its way through a bridge meets the inet rules before
		// it is clear whose it becomes. So pods that are isolated get none from others, except what IPv6 needs.
		chain("bridge", "forward", "type filter hook forward priority filter; policy accept;",
			"ip daddr 224.0.0.0/3 goto multicast",
			"ip6 daddr ff00::/8 goto multicast",
		),
		chain("bridge", "multicast", "",
			"icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept",
			"oifname vmap @guarded",
		),
	}
}

// guard is the chain of what goes to many and would reach a pod of a group that is isolated.
func (c *Config) guard(group string) *ruleset.Object {
	return chain("bridge", ruleset.DenyChain("bridge", group).Name, "", c.logAndDrop(ruleset.Ingress, group)...)
}

// forEveryone says whether one of the policies allows whatever comes in: its pods get what goes to many, too.
func forEveryone(policies []*model.Policy) bool {
	for _, p := range policies {
		for _, r := range p.Rules[model.Ingress] {
			if r.AnyPeer && r.AnyPort {
				return true
			}
		}
	}
	return false
}
