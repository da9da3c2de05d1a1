package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

func (s *step) newEngine() *engine {
	last, _ := state.Load[state.Routes](s.env.RunDir.Routes()) // its own file: a broken one is written anew
	return &engine{
		files: files{run: s.env.RunDir}, takeOver: s.env.Bool("take-over"),
		failed: map[string]string{}, conflicts: map[string]string{}, retiring: last.Retiring,
	}
}

// Plan is tool.Step: one pass over everything. A peer whose file is broken stops no other.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	e := s.newEngine()
	if err := e.files.readHead(); err != nil {
		return nil, err
	}
	if _, err := e.files.readPeers(); err != nil {
		return nil, err
	}
	if err := e.observe(s.conn, s.socket); err != nil {
		return nil, err
	}
	var ops []plan.Op
	for _, c := range e.diff(nil) {
		ops = append(ops, op{change: c, engine: e, socket: s.socket})
	}
	errs := e.errors()
	why := e.suspended()
	if why != "" {
		errs = append(errs, exit.WithHint(exit.Errorf(exit.TryAgain, "%s", why), "the backend's setup program makes it"))
	} else if e.files.synced {
		due, err := e.retire(s.conn, time.Now())
		if err != nil {
			return nil, err
		}
		for _, name := range due {
			ops = append(ops, s.conn.LinkDel(name))
		}
		write, err := e.report()
		if err != nil {
			return nil, err
		}
		if write != nil {
			ops = append(ops, write)
		}
	} else if e.files.syncer == nil {
		errs = append(errs, exit.WithHint(exit.Errorf(exit.TryAgain, "read %q: no such file", e.files.run.PeersSynced()),
			"without it the list of peers may be half a list: nothing is removed, and routes.json is not written"))
	}
	if len(errs) > 0 {
		return ops, &plan.Partial{Err: join(errs)}
	}
	return ops, nil
}

func join(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// report is the write of routes.json, nil when it says so already. What is written is what was
// reached, not what was planned. The count of repairs is watch's.
func (e *engine) report() (plan.Op, error) {
	path := e.files.run.Routes()
	last, _ := state.Load[state.Routes](path) // its own file: a broken one is written anew
	say := func() state.Routes {
		r := e.routes()
		r.Repaired, r.LastRepair = last.Repaired, last.LastRepair
		return r
	}
	write, err := state.WriteOp(path, say())
	if err != nil || write == nil {
		return nil, err
	}
	return plan.Func{Text: write.String(), File: path, Run: func(context.Context) error {
		_, err := state.Save(path, say())
		return err
	}}, nil
}

// op is a change as an operation of a plan: all of a plan go to the kernel together.
type op struct {
	change
	engine *engine // nil for what only removes
	socket *nl.Socket
}

func (o op) Do(ctx context.Context) error { return o.DoMany(ctx, []plan.Op{o})[0] }

// Joins is plan.Many.
func (o op) Joins(next plan.Op) bool {
	_, ok := next.(op)
	return ok
}

// DoMany is plan.Many.
func (o op) DoMany(_ context.Context, ops []plan.Op) []error {
	changes := make([]nl.Change, len(ops))
	for i := range ops {
		changes[i] = ops[i].(op).Change
	}
	errs := o.socket.Apply(changes, nil)
	for i, err := range errs {
		if err != nil && o.engine != nil {
			o.engine.failed[ops[i].(op).node] = fmt.Sprintf("%s: %v", changes[i], err)
		}
	}
	return errs
}

// remove lists everything that this program made, whatever its inputs say; what is handed back stays, in flannel's form.
func (s *step) remove() ([]plan.Op, error) {
	e := s.newEngine()
	if err := e.look(s.conn); err != nil {
		return nil, err
	}
	if err := e.list(s.socket); err != nil {
		return nil, err
	}
	changes := Diff(wanted{}, e.have, nil, rules{view: e.view, prune: true}).changes
	if s.env.Bool("hand-back") {
		changes = untag(e.have, e.view)
	}
	var ops []plan.Op
	for _, c := range changes {
		ops = append(ops, op{change: c, socket: s.socket})
	}
	if write := state.RemoveOp(s.env.RunDir.Routes()); write != nil {
		ops = append(ops, write)
	}
	return ops, nil
}
