package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/objects"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// world is the objects and endpoints as this node sees them, and what was printed of them.
type world struct {
	node      string
	cluster   *model.Cluster
	config    render.Config
	renderer  *render.Renderer
	endpoints map[string]model.Endpoint // by ID
	waiting   []string
	past      map[string]error // bridges that let pods past the rules
}

func newWorld(node string, c render.Config) *world {
	return &world{node: node, cluster: model.New(node), config: c, renderer: render.New(c), endpoints: map[string]model.Endpoint{}, past: map[string]error{}}
}

func (w *world) setEndpoint(e model.Endpoint) {
	w.endpoints[e.ID] = e
	w.cluster.SetEndpoint(e)
	w.renderer.SetEndpoint(e)
}

func (w *world) deleteEndpoint(id string) {
	delete(w.endpoints, id)
	w.cluster.DeleteEndpoint(id)
	w.renderer.DeleteEndpoint(id)
}

// commit brings everything set since into force.
func (w *world) commit() (model.Delta, render.Changes) {
	d := w.cluster.Commit()
	w.waiting = d.Waiting
	return d, w.renderer.Update(w.cluster, d)
}

// again prints everything anew, with another configuration if need be.
func (w *world) again(c render.Config) render.Changes {
	w.config, w.renderer = c, render.New(c)
	for _, e := range w.endpoints {
		w.renderer.SetEndpoint(e)
	}
	return w.renderer.Update(w.cluster, render.Everything(w.cluster))
}

// manifest is policy.nft. A waiting endpoint is closed and not covered, since no policy can be known to allow it anything;
// one on a bridge that passes the rules by is not covered either.
func (w *world) manifest() *ruleset.Manifest {
	var covered []string
	for id, e := range w.endpoints {
		if w.past[e.Bridge] == nil && !slices.Contains(w.waiting, id) {
			covered = append(covered, id)
		}
	}
	slices.Sort(covered)
	return w.renderer.Manifest(w.node, covered)
}

// readWorld reads all inputs once. Without a run directory only the objects count.
func readWorld(ctx context.Context, o options, dir state.Dir, useDir bool) (*world, error) {
	c, node := o.render, o.node
	if useDir {
		lease, err := state.Load[state.Lease](dir.Lease())
		switch {
		case err == nil:
			c = withLease(c, &lease)
			if node == "" {
				node = lease.Node
			}
		case o.output == "" || !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if node == "" {
		return nil, errNoNode
	}
	w := newWorld(node, c)
	if o.origin.live() {
		w.cluster.RequireNamespaces()
	}
	list, err := o.origin.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := objects.Load(w.cluster, list); err != nil {
		return nil, err
	}
	if useDir {
		paths, err := endpointFiles(dir)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			e, err := readEndpoint(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // the pod ended meanwhile
			}
			if err != nil {
				return nil, err
			}
			w.setEndpoint(e)
		}
		w.checkBridges()
	}
	return w, nil
}
