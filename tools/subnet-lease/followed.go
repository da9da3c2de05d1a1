package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
)

// answerWait is how long a pass waits for a server's first listing.
const answerWait = 30 * time.Second

// served is a store behind a server.
type served interface {
	// Away says since when the server does not answer, and why; nil: it does.
	Away() (since time.Time, why error)
}

// followed is what a store in memory knows of the server that it follows: whether a full listing is there, and whether the server
// answers.
type followed struct {
	mu        sync.Mutex
	following bool
	synced    bool
	trouble   error     // of the last attempt; nil: the server answers
	since     time.Time // when trouble began

	gate   gate
	hints  hintQueue
	answer chan struct{} // closed when trouble or the first listing is there
}

func newFollowed() followed { return followed{hints: newHintQueue(), answer: make(chan struct{})} }

// await waits until memory holds a full listing, or the server cannot give one. what and host are for the message.
func (s *followed) await(ctx context.Context, what, host string) error {
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	select {
	case <-answer:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.synced:
		return nil
	case s.trouble != nil:
		return s.trouble
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	}
	return exit.Errorf(exit.Unavailable, "%s: no answer from %s within %s", what, host, answerWait)
}

// Away says since when the server does not answer, and why; nil: it does.
func (s *followed) Away() (since time.Time, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.trouble
}

// tooEarly is the last failure of a change, as long as it is too early for another try.
func (s *followed) tooEarly() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate.shut(time.Now())
}

// answered lets those go on who wait for the server's answer.
func (s *followed) answered() {
	select {
	case <-s.answer:
	default:
		close(s.answer)
	}
}

func (s *followed) troubled(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble == nil {
		s.since = time.Now()
		s.hints.put(Hint{All: true}) // so that it is said
	}
	s.trouble = err
	s.answered()
}

func (s *followed) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble != nil {
		s.trouble, s.gate = nil, gate{}
		if !s.synced {
			s.answer = make(chan struct{}) // the listing is on its way
		}
		s.hints.put(Hint{All: true})
	}
}

// gate keeps requests that fail apart by a growing delay, whatever the reason for the next one: news of the machine
// come at any time, and a server that is in trouble is not to pay for them.
type gate struct {
	last  error
	until time.Time
	delay keep.Backoff
}

// shut is the last failure, as long as it is too early for another try.
func (g *gate) shut(now time.Time) error {
	if now.Before(g.until) {
		return g.last
	}
	return nil
}

func (g *gate) note(err error, now time.Time) {
	if err == nil {
		*g = gate{}
		return
	}
	g.last, g.until = err, now.Add(g.delay.Next())
}
