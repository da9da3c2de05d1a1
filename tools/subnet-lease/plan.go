package main

import (
	"context"
	"errors"
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
	ops, err := s.plan(ctx)
	if s.kube == nil {
		return ops, err
	}
	s.refused(ctx, err)
	s.warnOfTwins(ctx)
	op := s.conditionOp(time.Now())
	if err == nil {
		return appendOp(ops, op), nil
	}
	// What fails here stops neither what the cluster is told nor what the others tell.
	ops, peersErr := s.othersOps(ctx)
	if ops = appendOp(ops, op); len(ops) > 0 {
		return ops, &plan.Partial{Err: err}
	}
	return nil, errors.Join(err, peersErr)
}

// othersOps follow the other nodes where this node's own lease cannot be had: the last good one stays.
func (s *step) othersOps(ctx context.Context) ([]plan.Op, error) {
	if s.peers == nil || s.listing == nil {
		return nil, nil
	}
	s.peers = newPeerSet(s.own, s.peers.uplink, s.peers.conf, *s.listing)
	return s.allPeers(ctx, time.Now())
}

func (s *step) plan(ctx context.Context) ([]plan.Op, error) {
	o, err := s.observe(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkStore(o.all); err != nil {
		return nil, err
	}
	q := s.request(o)
	now := time.Now()
	have, record, err := s.pick(now, q, o.all)
	if err != nil {
		return nil, err
	}
	p := &pass{step: s, observed: o, request: q, record: record, have: have}
	ops, err := p.ownOps(now)
	if err != nil {
		return nil, err
	}
	s.own = record
	s.peers = newPeerSet(record, o.choice.Interface.IP, o.conf, o.all)
	peerOps, err := s.allPeers(ctx, now)
	return append(ops, peerOps...), err
}

// pick decides on this node's record. have is the one that the store has, nil: none.
func (s *step) pick(now time.Time, q Request, all Listing) (have *Record, want Record, err error) {
	if s.kube != nil {
		own, err := s.kube.Own()
		if err != nil {
			return nil, want, err
		}
		is, want, err := q.Adopt(own)
		return &is, want, err
	}
	want, notices, err := q.Pick(now, all)
	if err == nil {
		for _, n := range notices {
			s.env.Log.Warn("new subnet", "notice", n)
		}
	}
	return all.Entries[s.node].Record, want, err
}

// request turns the inputs into what is asked of the store.
func (s *step) request(o observed) Request {
	q := Request{Node: s.node, Conf: o.conf, Path: s.confName(), Uplink: o.uplink, PublicIP: o.choice.PublicIP, TTL: s.ttl, Margin: s.margin}
	if o.link != nil && o.link.Publish.Type == o.conf.Backend.Type {
		q.Backend = o.link.Publish
		if s.etcd != nil {
			q.Backend.Data, q.Backend.DataV6 = inFlannelsOrder(q.Backend.Data), inFlannelsOrder(q.Backend.DataV6)
		}
	}
	if o.lease != nil {
		q.Before = o.lease.Subnet
	}
	if s.kube != nil { // nothing is given out
		return q
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
	ops = appendOp(ops, p.cniConfOp())
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
			ops = append(ops, plan.Func{Text: op.String(), File: file.path, Run: func(context.Context) error {
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
		Version: state.Version, Node: p.node, Network: p.conf.Network, Subnet: r.Subnet, PublicIP: p.choice.PublicIP,
		Interface: p.choice.Interface, Backend: backend, IPMasq: p.ipMasq,
	}
}

// input is the input of the back end's setup tool.
func (p *pass) input(r Record) state.BackendInput {
	in := state.BackendInput{
		Version: state.Version, Node: p.node, Backend: p.conf.Backend, Subnet: r.Subnet, PublicIP: p.choice.PublicIP,
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
	if o.kube != nil {
		r = restrict(r, o.conf)
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
	if s.confMap != nil {
		ops = appendOp(ops, state.RemoveOp(dir.CNIConf()))
	}
	ops = appendOp(ops, state.RemoveOp(dir.Lease()))
	for _, path := range s.leftovers() {
		ops = append(ops, state.RemoveOp(path))
	}
	return ops, nil
}
