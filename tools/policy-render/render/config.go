// Package render prints a node's compiled policies as nftables objects: what policy-render writes into
// policy/ and policy.nft. It reads no file and knows no kernel. The text is canonical, so equal clusters
// give equal bytes, and after a Delta of the model only what it touched is printed again.
package render

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// Config is what decides the frame that the policies are hung into.
type Config struct {
	// Network is the addresses of all pods, Subnet those of this node's. Both are empty where there is no
	// lease: an unknown address is not told from one outside then.
	Network, Subnet state.Pair[netip.Prefix]
	// TunnelPort is the UDP port that carries pods' packets between the nodes; 0: none.
	TunnelPort int
	// PoliceNode: what a pod sends to its own node is judged as egress.
	PoliceNode bool
	// DropInvalid drops pods' packets that belong to no connection.
	DropInvalid bool
	// CutMark is the bit of the connection mark that forbids an established connection; 0: none is cut.
	CutMark uint32
	// LogGroup is the NFLOG group, LogRate the most that each chain logs, such as "10/second".
	LogGroup int
	LogRate  string
}

var rate = regexp.MustCompile(`^[1-9][0-9]{0,5}/(second|minute|hour|day)$`)

// Validate checks what comes from the command line.
func (c *Config) Validate() error {
	switch {
	case !rate.MatchString(c.LogRate):
		return exit.WithHint(exit.Errorf(exit.Usage, "--log-rate %q is no rate", c.LogRate), "write 10/second, or per minute, hour or day")
	case c.LogGroup < 0 || c.LogGroup > 0xffff:
		return exit.Errorf(exit.Usage, "--log-group %d: use 0 to 65535", c.LogGroup)
	}
	return nil
}

// family is how nft speaks of one of the two.
type family struct {
	state.Family
	header string // ip
	kind   string // ipv4_addr
	suffix string // 4, at the end of names
	fabric string // ethernet type
}

var families = []family{
	{state.IPv4, "ip", "ipv4_addr", "4", "ip"},
	{state.IPv6, "ip6", "ipv6_addr", "6", "ip6"},
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return families[0]
	}
	return families[1]
}

// used are the families that pods have addresses of. Only for these are there rules that allow something.
func (c *Config) used() []family {
	var out []family
	for _, f := range families {
		if c.Network.Has(f.Family) || c.Network == (state.Pair[netip.Prefix]{}) {
			out = append(out, f)
		}
	}
	return out
}

// logAndDrop is the end of every chain that denies. No more than a part of the packet is handed over.
func (c *Config) logAndDrop(why ruleset.Denial, name string) []string {
	return []string{
		fmt.Sprintf(`limit rate %s burst 20 packets log prefix "%s" group %d snaplen 64`, c.LogRate, ruleset.LogPrefix(why, name), c.LogGroup),
		"counter drop",
	}
}
