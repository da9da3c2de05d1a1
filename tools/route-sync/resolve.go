package main

import (
	"fmt"
	"net/netip"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// view is what every peer's entries depend on: this node's own side of things.
type view struct {
	node     string
	kind     string // backend
	network  state.Pair[netip.Prefix]
	subnet   state.Pair[netip.Prefix]
	publicIP state.Pair[netip.Addr]
	device   state.Pair[device]
	uplink   device
	direct   bool            // peers on the uplink's own link need no tunnel
	ours     map[int]string  // tunnels' devices with our mark, whether or not link.json names them, and those it names
	vteps    map[int]string  // the VXLAN devices among them: their neighbours and FDB entries are ours
	names    map[int]string  // every device
	left     map[tunnel]bool // what those of vteps receive that link.json does not name
}

// device is a device of link.json as the kernel has it.
type device struct {
	name  string
	index int
	vni   int
	port  int // UDP, of a VXLAN device; the kernel's word
	mac   string
	// why it cannot be used now; empty: it can. Entries of a device that cannot be used are neither
	// made nor removed.
	why string
}

// entry is all that one peer needs in one family.
type entry struct {
	route nl.Route
	vtep  bool // there are a neighbour and an FDB entry, too
	neigh nl.Neigh
	fdb   nl.FDB
}

// claim is what a peer alone may have.
type claim struct {
	subnet netip.Prefix
	mac    nl.MAC // zero: none
}

// verdict is what becomes of one peer in one family.
type verdict struct {
	entry  entry
	use    bool
	claim  claim
	reason string // why there is no entry, empty where the family is not used
	err    error  // the reason, when it is the file's fault
	// held: what the peer needs is unknown, so what the kernel has for its subnet stays.
	held bool
	// elsewhere: it needs nothing here, since the backend leaves the way to somebody else.
	elsewhere bool
}

// resolve says what a peer needs in a family. It looks at no other peer.
func (v view) resolve(p state.Peer, f state.Family, path string, onLink map[netip.Addr]bool) verdict {
	if !v.subnet.Has(f) || !p.Subnet.Has(f) {
		return verdict{claim: claim{subnet: p.Subnet.Of(f)}}
	}
	out := v.decide(end{peer: p, family: f, path: path, subnet: p.Subnet.Of(f), public: p.PublicIP.Of(f)}, onLink)
	out.claim.subnet = p.Subnet.Of(f)
	return out
}

func (v view) decide(e end, onLink map[netip.Addr]bool) verdict {
	own, network, ours := v.subnet.Of(e.family), v.network.Of(e.family), kinds[v.kind]
	_, known := kinds[e.peer.Backend.Type]
	switch {
	case own.Overlaps(e.subnet):
		return leave("its subnet %s overlaps this node's %s", e.subnet, own)
	case !inside(network, e.subnet):
		return leave("its subnet %s is outside the network %s", e.subnet, network)
	case e.peer.Backend.Type != v.kind && (ours.also == "" || e.peer.Backend.Type != ours.also):
		out := leave("its backend is %s, this node's %s", e.peer.Backend.Type, v.kind)
		out.held = known // a cluster changes its backend node by node; the old way leads there until both have
		return out
	case ours.elsewhere():
		return verdict{elsewhere: true}
	case e.public.IsValid():
	case !ours.anyFamily || e.peer.PublicIP == state.Pair[netip.Addr]{}:
		return wait("it has no public %s address", e.family)
	}
	switch {
	case e.public.IsValid() && e.public == v.publicIP.Of(e.family):
		return leave("its public address %s is this node's", e.public)
	case e.public.IsValid() && e.subnet.Contains(e.public):
		return leave("its public address %s is inside its own subnet", e.public)
	case e.public.IsValid() && !usable(e.public):
		return e.bad("publicIP."+string(e.family), fmt.Errorf("%s is no address of a node", e.public))
	case ours.tunnel == nil && !onLink[e.public]:
		// Where the nodes change their uplink, it was on the last one's, which still leads there until the peer is on the new one's, too.
		return wait("its public address %s is not on the link of %s", e.public, v.uplink.name)
	case ours.tunnel == nil:
		return v.overLink(e)
	}
	out := ours.tunnel(v, e)
	if out.use && v.overUplink() && onLink[e.public] {
		mac := out.claim.mac
		out = v.overLink(e)
		out.claim.mac = mac
	}
	return out
}

func inside(network, subnet netip.Prefix) bool {
	return network.Contains(subnet.Addr()) && subnet.Bits() >= network.Bits()
}

func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// suspended says why nothing of a family may be touched now, or "".
func (v view) suspended(f state.Family) string {
	if !v.subnet.Has(f) {
		return ""
	}
	return v.device.Of(f).why
}
