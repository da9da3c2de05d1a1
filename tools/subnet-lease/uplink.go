package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// Uplink is the interface between the nodes with its addresses, whose networks are directly connected.
// A subnet of pods that overlaps one would take the way to other nodes.
type Uplink struct {
	Dev   string
	Addrs []netip.Prefix // not masked
}

func uplinkOf(u nl.Uplinks, dev string) Uplink {
	up := Uplink{Dev: dev}
	for _, l := range u.Links {
		if l.Name != dev {
			continue
		}
		for _, a := range u.Addrs {
			if a.Link == l.Index && !a.Prefix.Addr().IsLinkLocalUnicast() {
				up.Addrs = append(up.Addrs, a.Prefix)
			}
		}
	}
	return up
}

// overlapping is the addresses whose network overlaps p, a part of the cluster's network. Where that
// is itself cut out of an address's network (10.244.0.0/16 of a flat 10.0.0.0/8), the pods' routes are
// the longer ones and only the address itself counts, as with flannel.
func (u Uplink) overlapping(p, cluster netip.Prefix) []netip.Prefix {
	var on []netip.Prefix
	for _, a := range u.Addrs {
		if a.Bits() < cluster.Bits() && a.Contains(cluster.Addr()) {
			a = netip.PrefixFrom(a.Addr(), a.Addr().BitLen())
		}
		if a.Overlaps(p) {
			on = append(on, a)
		}
	}
	return on
}

func networks(addrs []netip.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		all[i] = a.Masked()
	}
	return all
}

// clash is the error for subnets, described by what, that the network between the nodes overlaps.
func (q Request) clash(f state.Family, on []netip.Prefix, what string) error {
	key := "Network"
	if f == state.IPv6 {
		key = "IPv6Network"
	}
	texts := make([]string, len(on))
	for i, a := range on {
		texts[i] = a.String()
	}
	network := q.Conf.Network.Of(f)
	return exit.WithHint(
		&state.Error{
			Path: q.Path, Key: key, Code: exit.BadConfig,
			Err: fmt.Errorf("%s overlaps the network between the nodes: %s has the address %s, and %s is %s",
				what, q.Uplink.Dev, strings.Join(texts, " "), key, network),
		},
		"give %s a range that no network of the nodes is in, on every node; or, if some of it is free, `subnet-lease release --node %s` and let the node have another subnet", key, q.Node)
}
