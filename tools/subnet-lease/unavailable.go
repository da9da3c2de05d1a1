package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// The condition NetworkUnavailable of a Node whose network stands, in flannel's words.
const (
	upReason  = "FlannelIsUp"
	upMessage = "Flannel is running on this node"
	// downReason is ours: flannel never takes its word back.
	downReason = "TowpathRoutesMissing"
)

// downGrace is how long routes may be missing before watch says so: a back end that is changed, or a device that is
// repaired, is no reason to keep pods away.
const downGrace = 10 * time.Second

// standing says why there are no routes to the other nodes; empty: they stand. up says whether a device is there and up.
func standing(backend string, link *state.Link, routes *state.Routes, up func(dev string) bool) (why string) {
	switch {
	case link == nil:
		return "there is no link between the nodes: link.json is missing"
	case link.Publish.Type != backend:
		return fmt.Sprintf("link.json is of the back end %s, net-conf.json asks for %s", link.Publish.Type, backend)
	case routes == nil:
		return "there are no routes to the other nodes: routes.json is missing"
	}
	for _, f := range state.Families {
		if dev := link.Device.Of(f).Name; dev != "" && !up(dev) {
			return fmt.Sprintf("the device %s is missing or down", dev)
		}
	}
	if routes.Peers == 0 && len(routes.LeftOut) > 0 {
		return "there are no routes to the other nodes: routes.json says why each is left out"
	}
	return ""
}

// deviceUp asks the kernel.
func deviceUp(dev string) bool {
	i, err := net.InterfaceByName(dev)
	return err == nil && i.Flags&net.FlagUp != 0
}

// conditionOp is the operation that makes the Node's condition say what is so; nil: it does.
func (s *step) conditionOp(now time.Time) plan.Op {
	if s.kube == nil || !s.setUnavailable || s.lastConf == nil {
		return nil
	}
	own, err := s.kube.Own()
	if err != nil {
		return nil
	}
	var routes *state.Routes
	r, err := state.Load[state.Routes](s.env.RunDir.Routes())
	switch {
	case err == nil:
		routes = &r
	case !errors.Is(err, fs.ErrNotExist):
		s.tell("routes-failed", err.Error(), func() { s.env.Log.Error("cannot read what route-sync says", "err", err) })
		return nil // neither yes nor no
	}
	s.tell("routes-failed", "", nil)
	why := standing(s.lastConf.Backend.Type, s.lastLink, routes, deviceUp)
	if why == "" {
		s.downSince = time.Time{}
		if own.Unavailable == "False" {
			return nil
		}
		return s.setCondition("False", upReason, upMessage)
	}
	if s.downSince.IsZero() {
		s.downSince = now
	}
	// apply does not see what lasts: the next program's apply may be about to make the routes.
	if own.Unavailable == "True" || !s.following || now.Sub(s.downSince) < downGrace {
		return nil
	}
	return s.setCondition("True", downReason, why)
}

// settleCondition makes the condition say what is so, and looks at nothing else.
func (s *step) settleCondition(ctx context.Context, reason string) error {
	op := s.conditionOp(time.Now())
	if op == nil {
		return nil
	}
	return plan.Do(ctx, []plan.Op{op}, s.done(reason))
}

func (s *step) setCondition(status, reason, message string) plan.Op {
	return plan.Func{
		Text: fmt.Sprintf("set NetworkUnavailable=%s of %s: %s", status, s.node, message),
		Run: func(ctx context.Context) error {
			_, err := s.kube.write(func() (kube.Node, error) {
				return kube.SetNetworkUnavailable(ctx, s.kube.client, s.kube.prefix, s.node, status == "True", reason, message)
			})
			return err
		},
	}
}

// conditionDue is when the routes will have been missing for long enough to say so; zero: never.
func (s *step) conditionDue() time.Time {
	if s.kube == nil || s.downSince.IsZero() {
		return time.Time{}
	}
	return s.downSince.Add(downGrace)
}
