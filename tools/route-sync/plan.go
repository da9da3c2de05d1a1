package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// owned is a wanted entry, and the node it leads to.
type owned[T any] struct {
	value T
	node  string
}

// wanted is every entry that has to be there.
type wanted struct {
	routes map[netip.Prefix]owned[nl.Route]
	neighs map[nl.NeighKey]owned[nl.Neigh]
	fdb    map[nl.FDBKey]owned[nl.FDB]
}

// kernel is what is there, as far as it concerns us: our routes and those in their way, the
// permanent neighbours and FDB entries of our devices.
type kernel struct {
	routes map[netip.Prefix][]nl.Route
	neighs map[nl.NeighKey]nl.Neigh
	fdb    map[nl.FDBKey][]nl.FDB
}

// keys names entries.
type keys struct {
	routes map[netip.Prefix]struct{}
	neighs map[nl.NeighKey]struct{}
	fdb    map[nl.FDBKey]struct{}
}

// rules is what Diff has to know beside the entries.
type rules struct {
	view     view
	prune    bool // what nobody wants is removed
	takeOver bool // also flannel's routes that nobody wants
	held     map[netip.Prefix]struct{}
}

// change is one operation, and the node it is for ("" when it is for none).
type change struct {
	nl.Change
	node  string
	order int
}

// The order of what belongs together: nothing is sent to an entry that is not there yet, and nothing
// is removed that packets still use.
const (
	addFDB = iota
	addNeigh
	clearRoute
	addRoute
	delRoute
	delNeigh
	delFDB
)

// diff is what Diff finds.
type diff struct {
	changes   []change
	conflicts map[string]string // node: the foreign route in its route's way
}

// Diff lists what turns have into want. scope limits it to the entries it names; nil means all.
// Changes of one peer follow each other, so that a peer is reached as soon as its own are done; what
// is removed comes last.
func Diff(want wanted, have kernel, scope *keys, r rules) diff {
	d := diff{conflicts: map[string]string{}}
	if scope == nil {
		scope = &keys{routes: union(want.routes, have.routes), neighs: union(want.neighs, have.neighs), fdb: union(want.fdb, have.fdb)}
	}
	heldMACs := map[nl.FDBKey]bool{}
	for p := range r.held {
		for index := range r.view.vteps {
			if n, ok := have.neighs[nl.NeighKey{Link: index, IP: p.Addr()}]; ok {
				heldMACs[nl.FDBKey{Link: index, MAC: n.MAC}] = true
			}
		}
	}
	add := func(node string, order int, c nl.Change) { d.changes = append(d.changes, change{c, node, order}) }
	for dst := range scope.routes {
		if r.view.suspended(state.FamilyOf(dst.Addr())) == "" {
			_, held := r.held[dst]
			d.route(want.routes[dst], have.routes[dst], r, held, add)
		}
	}
	for key := range scope.neighs {
		w, ok := want.neighs[key]
		h, there := have.neighs[key]
		dev := r.view.vteps[key.Link]
		_, held := r.held[netip.PrefixFrom(key.IP, key.IP.BitLen())]
		switch {
		case dev == "" || r.view.idle(key.Link):
		case ok && w.value != h:
			add(w.node, addNeigh, nl.NeighChange{Verb: nl.Replace, Neigh: w.value, Dev: dev})
		case !ok && there && h.Permanent && r.prune && !held && !r.holds(key.IP):
			add("", delNeigh, nl.NeighChange{Verb: nl.Delete, Neigh: h, Dev: dev})
		}
	}
	for key := range scope.fdb {
		w, ok := want.fdb[key]
		dev := r.view.vteps[key.Link]
		if dev == "" || r.view.idle(key.Link) {
			continue
		}
		if ok && !slices.Contains(have.fdb[key], w.value) {
			add(w.node, addFDB, nl.FDBChange{Verb: nl.Replace, FDB: w.value, Dev: dev})
		}
		for _, h := range have.fdb[key] {
			if !ok && h.Permanent && r.prune && !heldMACs[key] {
				add("", delFDB, nl.FDBChange{Verb: nl.Delete, FDB: h, Dev: dev})
			}
		}
	}
	slices.SortFunc(d.changes, compare)
	return d
}

// route compares what is wanted for one destination with all that is there.
func (d *diff) route(w owned[nl.Route], have []nl.Route, r rules, held bool, add func(string, int, nl.Change)) {
	wanted := w.value.Dst.IsValid()
	if wanted && !slices.Contains(have, w.value) {
		verb := nl.Add
		for _, h := range have {
			if h.Metric != w.value.Metric {
				continue // beside it, not in its way
			}
			if !r.replaceable(h, w.value) {
				d.conflicts[w.node] = fmt.Sprintf("another's route is in the way: %s", describe(h, r.view))
				return
			}
			verb = nl.Replace
		}
		if verb == nl.Replace && w.value.OnLink && w.value.Dst.Addr().Is6() {
			// The kernel looks an IPv6 gateway up even when told that it is on-link, finds the very route
			// that is to be replaced, and refuses when that leads over another device.
			for _, h := range have {
				if h.Metric == w.value.Metric && h.Link != w.value.Link {
					verb = nl.Add
					add(w.node, clearRoute, nl.RouteChange{Verb: nl.Delete, Route: deletable(h), Dev: r.view.names[h.Link]})
				}
			}
		}
		add(w.node, addRoute, nl.RouteChange{Verb: verb, Route: w.value, Dev: r.view.names[w.value.Link]})
	}
	for _, h := range have {
		ours := h.Protocol == nl.ProtocolTowpath || r.takeOver && r.flannels(h, w.value)
		replaced := wanted && h.Metric == w.value.Metric
		if ours && h != w.value && !replaced && r.prune && !held {
			add("", delRoute, nl.RouteChange{Verb: nl.Delete, Route: deletable(h), Dev: r.view.names[h.Link]})
		}
	}
}

// untag lists what makes our routes look as flannel makes them: without a protocol. Neighbours and FDB entries carry
// no mark of their own.
func untag(have kernel, v view) []change {
	var changes []change
	for _, routes := range have.routes {
		for _, h := range routes {
			if h.Protocol == nl.ProtocolTowpath && !h.Other {
				h.Protocol = nl.ProtocolBoot
				changes = append(changes, change{Change: nl.RouteChange{Verb: nl.Replace, Route: h, Dev: v.names[h.Link]}, order: addRoute})
			}
		}
	}
	slices.SortFunc(changes, compare)
	return changes
}

// deletable is as much of a route as the kernel needs to find it.
func deletable(h nl.Route) nl.Route {
	if h.Other {
		return nl.Route{Dst: h.Dst, Metric: h.Metric, Protocol: h.Protocol}
	}
	return h
}

// replaceable says whether a route may make room for want: it is ours, or it leads flannel's way.
func (r rules) replaceable(have, want nl.Route) bool {
	return have.Protocol == nl.ProtocolTowpath || r.flannels(have, want)
}

// flannels says that a route looks as flannel makes it: no protocol given, over our device, or over
// the uplink just as the one that is wanted.
func (r rules) flannels(have, want nl.Route) bool {
	if have.Protocol != nl.ProtocolBoot || have.Other {
		return false
	}
	if r.view.ours[have.Link] != "" || r.takeOver && strings.HasPrefix(r.view.names[have.Link], "flannel") {
		return true // the latter leads over the device of the back end that the node had before
	}
	// Over the uplink a route may be anybody's: one that leads just where ours does is no loss, others need the word.
	return !kinds[r.view.kind].elsewhere() && have.Link == r.view.uplink.index && have.Link != 0 && (r.takeOver && have.Gateway.IsValid() || have.Gateway == want.Gateway && have.Link == want.Link)
}

// idle says that the device of an index cannot be used now.
func (v view) idle(index int) bool {
	for _, f := range state.Families {
		if d := v.device.Of(f); d.index == index && d.why != "" {
			return true
		}
	}
	return false
}

// holds says that a peer whose needs are unknown has this address as the base of its subnet.
func (r rules) holds(base netip.Addr) bool {
	for p := range r.held {
		if p.Addr() == base {
			return true
		}
	}
	return false
}

func describe(h nl.Route, v view) string {
	text := nl.RouteChange{Route: h, Dev: v.names[h.Link]}.String()
	for _, prefix := range []string{"ip -6 route add ", "ip route add "} {
		if len(text) > len(prefix) && text[:len(prefix)] == prefix {
			return text[len(prefix):]
		}
	}
	return text
}

func compare(a, b change) int {
	if a.order >= delRoute || b.order >= delRoute {
		return cmp.Or(cmp.Compare(a.order, b.order), place(a).Compare(place(b)), cmp.Compare(a.node, b.node))
	}
	return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(place(a).BitLen(), place(b).BitLen()), cmp.Compare(a.order, b.order))
}

// place is what changes of one kind are sorted by.
func place(c change) netip.Addr {
	switch c := c.Change.(type) {
	case nl.RouteChange:
		return c.Route.Dst.Addr()
	case nl.NeighChange:
		return c.Neigh.IP
	case nl.FDBChange:
		return c.FDB.Dst
	}
	return netip.Addr{}
}

func union[K comparable, A, B any](a map[K]A, b map[K]B) map[K]struct{} {
	out := make(map[K]struct{}, max(len(a), len(b)))
	for k := range a {
		out[k] = struct{}{}
	}
	for k := range b {
		out[k] = struct{}{}
	}
	return out
}
