package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// look reads the devices: which are ours, and whether those of link.json can be used.
func (e *engine) look(conn *nl.Conn) error {
	links, err := conn.Links()
	if err != nil {
		return err
	}
	lease, link := e.files.lease, e.files.link
	e.view = view{
		node: lease.Node, kind: link.Publish.Type, network: lease.Network, subnet: lease.Subnet, publicIP: lease.PublicIP,
		direct: link.DirectRouting, uplink: device{name: link.Uplink},
		ours: map[int]string{}, vteps: map[int]string{}, names: make(map[int]string, len(links)),
	}
	byName := make(map[string]nl.Link, len(links))
	for _, l := range links {
		byName[l.Name], e.view.names[l.Index] = l, l.Name
		ours := made(l) || e.takeOver && e.linked(l)
		if ours {
			e.view.ours[l.Index] = l.Name
		}
		if ours && l.Kind == typeVXLAN {
			e.view.vteps[l.Index] = l.Name
		}
	}
	e.view.uplink.index = byName[link.Uplink].Index
	for _, f := range state.Families {
		d := link.Device.Of(f)
		if d.Name == "" {
			continue
		}
		l, ok := byName[d.Name]
		have := device{name: d.Name, index: l.Index, vni: d.VNI, mac: d.VtepMAC}
		switch {
		case !ok:
			have.why = "no such device"
		case e.view.kind == typeVXLAN && e.view.vteps[l.Index] == "":
			have.why = fmt.Sprintf("not a VXLAN device with the alias %q", nl.Mark)
		case !l.Up:
			have.why = "it is down"
		}
		if ok && kinds[e.view.kind].tunnel != nil && have.why == "" {
			e.view.ours[l.Index] = l.Name
		}
		e.view.device.Set(f, have)
	}
	return e.lookAtTunnels(conn)
}

// made says that a setup program of towpath made the device.
func made(l nl.Link) bool { return l.Alias == nl.Mark && tunnelKinds[l.Kind] }

// linked says whether link.json names a device for a tunnel: where that is to be taken over, its mark may still be to come.
func (e *engine) linked(l nl.Link) bool {
	return tunnelKinds[l.Kind] && (e.files.link.Device.IPv4.Name == l.Name || e.files.link.Device.IPv6.Name == l.Name)
}

// list reads every entry that concerns us.
func (e *engine) list(socket *nl.Socket) error {
	n := len(e.files.peers)
	e.have = kernel{
		routes: make(map[netip.Prefix][]nl.Route, n), neighs: make(map[nl.NeighKey]nl.Neigh, n), fdb: make(map[nl.FDBKey][]nl.FDB, n),
	}
	err := socket.Routes(0, func(r nl.Route) { e.route(r, false) })
	for index := range e.view.vteps {
		if err == nil {
			err = socket.Neighs(index, func(n nl.Neigh) { e.have.neighs[n.NeighKey] = n })
		}
		if err == nil {
			err = socket.FDB(index, e.fdb)
		}
	}
	return err
}

// concerns says whether a route is ours or may be in our way.
func (e *engine) concerns(r nl.Route) bool {
	if r.Protocol == nl.ProtocolTowpath || e.view.ours[r.Link] != "" {
		return true
	}
	network := e.view.network.Of(state.FamilyOf(r.Dst.Addr()))
	return network.IsValid() && inside(network, r.Dst)
}

// route takes a route into what is known to be there. A dump may tell of it twice.
func (e *engine) route(r nl.Route, replaced bool) {
	if !e.concerns(r) {
		if !replaced {
			return
		}
		e.have.routes[r.Dst] = slices.DeleteFunc(e.have.routes[r.Dst], func(h nl.Route) bool { return h.Metric == r.Metric })
		if len(e.have.routes[r.Dst]) == 0 {
			delete(e.have.routes, r.Dst)
		}
		return
	}
	there := e.have.routes[r.Dst]
	if replaced {
		there = slices.DeleteFunc(there, func(h nl.Route) bool { return h.Metric == r.Metric })
	}
	if !slices.Contains(there, r) {
		there = append(there, r)
	}
	e.have.routes[r.Dst] = there
}

// fdb takes an FDB entry in. A unicast address leads to one place; the all-zero one may lead to many.
func (e *engine) fdb(f nl.FDB) {
	there := e.have.fdb[f.FDBKey]
	if f.MAC != (nl.MAC{}) && f.MAC[0]&1 == 0 {
		there = there[:0]
	}
	if !slices.Contains(there, f) {
		there = append(there, f)
	}
	e.have.fdb[f.FDBKey] = there
}

// paths asks the kernel which public addresses are on the uplink's own link, where that matters. With
// only, it asks for those peers alone.
func (e *engine) paths(socket *nl.Socket, only []string) error {
	if !e.view.overUplink() {
		e.onLink = nil
		return nil
	}
	if only == nil || e.onLink == nil {
		e.onLink, only = map[netip.Addr]bool{}, nil
	}
	var addrs []netip.Addr
	ask := func(p *peerFile) {
		if p == nil {
			return
		}
		for _, f := range state.Families {
			if a := p.peer.PublicIP.Of(f); usable(a) {
				addrs = append(addrs, a)
			}
		}
	}
	if only == nil {
		for _, p := range e.files.peers {
			ask(p)
		}
	}
	for _, node := range only {
		ask(e.files.peers[node])
	}
	paths, err := socket.Paths(addrs)
	if err != nil {
		return fmt.Errorf("find the way to the peers: %w", err)
	}
	for i, p := range paths {
		e.onLink[addrs[i]] = p.Link == e.view.uplink.index && p.Link != 0 && !p.Gateway.IsValid()
	}
	return nil
}

// foreign lists routes over our devices that somebody else made.
func (e *engine) foreign() []string {
	var out []string
	for dst, routes := range e.have.routes {
		if _, ours := e.want.routes[dst]; ours {
			continue // replaced by ours, or in its way: then the peer is left out
		}
		for _, r := range routes {
			own := slices.ContainsFunc(state.Families[:], func(f state.Family) bool { return e.view.subnet.Of(f).Contains(r.Dst.Addr()) })
			known := r.Protocol == nl.ProtocolTowpath || r.Protocol == protocolKernel || r.Protocol == nl.ProtocolBoot && e.takeOver
			if e.view.ours[r.Link] != "" && !known && !own {
				out = append(out, describe(r, e.view))
			}
		}
	}
	slices.Sort(out)
	return out[:min(len(out), 20)]
}

const protocolKernel = 2 // RTPROT_KERNEL: fe80::/64 and the like

// suspended says which device keeps a family from being worked on, or "".
func (e *engine) suspended() string {
	for _, f := range state.Families {
		if why := e.view.suspended(f); why != "" {
			return fmt.Sprintf("device %q: %s", e.view.device.Of(f).name, why)
		}
	}
	return ""
}

// observe reads everything but peers/ and decides anew about everything.
func (e *engine) observe(conn *nl.Conn, socket *nl.Socket) error {
	if err := e.look(conn); err != nil {
		return err
	}
	if err := e.paths(socket, nil); err != nil {
		return err
	}
	if err := e.list(socket); err != nil {
		return err
	}
	e.rebuild()
	return nil
}
