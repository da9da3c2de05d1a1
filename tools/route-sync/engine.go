package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// engine holds what was told, what is wanted and what is there. Its cost for one peer's change does
// not depend on how many peers there are.
type engine struct {
	files    files
	takeOver bool

	view     view
	onLink   map[netip.Addr]bool // public addresses on the uplink's own link; only where it matters
	verdicts map[string]*[2]verdict
	claims   *claims
	want     wanted
	have     kernel
	held     map[netip.Prefix]struct{}
	unknown  map[string]struct{} // nodes whose file never could be read

	failed    map[string]string // node: the kernel's refusal
	conflicts map[string]string // node: a foreign route in the way

	retiring map[string]state.Retiring
}

// rebuild decides about every peer anew.
func (e *engine) rebuild() {
	n := len(e.files.peers)
	e.verdicts, e.claims = make(map[string]*[2]verdict, n), newClaims()
	e.want = wanted{
		routes: make(map[netip.Prefix]owned[nl.Route], n), neighs: make(map[nl.NeighKey]owned[nl.Neigh], n),
		fdb: make(map[nl.FDBKey]owned[nl.FDB], n),
	}
	e.held, e.unknown = map[netip.Prefix]struct{}{}, map[string]struct{}{}
	for node := range e.files.peers {
		e.judge(node)
	}
	for node := range e.verdicts {
		e.settle(node, nil)
	}
}

// update decides about some peers anew, and about those whose claims were in their way. It returns the
// entries that may have changed.
func (e *engine) update(nodes []string) *keys {
	touched := newKeys()
	again := map[string]struct{}{}
	rivals := func(node string) {
		for i, f := range state.Families {
			if v := e.verdicts[node]; v != nil {
				e.claims.rivals(node, f, v[i].claim, func(rival, _ string) { again[rival] = struct{}{} })
			}
		}
	}
	for _, node := range nodes {
		again[node] = struct{}{}
		rivals(node)
		e.withdraw(node, touched)
		e.judge(node)
		rivals(node)
	}
	for node := range again {
		e.unsettle(node, touched)
	}
	for node := range again {
		e.settle(node, touched)
	}
	return touched
}

// withdraw forgets a peer.
func (e *engine) withdraw(node string, touched *keys) {
	e.unsettle(node, touched)
	if v := e.verdicts[node]; v != nil {
		for i, f := range state.Families {
			e.claims.remove(node, f, v[i].claim)
			if v[i].held {
				delete(e.held, v[i].claim.subnet)
				touched.hold(v[i].claim.subnet, e)
			}
		}
	}
	delete(e.verdicts, node)
	delete(e.unknown, node)
	delete(e.conflicts, node)
	delete(e.failed, node)
}

// judge decides what a peer needs by itself, and makes its claims.
func (e *engine) judge(node string) {
	p := e.files.peers[node]
	if p == nil {
		return
	}
	if !p.known {
		e.unknown[node] = struct{}{}
		return
	}
	var v [2]verdict
	for i, f := range state.Families {
		v[i] = e.view.resolve(p.peer, f, e.files.run.Peer(node), e.onLink)
		e.claims.add(node, f, v[i].claim)
		if v[i].held {
			e.held[v[i].claim.subnet] = struct{}{}
		}
	}
	e.verdicts[node] = &v
}

// settle puts a peer's entries among the wanted ones, unless somebody has the better claim.
func (e *engine) settle(node string, touched *keys) {
	v := e.verdicts[node]
	if v == nil {
		return
	}
	for i, f := range state.Families {
		if !v[i].use {
			continue
		}
		v[i].reason = ""
		first := node
		e.claims.rivals(node, f, v[i].claim, func(rival, what string) {
			if rival < first {
				first = rival
				v[i].reason = "node " + rival + " claims its " + what + " too"
			}
		})
		if v[i].reason != "" {
			continue
		}
		n := v[i].entry
		e.want.routes[n.route.Dst] = owned[nl.Route]{n.route, node}
		if n.vtep {
			e.want.neighs[n.neigh.NeighKey] = owned[nl.Neigh]{n.neigh, node}
			e.want.fdb[n.fdb.FDBKey] = owned[nl.FDB]{n.fdb, node}
		}
		touched.entry(n)
	}
}

// unsettle takes a peer's entries from among the wanted ones.
func (e *engine) unsettle(node string, touched *keys) {
	v := e.verdicts[node]
	if v == nil {
		return
	}
	for i := range v {
		if !v[i].use {
			continue
		}
		n := v[i].entry
		if e.want.routes[n.route.Dst].node == node {
			delete(e.want.routes, n.route.Dst)
		}
		if e.want.neighs[n.neigh.NeighKey].node == node {
			delete(e.want.neighs, n.neigh.NeighKey)
		}
		if e.want.fdb[n.fdb.FDBKey].node == node {
			delete(e.want.fdb, n.fdb.FDBKey)
		}
		touched.entry(n)
	}
}

// diff compares what scope names; nil means everything.
func (e *engine) diff(scope *keys) []change {
	d := Diff(e.want, e.have, scope, rules{
		view: e.view, held: e.held, takeOver: e.takeOver,
		prune: e.files.synced && len(e.unknown) == 0,
	})
	if scope == nil {
		e.conflicts = d.conflicts
	} else {
		for dst := range scope.routes {
			delete(e.conflicts, e.want.routes[dst].node)
		}
		for node, why := range d.conflicts {
			e.conflicts[node] = why
		}
	}
	return d.changes
}

// routes is what routes.json has to say.
func (e *engine) routes() state.Routes {
	r := state.Routes{Version: state.Version, LeftOut: map[string]string{}}
	for node, p := range e.files.peers {
		var reasons []string
		if p.err != nil {
			reasons = append(reasons, p.err.Error())
		}
		used := false
		if v := e.verdicts[node]; v != nil {
			for i, f := range state.Families {
				used = used || v[i].elsewhere || v[i].use && v[i].reason == ""
				if why := e.view.suspended(f); v[i].use && why != "" {
					reasons = append(reasons, fmt.Sprintf("%s: device %q: %s", f, e.view.device.Of(f).name, why))
				}
				if v[i].reason != "" {
					reasons = append(reasons, string(f)+": "+v[i].reason)
				}
			}
		}
		for _, why := range []string{e.conflicts[node], e.failed[node]} {
			if why != "" {
				reasons = append(reasons, why)
			}
		}
		switch {
		case len(reasons) > 0:
			r.LeftOut[node] = strings.Join(reasons, "; ")
		case used:
			r.Peers++
		default:
			r.LeftOut[node] = "it has no subnet of a family that this node uses"
		}
	}
	r.Foreign, r.Retiring = e.foreign(), e.retiring
	return r
}

// errors is what ends plan and apply although the rest was done.
func (e *engine) errors() []error {
	var errs []error
	if err := e.files.errors(); err != nil {
		errs = append(errs, err)
	}
	for _, v := range e.verdicts {
		for i := range v {
			if v[i].err != nil && len(errs) < 10 {
				errs = append(errs, v[i].err)
			}
		}
	}
	return errs
}

func newKeys() *keys {
	return &keys{routes: map[netip.Prefix]struct{}{}, neighs: map[nl.NeighKey]struct{}{}, fdb: map[nl.FDBKey]struct{}{}}
}

func (k *keys) entry(n entry) {
	if k == nil {
		return
	}
	k.routes[n.route.Dst] = struct{}{}
	if n.vtep {
		k.neighs[n.neigh.NeighKey] = struct{}{}
		k.fdb[n.fdb.FDBKey] = struct{}{}
	}
}

// hold names what the kernel has for a subnet that was held.
func (k *keys) hold(subnet netip.Prefix, e *engine) {
	k.routes[subnet] = struct{}{}
	for index := range e.view.vteps {
		key := nl.NeighKey{Link: index, IP: subnet.Addr()}
		if n, ok := e.have.neighs[key]; ok {
			k.neighs[key] = struct{}{}
			k.fdb[nl.FDBKey{Link: index, MAC: n.MAC}] = struct{}{}
		}
	}
}

func (k *keys) empty() bool { return len(k.routes)+len(k.neighs)+len(k.fdb) == 0 }
