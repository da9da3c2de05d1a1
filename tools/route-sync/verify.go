package main

import (
	"maps"
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// verify lists the kernel's entries and says whether they are what is known to be there. It builds
// nothing, because it runs every 30 s on every node, and nearly always finds nothing.
func (e *engine) verify(conn *nl.Conn, socket *nl.Socket) (same bool, err error) {
	now := engine{files: files{lease: e.files.lease, link: e.files.link, peers: e.files.peers}}
	if err := now.look(conn); err != nil {
		return false, err
	}
	for _, f := range state.Families {
		if now.view.device.Of(f) != e.view.device.Of(f) {
			return false, nil
		}
	}
	if now.view.uplink != e.view.uplink || !maps.Equal(now.view.ours, e.view.ours) || !maps.Equal(now.view.vteps, e.view.vteps) {
		return false, nil
	}
	if err := now.paths(socket, nil); err != nil {
		return false, err
	}
	for public, direct := range now.onLink {
		if e.onLink[public] != direct {
			return false, nil
		}
	}
	known := len(e.have.neighs)
	for _, routes := range e.have.routes {
		known += len(routes)
	}
	for _, entries := range e.have.fdb {
		known += len(entries)
	}
	seen, strange := 0, false
	count := func(ok bool) {
		seen++
		strange = strange || !ok
	}
	err = socket.Routes(0, func(r nl.Route) {
		if e.concerns(r) {
			count(slices.Contains(e.have.routes[r.Dst], r))
		}
	})
	for index := range e.view.vteps {
		if err == nil {
			err = socket.Neighs(index, func(n nl.Neigh) {
				have, ok := e.have.neighs[n.NeighKey]
				count(ok && have == n)
			})
		}
		if err == nil {
			err = socket.FDB(index, func(f nl.FDB) { count(slices.Contains(e.have.fdb[f.FDBKey], f)) })
		}
	}
	return !strange && seen == known, err
}
