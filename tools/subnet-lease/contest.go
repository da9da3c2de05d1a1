package main

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// quiet is how long nobody may rewrite our record before we think ourselves alone again. It is longer
// than the longest delay between two rewrites.
const quiet = time.Minute

// contest is the quarrel with another machine that has our node name: each finds the other's values in
// the one record and puts back its own. Nothing can mend it here, so each rewrite waits longer than the
// one before.
type contest struct {
	last  time.Time // when the other's values were last found; zero: never, or it is over
	until time.Time // no rewrite before
	delay tool.Backoff
	other string // what the other publishes
}

// foreign says that somebody else rewrote the record after it was as we wanted. A record that was given
// back, or taken out of the others' peers, is no rewrite.
func foreign(wrote, have *Record) bool {
	return wrote != nil && have != nil && have.Announced() &&
		(have.PublicIP != wrote.PublicIP || !samePublished(have.Backend, wrote.Backend))
}

// seen notes that the other's values were found in the record.
func (c *contest) seen(now time.Time, have *Record) {
	if c.over(now) {
		*c = contest{}
	}
	c.last, c.other = now, pairText(have.PublicIP)
}

// rewritten notes that we put our own values back.
func (c *contest) rewritten(now time.Time) {
	if !c.over(now) {
		c.until = now.Add(c.delay.Next())
	}
}

func (c *contest) over(now time.Time) bool { return c.last.IsZero() || now.Sub(c.last) > quiet }

func (c *contest) waits(now time.Time) bool { return now.Before(c.until) }

// contested is called with what is to be done to the store, and says whether it has to wait.
func (p *pass) contested(now time.Time, verb string) (wait bool) {
	switch {
	case verb == "" || verb == "renew":
		wrote := p.record
		p.wrote = &wrote
	case foreign(p.wrote, p.have):
		p.contest.seen(now, p.have)
		wait = p.contest.waits(now)
	}
	if p.contest.over(now) {
		p.tell("contest", "", nil)
		return wait
	}
	p.tell("contest", "contested", func() {
		p.env.Log.Error("somebody else rewrites this node's record in the store", "node", p.node, "published", p.contest.other,
			"own", pairText(p.record.PublicIP), "hint", p.sameName())
	})
	return wait
}

func (s *step) sameName() string {
	switch {
	case s.etcd != nil:
		return fmt.Sprintf("another machine publishes the address %s too, or flanneld runs on this one: set --public-ip, or stop it", pairText(s.own.PublicIP))
	case s.kube != nil:
		return fmt.Sprintf("another machine uses the node name %q, or flanneld runs on this one: set --node, or stop it", s.node)
	}
	return fmt.Sprintf("another machine uses the node name %q: set --node", s.node)
}

// tellAway logs that the server does not answer, and that it does again.
func (s *step) tellAway() {
	if s.served == nil {
		return
	}
	since, why := s.served.Away()
	switch {
	case why == nil && s.told["away"] != "":
		s.tell("away", "", nil)
		s.env.Log.Info("the store answers again", "store", s.store.URL())
	case why != nil:
		s.tell("away", since.String(), func() {
			s.env.Log.Warn("the store does not answer: the last good files stay", "store", s.store.URL(), "err", why, "hint", hintText(why))
		})
	}
}

// status is the line for the supervisor.
func (s *step) status(now time.Time) string {
	if s.served != nil {
		if since, why := s.served.Away(); why != nil {
			return state.Failing + fmt.Sprintf("keeping what was known at %s: %v", since.Format(time.TimeOnly), why)
		}
	}
	switch {
	case !s.contest.over(now):
		return state.Failing + fmt.Sprintf("%s; it publishes %s", s.sameName(), s.contest.other)
	case s.told["net-conf-failed"] != "":
		return state.Failing + "keeping the last good configuration: " + s.told["net-conf-failed"]
	case s.told["link-failed"] != "":
		return state.Failing + "keeping the last good link: " + s.told["link-failed"]
	}
	return fmt.Sprintf("%s, %d other nodes", pairText(s.own.Subnet), len(s.peers.entries))
}
