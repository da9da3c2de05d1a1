package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
)

// Limits of Events: the same one is not made again within warnAgain, and a process makes no more than warnMost in that time.
const (
	warnAgain = time.Hour
	warnMost  = 20
	warnWait  = 5 * time.Second
)

// warnings are the Events about this node. They are told once, and only of what lasts.
type warnings struct {
	first map[string]time.Time // when a text came up
	made  map[string]time.Time // when its Event was made
}

// due says whether an Event is to be made of a text that came up or still holds.
func (w *warnings) due(text string, now time.Time, grace time.Duration) bool {
	if w.first == nil {
		w.first, w.made = map[string]time.Time{}, map[string]time.Time{}
	}
	for old, at := range w.made {
		if now.Sub(at) >= warnAgain {
			delete(w.made, old)
		}
	}
	if _, ok := w.first[text]; !ok {
		if len(w.first) > 10*warnMost { // whatever changes so often is not worth remembering
			w.first = map[string]time.Time{}
		}
		w.first[text] = now
	}
	if _, ok := w.made[text]; ok || len(w.made) >= warnMost || now.Sub(w.first[text]) < grace {
		return false
	}
	w.made[text] = now
	return true
}

// over forgets texts that hold no longer, all but those that keep.
func (w *warnings) over() { clear(w.first) }

// refusalGrace is how long watch waits before it makes an Event of a refusal: a new Node gets its podCIDR within seconds.
const refusalGrace = 5 * time.Second

// refused makes an Event of a refusal.
func (s *step) refused(ctx context.Context, err error) {
	var r *Refusal
	if !errors.As(err, &r) {
		s.warned.over()
		return
	}
	grace := refusalGrace
	if !s.following {
		grace = 0
	}
	s.warn(ctx, r.Reason, r.Error(), grace)
}

// compare looks for what only one node may say of itself, and another says of itself as well: behind one NAT all have its address, and
// an image of a machine that was running carries its MAC address along.
func (s *step) compare(node string) {
	r := s.peers.entries[node].Record
	if s.kube == nil || r == nil || !r.Announced() {
		return
	}
	text := ""
	for _, f := range state.Families {
		own, is := s.own.Backend.Data, r.Backend.Data
		if f == state.IPv6 {
			own, is = s.own.Backend.DataV6, r.Backend.DataV6
		}
		switch a := s.own.PublicIP.Of(f); {
		case a.IsValid() && a == r.PublicIP.Of(f):
			text = fmt.Sprintf("DuplicatePublicIP: node %s publishes the address %s, which is this node's; neither can reach the other", node, a)
		case len(is) > 0 && bytes.Equal(own, is) && r.Backend.Type == s.own.Backend.Type:
			text = fmt.Sprintf("DuplicateTunnelEnd: node %s publishes the same end of the tunnel as this node: %s", node, is)
		}
	}
	s.tell("twin "+node, text, func() {
		s.env.Log.Warn("another node has what is this node's alone", "node", node, "because", text)
		s.twins = append(s.twins, text)
	})
}

// warnOfTwins makes the Events that compare found.
func (s *step) warnOfTwins(ctx context.Context) {
	for _, text := range s.twins {
		reason, message, _ := strings.Cut(text, ": ")
		s.warn(ctx, reason, message, 0)
	}
	s.twins = nil
}

// warn makes an Event about this node, if nothing speaks against it. It is of no consequence if that fails.
func (s *step) warn(ctx context.Context, reason, message string, grace time.Duration) {
	verb := s.env.Verb()
	if s.kube == nil || verb != "apply" && verb != "watch" || !s.warned.due(reason+": "+message, time.Now(), grace) {
		return
	}
	if _, away := s.served.Away(); away != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, warnWait)
	defer cancel()
	if err := kube.WarnOfNode(ctx, s.kube.client, "subnet-lease", s.node, reason, message); err != nil {
		s.env.Log.Warn("cannot make an event", "err", err, "reason", reason)
	}
}
