package objects

import (
	"context"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// Event is one thing that a Source tells. An object was set or deleted; or a kind was Listed; or Synced; or Status.
type Event struct {
	ID      ID      // of the object, or its Kind alone where that was Listed; the Kind is 0 for the other events
	Object  *Object // that was set; nil where it was deleted
	Deleted bool
	// Listed says which objects of the ID's kind there are: what it does not name is gone, whatever was told of it.
	Listed func(model.Key) bool
	// Synced: everything that there is has been told; until then nothing may be concluded from what is missing.
	// It comes once.
	Synced bool
	// Status: Faults is all that keeps the source from what it should read, now; none: all is well. Objects that
	// were read before a fault stay as they were.
	// Awaits names what has not been told for the first time, in words; empty: nothing.
	Status bool
	Faults []error
	Awaits string
}

// Source tells of objects. Batches belong together: bring each into force as a whole. The channel is never closed;
// sending ends with ctx.
type Source interface {
	Watch(ctx context.Context) (<-chan []Event, error)
}

// Apply brings an event of an object into a cluster; it leaves the others alone.
func (e *Event) Apply(c *model.Cluster) error {
	switch {
	case e.Object != nil:
		return e.Object.Put(c)
	case e.Listed != nil:
		e.retain(c)
	case !e.Deleted:
	case e.ID.Kind == Namespace:
		c.DeleteNamespace(e.ID.Key.Name)
	case e.ID.Kind == Pod:
		c.DeletePod(e.ID.Key)
	case e.ID.Kind == NetworkPolicy:
		c.DeletePolicy(e.ID.Key)
	}
	return nil
}

// retain deletes what is not listed.
func (e *Event) retain(c *model.Cluster) {
	switch e.ID.Kind {
	case Namespace:
		c.RetainNamespaces(func(name string) bool { return e.Listed(model.Key{Name: name}) })
	case Pod:
		c.RetainPods(e.Listed)
	case NetworkPolicy:
		c.RetainPolicies(e.Listed)
	}
}
