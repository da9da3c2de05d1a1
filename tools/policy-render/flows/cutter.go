package flows

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A table of 200,000 flows takes nearly half a second to list. So that pods that come and go all the time cost a third
// of a core at most, a listing waits twice as long as the last one took; and never so long that a flow is cut
// later than a second after its ruleset, which may take the listing under way, the pause and another listing.
const (
	pauseFactor = 2
	pauseMax    = 250 * time.Millisecond
)

// Cutter lists flows beside the loop that keeps the model, which is no one else's to read: Request says
// whose flows, Found gives them back, and the loop calls Diff.
type Cutter struct {
	table Table
	found chan []Found
	wake  chan struct{}

	mu      sync.Mutex
	pending map[netip.Addr]struct{}
}

// NewCutter starts a Cutter, which has table for itself; it stops when ctx ends. failed is called on its
// goroutine with the error of a listing that did not work; it is tried again.
func NewCutter(ctx context.Context, table Table, failed func(error)) *Cutter {
	c := &Cutter{table: table, found: make(chan []Found), wake: make(chan struct{}, 1), pending: map[netip.Addr]struct{}{}}
	go c.run(ctx, failed)
	return c
}

// Request asks for the flows of the addresses, in addition to what was asked for before. It does not block.
func (c *Cutter) Request(addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	c.mu.Lock()
	for _, a := range addrs {
		c.pending[a] = struct{}{}
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Found gives what was requested. The channel is never closed.
func (c *Cutter) Found() <-chan []Found { return c.found }

func (c *Cutter) take() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := slices.SortedFunc(maps.Keys(c.pending), netip.Addr.Compare)
	clear(c.pending)
	return addrs
}

func (c *Cutter) run(ctx context.Context, failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		addrs := c.take()
		start := time.Now()
		found, err := Read(c.table, addrs)
		took := time.Since(start)
		switch {
		case err != nil:
			failed(err)
			c.Request(addrs)
			took = pauseMax
		case len(found) > 0:
			select {
			case c.found <- found:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(min(pauseFactor*took, pauseMax)):
		case <-ctx.Done():
			return
		}
	}
}
