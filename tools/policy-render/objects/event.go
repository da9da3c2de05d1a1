package objects

import (
	"context"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// Event is one thing that a Source tells. An object was set or deleted; or Synced; or Status.
type Event struct {
	ID      ID      // of the object; its Kind is 0 for the other events
	Object  *Object // that was set; nil where it was deleted
	Deleted bool
	// Synced: everything that there is has been told; until then nothing may be concluded from what is missing.
	// It comes once.
	Synced bool
	// Status: Faults is all that keeps the source from what it should read, now; none: all is well. Objects that
	// were read before a fault stay as they were.
	Status bool
	Faults []error
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
