package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// Plan compares the inputs with the store and the files. The record that the store gives in the end
// may differ from the one planned, since another node can come first; so the files are made from it
// when it is there.
func (s *step) Plan(ctx context.Context) ([]plan.Op, error) {
	o, err := s.observe(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkStore(o.all); err != nil {
		return nil, err
	}
	q := s.request(o)
	now := time.Now()
	record, notices, err := q.Pick(now, o.all)
	if err != nil {
		return nil, err
	}
	for _, n := range notices {
		s.env.Log.Warn("new subnet", "notice", n)
	}
	p := &pass{step: s, observed: o, request: q, record: record, have: o.all.Entries[s.node].Record}
	ops, err := p.ownOps(now)
	if err != nil {
		return nil, err
	}
	s.own = record
	s.peers = newPeerSet(record, o.choice.Interface.IP, o.conf, o.all)
	peerOps, err := s.allPeers(ctx, now)
	return append(ops, peerOps...), err
}

// request turns the inputs into what is asked of the store.
func (s *step) request(o observed) Request {
	q := Request{Node: s.node, Conf: o.conf, Path: s.netConf, Uplink: o.uplink, PublicIP: o.choice.PublicIP, TTL: s.ttl, Margin: s.margin}
	if o.link != nil && o.link.Publish.Type == o.conf.Backend.Type {
		q.Backend = o.link.Publish
	}
	if o.lease != nil {
		q.Before = o.lease.Subnet
	}
	for node, e := range o.all.Entries {
		if e.Err == nil || node == s.node {
			continue
		}
		if p, err := state.Load[state.Peer](s.env.RunDir.Peer(node)); err == nil {
			each(Entry{Record: &Record{Subnet: p.Subnet}}, func(subnet netip.Prefix) { q.Known = append(q.Known, subnet) })
		}
	}
	return q
}

// pass is one pass over this node's own record and files.
type pass struct {
	*step
	observed
	request Request
	have    *Record // nil: none
	record  Record  // planned; once the store gave it, as the store has it
}

// ownOps are the changes of the node's own record and of the files about it.
func (p *pass) ownOps(now time.Time) ([]plan.Op, error) {
	var ops []plan.Op
	verb := change(p.have, p.record)
	if !p.contested(now, verb) && verb != "" {
		ops = append(ops, &storeOp{pass: p, verb: verb})
	}
	for _, path := range p.leftovers() {
		ops = append(ops, state.RemoveOp(path))
	}
	// The old back end's input goes before the new one comes, so that two never stand beside each other.
	for _, backend := range setupTools() {
		if backend != p.conf.Backend.Type {
			ops = appendOp(ops, state.RemoveOp(p.env.RunDir.Backend(backend)))
		}
	}
	for _, file := range []struct {
		path string
		make func(Record) any
	}{
		{p.env.RunDir.Lease(), func(r Record) any { return p.lease(r) }},
		{p.env.RunDir.Backend(p.conf.Backend.Type), func(r Record) any { return p.input(r) }},
	} {
		op, err := state.WriteOp(file.path, file.make(p.record))
		if err != nil {
			return nil, err
		}
		if op != nil {
			ops = append(ops, plan.Func{Text: op.String(), Run: func(context.Context) error {
				_, err := state.Save(file.path, file.make(p.record))
				return err
			}})
		}
	}
	return ops, nil
}

func appendOp(ops []plan.Op, op plan.Op) []plan.Op {
	if op == nil {
		return ops
	}
	return append(ops, op)
}

// lease is lease.json. It has no expiry, so that a renewal changes nothing.
func (p *pass) lease(r Record) state.Lease {
	backend := p.conf.Backend
	backend.Raw = nil // may hold secrets, and the file is for everyone
	return state.Lease{
		Version: state.Version, Node: p.node, Network: p.conf.Network, Subnet: r.Subnet, PublicIP: r.PublicIP,
		Interface: p.choice.Interface, Backend: backend, IPMasq: p.ipMasq,
	}
}

// input is the input of the back end's setup tool.
func (p *pass) input(r Record) state.BackendInput {
	in := state.BackendInput{
		Version: state.Version, Node: p.node, Backend: p.conf.Backend, Subnet: r.Subnet, PublicIP: r.PublicIP,
		Interface: p.choice.Interface,
	}
	if r.Backend.Type == in.Backend.Type && len(r.Backend.Data)+len(r.Backend.DataV6) > 0 {
		in.Previous = r.Backend
	}
	return in
}

// storeOp changes the node's record.
type storeOp struct {
	*pass
	verb string // acquire, publish, renew
}

func (o *storeOp) String() string {
	switch r := o.record; o.verb {
	case "publish":
		text := fmt.Sprintf("publish %s %s", pairText(r.PublicIP), r.Backend.Type)
		for _, data := range []string{string(r.Backend.Data), string(r.Backend.DataV6)} {
			if data != "" {
				text += " " + data
			}
		}
		return text + " of " + r.Node
	case "renew":
		return fmt.Sprintf("renew %s of %s", pairText(r.Subnet), r.Node)
	default:
		return fmt.Sprintf("acquire %s for %s", pairText(r.Subnet), r.Node)
	}
}

func (o *storeOp) Do(ctx context.Context) error {
	var r Record
	var err error
	switch o.verb {
	case "publish":
		r, err = o.store.Publish(ctx, o.node, o.record.PublicIP, o.record.Backend)
	case "renew":
		r, err = o.store.Renew(ctx, o.node, o.record.Expires)
	default:
		r, err = o.store.Acquire(ctx, o.node, func(all Listing) (Record, error) {
			r, _, err := o.request.Pick(time.Now(), all)
			return r, err
		})
	}
	if err != nil {
		return err
	}
	o.record = r
	o.wrote = &r
	o.contest.rewritten(time.Now())
	o.all.Entries[o.node] = Entry{Record: &r}
	o.listing.Unused = false
	return nil
}

// Down removes the files. The lease stays with the store: the node keeps its subnet for when it comes
// back, and release gives it up.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	dir := s.env.RunDir
	// First the mark, so that nobody takes the shrinking directory for a whole one.
	ops := appendOp(nil, state.RemoveOp(dir.PeersSynced()))
	names, err := peerFiles(dir.Peers())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		ops = appendOp(ops, state.RemoveOp(dir.Peers()+"/"+name))
	}
	ops = appendOp(ops, removeDirOp(dir.Peers(), len(names)))
	for _, backend := range setupTools() {
		ops = appendOp(ops, state.RemoveOp(dir.Backend(backend)))
	}
	ops = appendOp(ops, state.RemoveOp(dir.Lease()))
	for _, path := range s.leftovers() {
		ops = append(ops, state.RemoveOp(path))
	}
	return ops, nil
}
