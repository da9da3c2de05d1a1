package main

import (
	"fmt"
	"net/netip"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// Backends whose devices or routes are more than the table below can say.
const (
	typeVXLAN  = "vxlan"
	typeHostGW = "host-gw"
)

// kind is how a backend's packets reach the other nodes.
type kind struct {
	// tunnel makes a peer's entry through the tunnel; nil: there is none.
	tunnel func(v view, e end) verdict
	// straight says when a peer on the uplink's own link is reached without the tunnel.
	straight straight
	// anyFamily: the tunnel carries both families to an address of either, so that a peer needs only one.
	anyFamily bool
	// also is a type of peers that are of this backend too, "" for none.
	also string
}

type straight int

const (
	never   straight = iota
	asAsked          // where DirectRouting is on
	always           // there is no other way
)

// kinds are the backends that there are routes for, or that need none.
var kinds = map[string]kind{
	typeVXLAN:   {tunnel: view.toVTEP, straight: asAsked},
	typeHostGW:  {straight: always},
	"ipip":      {tunnel: view.toAddress, straight: asAsked},
	"udp":       {tunnel: view.intoDevice},
	"wireguard": {tunnel: view.intoDevice, anyFamily: true},
	"alloc":     {also: "udp"}, // flannel's alloc publishes no type, which reads as flannel's udp
	"extension": {},
}

// tunnelKinds are the kernel's kinds of the devices that setup programs make.
var tunnelKinds = map[string]bool{typeVXLAN: true, "tun": true, "wireguard": true, "ipip": true}

// elsewhere says that the way to the peers is somebody else's.
func (k kind) elsewhere() bool { return k.tunnel == nil && k.straight == never }

// overUplink says that routes of ours may lead straight over the uplink.
func (v view) overUplink() bool {
	k := kinds[v.kind]
	return k.straight == always || k.straight == asAsked && v.direct
}

// end is a peer's end of the tunnel in a family.
type end struct {
	peer   state.Peer
	family state.Family
	path   string // of the peer's file
	subnet netip.Prefix
	public netip.Addr
}

// leave is a verdict without an entry.
func leave(format string, args ...any) verdict { return verdict{reason: fmt.Sprintf(format, args...)} }

// wait is leave where what the kernel has stays until more is known.
func wait(format string, args ...any) verdict {
	return verdict{reason: fmt.Sprintf(format, args...), held: true}
}

// bad is wait where the peer's file is at fault.
func (e end) bad(key string, err error) verdict {
	out := wait("key %q: %v", key, err)
	out.err = &state.Error{Path: e.path, Key: key, Err: err}
	return out
}

// toVTEP is vxlan's: route, neighbour and FDB entry for the VXLAN device that the peer has published.
func (v view) toVTEP(e end) verdict {
	data, key := e.peer.Backend.Data, "backend.data"
	if e.family == state.IPv6 {
		data, key = e.peer.Backend.DataV6, "backend.dataV6"
	}
	if len(data) == 0 || string(data) == "null" {
		return wait("it has published no %s end of the tunnel yet", e.family)
	}
	var published state.VXLANData
	if err := state.Decode(data, &published); err != nil {
		return e.bad(key, err)
	}
	dev := v.device.Of(e.family)
	// These are changed node by node, too, and each receives on the old ones for a while.
	if published.VNI != dev.vni {
		return wait("its VNI is %d, this node's %d", published.VNI, dev.vni)
	}
	if port := v.portOf(published, dev); port != dev.port {
		return wait("its port is %d, this node's %d", port, dev.port)
	}
	mac, err := nl.ParseMAC(published.VtepMAC)
	if err != nil {
		return e.bad(key+".VtepMAC", fmt.Errorf("%q: %w", published.VtepMAC, err))
	}
	if mac.String() == dev.mac {
		return leave("its MAC address %s is this node's", mac)
	}
	base := e.subnet.Addr()
	return verdict{use: true, claim: claim{mac: mac}, entry: entry{
		vtep:  true,
		route: v.route(nl.Route{Dst: e.subnet, Gateway: base, Link: dev.index, OnLink: true}),
		neigh: nl.Neigh{NeighKey: nl.NeighKey{Link: dev.index, IP: base}, MAC: mac, Permanent: true},
		fdb:   nl.FDB{FDBKey: nl.FDBKey{Link: dev.index, MAC: mac}, Dst: e.public, Permanent: true},
	}}
}

// portOf is where a peer receives. flannel does not say it, and is taken to be configured as this node is; but one who says nothing may
// also be at the default port: that is so while this node, which left it, still has its device there.
func (v view) portOf(p state.VXLANData, dev device) int {
	switch {
	case p.Port != 0:
		return p.Port
	case v.left[tunnel{p.VNI, defaultPort}]:
		return defaultPort
	}
	return dev.port
}

// toAddress is ipip's: the gateway says where the packet goes around the packet.
func (v view) toAddress(e end) verdict {
	return v.by(nl.Route{Dst: e.subnet, Gateway: e.public, Link: v.device.Of(e.family).index, OnLink: true})
}

// intoDevice is for devices that know by themselves which node has a subnet.
func (v view) intoDevice(e end) verdict {
	return v.by(nl.Route{Dst: e.subnet, Link: v.device.Of(e.family).index})
}

// overLink is the route without a tunnel.
func (v view) overLink(e end) verdict {
	return v.by(nl.Route{Dst: e.subnet, Gateway: e.public, Link: v.uplink.index})
}

// by is a peer that one route leads to.
func (v view) by(r nl.Route) verdict { return verdict{use: true, entry: entry{route: v.route(r)}} }

func (v view) route(r nl.Route) nl.Route {
	r.Protocol = nl.ProtocolTowpath
	if r.Dst.Addr().Is6() {
		r.Metric = nl.MetricIPv6
	}
	return r
}
