package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// records is what extension/ remembers of this boot and namespace.
type records struct {
	startup *state.ExtensionStartup
	peers   map[string]*state.ExtensionPeer
	stale   []string // files that mean nothing here
}

// readRecords reads what was run. A record that cannot be read was this program's own: what it tells of counts as begun.
func (s *step) readRecords() (records, error) {
	r := records{peers: map[string]*state.ExtensionPeer{}}
	startup, err := state.Load[state.ExtensionStartup](s.run.ExtensionStartup())
	if err == nil && s.here(startup) {
		r.startup = &startup
	}
	entries, err := os.ReadDir(s.run.Extension())
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read %q: %w", s.run.Extension(), err)
	}
	for _, e := range entries {
		node, ok := state.NodeOfPeer(e.Name())
		switch path := s.run.ExtensionPeer(node); {
		case !ok:
		case r.startup == nil:
			r.stale = append(r.stale, path)
		default:
			p, err := state.Load[state.ExtensionPeer](path)
			if err != nil {
				s.env.Log.Warn("cannot use a record of what was run", "err", err)
				p = state.ExtensionPeer{Version: state.Version}
			}
			r.peers[node] = &p
		}
	}
	return r, nil
}

// teardown lists what takes back all that was run, and forgets it.
func (s *step) teardown(r records) []plan.Op {
	var ops []plan.Op
	for _, path := range r.stale {
		ops = append(ops, state.RemoveOp(path))
	}
	for _, node := range slices.Sorted(maps.Keys(r.peers)) {
		op := s.peerOp(node, r.peers[node], nil)
		op.forget = true
		ops = append(ops, op)
	}
	path := s.run.ExtensionStartup()
	if r.startup == nil {
		if op := state.RemoveOp(path); op != nil {
			ops = append(ops, op)
		}
		return ops
	}
	c := command{key: keyShutdown, text: r.startup.Shutdown, env: r.startup.Env}
	op := plan.Func{Text: "remove " + path, Run: func(ctx context.Context) error {
		if _, err := s.runner.run(ctx, c, !r.startup.Done); err != nil && r.startup.Done {
			s.env.Log.Error("cannot shut down, going on without", "err", err)
		}
		_, err := state.Remove(path)
		return err
	}}
	if c.text != "" {
		op.Text = c.String()
	}
	return append(ops, op)
}

// begin lists the start-up commands and the write of link.json.
func (s *step) begin(h head) []plan.Op {
	r := s.startup(h)
	save := func() error {
		_, err := state.Save(s.run.ExtensionStartup(), r)
		return err
	}
	var ops []plan.Op
	add := func(c command, done func(printed string)) {
		if c.text == "" {
			return
		}
		ops = append(ops, plan.Func{Text: c.String(), Run: func(ctx context.Context) error {
			if err := save(); err != nil { // begun
				return err
			}
			printed, err := s.runner.run(ctx, c, false)
			if err == nil {
				done(printed)
			}
			return err
		}})
	}
	add(command{key: keyPre, text: h.commands[keyPre]}, func(printed string) { r.Data = printed })
	add(command{key: keyPost, text: h.commands[keyPost], env: h.env}, func(string) {})
	ops = append(ops, plan.Func{Text: "write " + s.run.ExtensionStartup(), Run: func(context.Context) error {
		r.Done = true
		return save()
	}})
	return append(ops, plan.Func{Text: "write " + s.run.Link(), Run: func(context.Context) error {
		link, err := h.linkWith(r)
		if err == nil {
			_, err = state.Save(s.run.Link(), link)
		}
		return err
	}})
}

// ownOps lists what this node itself needs. Where that begins anew nothing of what was run for peers is left.
func (s *step) ownOps(h head, r *records) ([]plan.Op, error) {
	want := s.startup(h)
	if r.startup == nil || !stands(*r.startup, want) {
		ops := append(s.teardown(*r), s.begin(h)...)
		r.peers = map[string]*state.ExtensionPeer{}
		return ops, nil
	}
	var ops []plan.Op
	want.Done, want.Data = true, r.startup.Data
	op, err := state.WriteOp(s.run.ExtensionStartup(), want) // another ShutdownCommand
	if err != nil {
		return nil, err
	}
	if op != nil {
		ops = append(ops, op)
	}
	link, err := h.linkWith(want)
	if err != nil {
		return nil, err
	}
	if op, err = state.WriteOp(s.run.Link(), link); err == nil && op != nil {
		ops = append(ops, op)
	}
	return ops, err
}

// Plan is tool.Step: one pass over everything. A peer whose file is broken stops no other.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	h, err := s.readHead()
	if err != nil {
		return nil, err
	}
	r, err := s.readRecords()
	if err != nil {
		return nil, err
	}
	ops, err := s.ownOps(h, &r)
	if err != nil {
		return nil, err
	}
	p := newPeers(s.run)
	if err := p.readAll(); err != nil {
		return nil, err
	}
	for _, node := range p.nodes(r) {
		if op := s.peerOp(node, r.peers[node], p.want(h, node, r.peers[node])); op != nil {
			ops = append(ops, op)
		}
	}
	if errs := p.errors(); len(errs) > 0 {
		return ops, &plan.Partial{Err: errors.Join(errs...)}
	}
	return ops, nil
}

// Down is tool.Step: it goes by what was run, whatever its inputs say now.
func (s *step) Down(ctx context.Context) ([]plan.Op, error) {
	r, err := s.readRecords()
	if err != nil {
		return nil, err
	}
	link, err := s.uplink.Down(ctx)
	return append(s.teardown(r), link...), err
}
