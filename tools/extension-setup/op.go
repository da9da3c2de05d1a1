package main

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// peerOp makes one peer's commands run: what takes back what was run for it, then what is wanted. Those of all
// peers can run at once.
type peerOp struct {
	*step
	node   string
	have   *state.ExtensionPeer // nil: nothing was run
	want   *state.ExtensionPeer // nil: nothing is to be
	forget bool                 // have is forgotten even if it cannot be taken back
}

// peerOp is nil where nothing is to be done.
func (s *step) peerOp(node string, have, want *state.ExtensionPeer) *peerOp {
	if have == nil && want == nil || have != nil && want != nil && reflect.DeepEqual(*have, *want) {
		return nil
	}
	return &peerOp{step: s, node: node, have: have, want: want}
}

// rewrites says that the same was run already and only what takes it back is another.
func (o *peerOp) rewrites() bool {
	if o.have == nil || o.want == nil {
		return false
	}
	same := *o.have
	same.Remove = o.want.Remove
	return reflect.DeepEqual(same, *o.want)
}

func (o *peerOp) commands() (remove, add command) {
	if o.have != nil && !o.rewrites() {
		remove = command{key: keyRemove, text: o.have.Remove, env: o.have.Env, data: o.have.Data, node: o.node}
	}
	if o.want != nil && !o.rewrites() {
		add = command{key: keyAdd, text: o.want.Add, env: o.want.Env, data: o.want.Data, node: o.node}
	}
	return remove, add
}

// String is the commands, one a line.
func (o *peerOp) String() string {
	var all []string
	remove, add := o.commands()
	for _, c := range []command{remove, add} {
		if c.text != "" {
			all = append(all, c.String())
		}
	}
	switch path := o.run.ExtensionPeer(o.node); {
	case len(all) > 0:
	case o.want == nil:
		all = []string{"remove " + path}
	default:
		all = []string{"write " + path}
	}
	return strings.Join(all, "\n")
}

// Do is plan.Op. What begins is on record before it does, so that the next run takes back what was killed half-way.
func (o *peerOp) Do(ctx context.Context) error {
	path := o.run.ExtensionPeer(o.node)
	remove, add := o.commands()
	if remove.text != "" {
		if err := o.takeBack(ctx, path, remove); err != nil {
			return err
		}
	}
	if o.want == nil {
		_, err := state.Remove(path)
		return err
	}
	if add.text != "" {
		if err := record(path, *o.want, false); err != nil {
			return err
		}
		if _, err := o.runner.run(ctx, add, false); err != nil {
			return err
		}
	}
	return record(path, *o.want, true)
}

// takeBack runs SubnetRemoveCommand. Where the peer is to be led to another way after that, or is given up, its failure is
// told and no more; where only a part was run, it is expected.
func (o *peerOp) takeBack(ctx context.Context, path string, remove command) error {
	half := !o.have.Done
	if err := record(path, *o.have, false); err != nil {
		return err
	}
	_, err := o.runner.run(ctx, remove, half)
	switch {
	case err == nil || half:
		return nil
	case o.want == nil && !o.forget:
		return errors.Join(err, record(path, *o.have, true))
	}
	o.env.Log.Error("cannot take back, going on without", "node", o.node, "err", err)
	return nil
}

func record(path string, r state.ExtensionPeer, done bool) error {
	r.Done = done
	_, err := state.Save(path, r)
	return err
}

// Joins is plan.Many.
func (o *peerOp) Joins(next plan.Op) bool {
	_, ok := next.(*peerOp)
	return ok
}

// DoMany is plan.Many.
func (o *peerOp) DoMany(ctx context.Context, ops []plan.Op) []error {
	errs := make([]error, len(ops))
	slots := make(chan struct{}, o.jobs)
	var wait sync.WaitGroup
	for i := range ops {
		slots <- struct{}{}
		wait.Go(func() {
			errs[i] = ops[i].Do(ctx)
			<-slots
		})
	}
	wait.Wait()
	return errs
}
