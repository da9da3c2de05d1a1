package main

import (
	"context"
	"errors"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/watch"
)

// settle is how long changes of policy.nft are gathered. It is renamed into its place: one is all there is.
const settle = 50 * time.Microsecond

// Watch loads policy.nft, and again when it changes, and puts back what others change in the tables.
func (s *step) Watch(ctx context.Context, ready func()) error {
	if err := s.kernel.follow(); err != nil {
		return err
	}
	files, err := watch.New(ctx, watch.Options{Files: []string{s.dir.PolicyNFT()}, Period: keep.Period, Settle: settle})
	if err != nil {
		return err
	}
	l := loop{step: s, ready: ready}
	for reason := "start"; ; {
		if err := l.pass(ctx, reason); err != nil {
			return err
		}
		if reason = l.wait(ctx, files); reason == "" {
			return s.leave()
		}
	}
}

// loop is the state of a watch between its passes.
type loop struct {
	step   *step
	ready  func()
	stands bool // ready was called
	retry  keep.Backoff
	again  <-chan time.Time
	torn   int // times in a row that policy.nft named other files than there are
	pace   pace
	heal   <-chan time.Time
}

// wait returns why there is something to do; empty: ctx has ended.
func (l *loop) wait(ctx context.Context, files <-chan watch.Change) string {
	for {
		select {
		case <-ctx.Done():
			return ""
		case c := <-files:
			return c.String()
		case <-l.again:
			return "retry"
		case <-l.heal:
			l.heal = nil
			return l.step.drift.Error()
		case c := <-l.step.kernel.changes:
			d := l.step.kernel.note(c)
			if d == nil {
				continue
			}
			if l.step.drift = d; l.heal == nil {
				l.heal = time.After(l.pace.next(time.Now()))
			}
		}
	}
}

// pass does what there is to do. It returns an error only where watching on would not help.
func (l *loop) pass(ctx context.Context, reason string) error {
	err := l.step.settle(ctx, reason)
	if l.step.drift == nil {
		l.heal = nil
	}
	var torn *torn
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		l.retry.Reset()
		l.again, l.torn = nil, 0
		if !l.stands {
			l.stands = true
			l.ready()
		}
		keep.Status("ok")
		return nil
	case !l.stands && exit.Of(err).AwaitsChange():
		return err
	case errors.As(err, &torn) && l.torn < 3:
		l.torn++ // policy-render is at work; the next policy.nft ends it
		l.step.log.Debug("not whole yet", "err", err)
		l.again = time.After(l.retry.Next())
		return nil
	}
	delay := l.retry.Next()
	l.again = time.After(delay)
	l.step.log.Log(ctx, keep.Level(err), "cannot apply", "err", err, "retry", delay.Round(time.Millisecond))
	keep.Status(state.Failing+"%v", err)
	return nil
}

// settle brings the kernel to policy.nft. What is loaded is put back where it was changed even while a newer policy.nft
// cannot be had, or is refused.
func (s *step) settle(ctx context.Context, reason string) error {
	want, err := readPolicy(s.dir, s.loaded)
	if err == nil && s.loaded == nil && s.drift == nil {
		if err = s.recall(want); err == nil && s.loaded != nil {
			s.log.Info("loaded already", "generation", want.generation)
		}
	}
	refused := err == nil && want.generation == s.refused && s.loaded != nil
	if s.drift != nil && s.loaded != nil && (err != nil || refused) {
		s.log.Warn("putting back", "reason", s.drift.Error())
		if lerr := s.load(ctx, s.loaded, reason); lerr != nil {
			return lerr
		}
		if refused {
			return s.refuse(want, s.why)
		}
		return err
	}
	switch {
	case err != nil:
		return err
	case refused && reason != "retry":
		return s.why
	case s.loaded != nil && s.drift == nil && s.loaded.generation == want.generation:
		s.refused, s.why = "", nil
		return s.save(want, s.record.Kernel, "")
	case s.drift != nil && s.loaded != nil:
		s.log.Warn("putting back", "reason", s.drift.Error())
	}
	return s.update(ctx, want, reason)
}

// leave writes down up to which generation of the kernel the tables are as they were left, so that the next start finds
// nothing to do although other tables have changed since the last load.
func (s *step) leave() error {
	last, err := nl.NFTGeneration()
	if err != nil || s.loaded == nil || s.drift != nil {
		return nil
	}
	deadline := time.NewTimer(time.Second)
	defer deadline.Stop()
	for s.kernel.at != last {
		select {
		case c := <-s.kernel.changes:
			if s.kernel.note(c) != nil {
				return nil
			}
			if int32(s.kernel.at-last) > 0 {
				last = s.kernel.at
			}
		case <-deadline.C:
			return nil
		}
	}
	return s.save(s.loaded, last, s.record.Refused)
}

// pace is how soon a change is put back: a lone one at once; where they come one after the other, as when another
// program undoes each repair, ever more slowly.
type pace struct {
	last  time.Time
	delay time.Duration
}

const (
	paceMin   = 10 * time.Millisecond
	paceMax   = 500 * time.Millisecond
	paceReset = 2 * time.Second
)

func (p *pace) next(now time.Time) time.Duration {
	if now.Sub(p.last) >= paceReset {
		p.delay = 0
	} else {
		p.delay = min(max(2*p.delay, paceMin), paceMax)
	}
	p.last = now.Add(p.delay)
	return p.delay
}
