package main

import (
	"testing"
	"time"
)

func TestForeign(t *testing.T) {
	ours := record("a 10.244.0.0/24")
	for name, c := range map[string]struct {
		wrote, have *Record
		want        bool
	}{
		"first run":         {nil, record("b 10.244.0.0/24"), false},
		"given back":        {ours, nil, false},
		"as we wrote it":    {ours, record("a 10.244.0.0/24 1h"), false},
		"taken out":         {ours, record("a 10.244.0.0/24 unannounced"), false},
		"another's address": {ours, record("b 10.244.0.0/24"), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := foreign(c.wrote, c.have); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// TestContest: rewrites become rare, and a quiet minute ends the quarrel.
func TestContest(t *testing.T) {
	var c contest
	c.rewritten(now)
	if c.waits(now) || !c.over(now) {
		t.Fatal("a first write is a quarrel")
	}
	at, writes := now, 0
	for ; at.Before(now.Add(10 * time.Minute)); at = at.Add(10 * time.Millisecond) {
		c.seen(at, record("b 10.244.0.0/24"))
		if !c.waits(at) {
			writes++
			c.rewritten(at)
		}
	}
	if writes < 20 || writes > 60 {
		t.Errorf("%d rewrites in 10 minutes", writes)
	}
	if c.over(at) || !c.over(at.Add(quiet+time.Second)) {
		t.Error("the quarrel is over at once, or never")
	}
	at = at.Add(quiet + time.Second)
	if c.seen(at, record("b 10.244.0.0/24")); c.waits(at) {
		t.Error("a new quarrel starts with the old delay")
	}
}
