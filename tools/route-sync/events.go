package main

import (
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// drain takes what the kernel told of into what is known to be there.
func (w *watcher) drain() error {
	return w.events.Drain(func(ev nl.Event) {
		if w.started || ev.What == nl.Everything {
			w.dirty = w.e.take(ev, w.pending) || w.dirty
		}
	})
}

// take updates what is there and names it in touched. It returns true when entries may have changed
// that the kernel does not tell of, or when the devices did: then everything must be listed again.
func (e *engine) take(ev nl.Event, touched *keys) (dirty bool) {
	straight := e.view.overUplink()
	switch ev.What {
	case nl.Everything:
		return true
	case nl.LinkEvent:
		l := ev.Link
		return e.view.ours[l.Index] != "" || e.view.names[l.Index] == "" && made(l) || e.named(l.Name) ||
			straight && (l.Index == e.view.uplink.index || l.Name == e.view.uplink.name)
	case nl.AddrEvent: // a device that loses its last address silently loses its routes
		return e.view.ours[ev.Addr.Link] != "" || straight && ev.Addr.Link == e.view.uplink.index
	case nl.RouteEvent:
		return e.takeRoute(ev, touched, straight)
	case nl.NeighEvent:
		if e.view.vteps[ev.Neigh.Link] == "" {
			return false
		}
		if touched.neighs[ev.Neigh.NeighKey] = struct{}{}; ev.Gone {
			delete(e.have.neighs, ev.Neigh.NeighKey)
		} else {
			e.have.neighs[ev.Neigh.NeighKey] = ev.Neigh
		}
	case nl.FDBEvent:
		if e.view.vteps[ev.FDB.Link] == "" {
			return false
		}
		if touched.fdb[ev.FDB.FDBKey] = struct{}{}; !ev.Gone {
			e.fdb(ev.FDB)
			return false
		}
		there := slices.DeleteFunc(e.have.fdb[ev.FDB.FDBKey], func(h nl.FDB) bool { return h.Dst == ev.FDB.Dst })
		if e.have.fdb[ev.FDB.FDBKey] = there; len(there) == 0 {
			delete(e.have.fdb, ev.FDB.FDBKey)
		}
	}
	return false
}

func (e *engine) takeRoute(ev nl.Event, touched *keys, straight bool) (dirty bool) {
	r := ev.Route
	if !e.concerns(r) && len(e.have.routes[r.Dst]) == 0 {
		if !straight {
			return false
		}
		for public := range e.onLink {
			if r.Dst.Contains(public) {
				return true // it may lead to a peer another way
			}
		}
		return false
	}
	touched.routes[r.Dst] = struct{}{}
	if !ev.Gone {
		e.route(r, ev.Replaced)
		return false
	}
	there := slices.DeleteFunc(e.have.routes[r.Dst], func(h nl.Route) bool {
		return h.Metric == r.Metric && h.Link == r.Link && h.Gateway == r.Gateway && h.Protocol == r.Protocol
	})
	if e.have.routes[r.Dst] = there; len(there) == 0 {
		delete(e.have.routes, r.Dst)
	}
	return false
}

// named says that link.json names a device so.
func (e *engine) named(name string) bool {
	return slices.ContainsFunc(state.Families[:], func(f state.Family) bool { return e.view.device.Of(f).name == name })
}
