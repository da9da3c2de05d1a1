package main

import (
	"fmt"
	"net/netip"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// Backends that this program has routes for.
const (
	typeVXLAN  = "vxlan"
	typeHostGW = "host-gw"
)

// mark is the alias of the devices whose neighbours and FDB entries are ours.
const mark = "towpath"

// view is what every peer's entries depend on: this node's own side of things.
type view struct {
	node     string
	kind     string // backend
	network  state.Pair[netip.Prefix]
	subnet   state.Pair[netip.Prefix]
	publicIP state.Pair[netip.Addr]
	device   state.Pair[device]
	uplink   device
	direct   bool           // peers on the uplink's own link need no tunnel
	ours     map[int]string // VXLAN devices with our mark, whether or not link.json names them
	names    map[int]string // every device
}

// device is a device of link.json as the kernel has it.
type device struct {
	name  string
	index int
	vni   int
	mac   string
	// why it cannot be used now; empty: it can. Entries of a device that cannot be used are neither
	// made nor removed.
	why string
}

// entry is all that one peer needs in one family. A direct route has neither neighbour nor FDB entry.
type entry struct {
	route  nl.Route
	neigh  nl.Neigh
	fdb    nl.FDB
	tunnel bool
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
}

// resolve says what a peer needs in a family. It looks at no other peer.
func (v view) resolve(p state.Peer, f state.Family, path string, onLink map[netip.Addr]bool) verdict {
	subnet, public := p.Subnet.Of(f), p.PublicIP.Of(f)
	out := verdict{claim: claim{subnet: subnet}}
	leave := func(format string, args ...any) verdict {
		out.reason = fmt.Sprintf(format, args...)
		return out
	}
	bad := func(key string, err error) verdict {
		out.err = &state.Error{Path: path, Key: key, Err: err}
		out.held = true
		return leave("key %q: %v", key, err)
	}
	switch own := v.subnet.Of(f); {
	case !v.subnet.Has(f) || !p.Subnet.Has(f):
		return out
	case own.Overlaps(subnet):
		return leave("its subnet %s overlaps this node's %s", subnet, own)
	case !inside(v.network.Of(f), subnet):
		return leave("its subnet %s is outside the network %s", subnet, v.network.Of(f))
	case p.Backend.Type != v.kind:
		// A cluster changes its backend node by node; the old way leads there until both have.
		out.held = p.Backend.Type == typeVXLAN || p.Backend.Type == typeHostGW
		return leave("its backend is %s, this node's %s", p.Backend.Type, v.kind)
	case !p.PublicIP.Has(f):
		out.held = true
		return leave("it has no public %s address", f)
	case public == v.publicIP.Of(f):
		return leave("its public address %s is this node's", public)
	case subnet.Contains(public):
		return leave("its public address %s is inside its own subnet", public)
	case !usable(public):
		return bad("publicIP."+string(f), fmt.Errorf("%s is no address of a node", public))
	}
	dev := v.device.Of(f)
	if v.kind == typeHostGW {
		if !onLink[public] {
			return leave("its public address %s is not on the link of %s", public, v.uplink.name)
		}
		return v.straight(out, f, subnet, public)
	}
	mac, verdict, ok := v.tunnelEnd(p, f, bad, leave)
	if !ok {
		out.reason, out.err, out.held = verdict.reason, verdict.err, verdict.held
		return out
	}
	out.claim.mac = mac
	if v.direct && onLink[public] {
		return v.straight(out, f, subnet, public)
	}
	base := subnet.Addr()
	out.use = true
	out.entry = entry{
		tunnel: true,
		route:  v.route(f, nl.Route{Dst: subnet, Gateway: base, Link: dev.index, OnLink: true}),
		neigh:  nl.Neigh{NeighKey: nl.NeighKey{Link: dev.index, IP: base}, MAC: mac, Permanent: true},
		fdb:    nl.FDB{FDBKey: nl.FDBKey{Link: dev.index, MAC: mac}, Dst: public, Permanent: true},
	}
	return out
}

// tunnelEnd reads what the peer published of its VXLAN device.
func (v view) tunnelEnd(p state.Peer, f state.Family, bad func(string, error) verdict, leave func(string, ...any) verdict) (nl.MAC, verdict, bool) {
	data, key := p.Backend.Data, "backend.data"
	if f == state.IPv6 {
		data, key = p.Backend.DataV6, "backend.dataV6"
	}
	if len(data) == 0 || string(data) == "null" {
		out := leave("it has published no %s end of the tunnel yet", f)
		out.held = true
		return nl.MAC{}, out, false
	}
	var published state.VXLANData
	if err := state.Decode(data, &published); err != nil {
		return nl.MAC{}, bad(key, err), false
	}
	dev := v.device.Of(f)
	if published.VNI != dev.vni {
		return nl.MAC{}, leave("its VNI is %d, this node's %d", published.VNI, dev.vni), false
	}
	mac, err := nl.ParseMAC(published.VtepMAC)
	if err != nil {
		return nl.MAC{}, bad(key+".VtepMAC", fmt.Errorf("%q: %w", published.VtepMAC, err)), false
	}
	if mac.String() == dev.mac {
		return nl.MAC{}, leave("its MAC address %s is this node's", mac), false
	}
	return mac, verdict{}, true
}

func (v view) straight(out verdict, f state.Family, subnet netip.Prefix, public netip.Addr) verdict {
	out.use = true
	out.entry = entry{route: v.route(f, nl.Route{Dst: subnet, Gateway: public, Link: v.uplink.index})}
	return out
}

func (v view) route(f state.Family, r nl.Route) nl.Route {
	r.Protocol = nl.ProtocolTowpath
	if f == state.IPv6 {
		r.Metric = nl.MetricIPv6
	}
	return r
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
