package main

import (
	"context"
	"sync"
)

// hintQueue merges hints until they are received, so that whoever gives one never waits.
type hintQueue struct {
	mu      *sync.Mutex
	pending *Hint
	wake    chan struct{}
}

func newHintQueue() hintQueue {
	return hintQueue{mu: &sync.Mutex{}, pending: &Hint{}, wake: make(chan struct{}, 1)}
}

func (q hintQueue) put(h Hint) {
	q.mu.Lock()
	q.pending.All = q.pending.All || h.All
	q.pending.Nodes = append(q.pending.Nodes, h.Nodes...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q hintQueue) take() Hint {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := *q.pending
	*q.pending = Hint{}
	return h
}

// serve sends what was put until ctx ends.
func (q hintQueue) serve(ctx context.Context) <-chan Hint {
	out := make(chan Hint)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
			}
			h := q.take()
			if !h.All && len(h.Nodes) == 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case out <- h:
			}
		}
	}()
	return out
}
