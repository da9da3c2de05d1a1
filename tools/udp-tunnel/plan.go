package main

import (
	"context"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
)

// kind is a TUN device's.
const kind = "tun"

// Diff lists what makes the kernel hold the device as it has to be. It trusts decide to have refused one that is not ours.
func Diff(conn *nl.Conn, w wanted, have setup.Kernel) []plan.Op {
	var ops []plan.Op
	is, ok := have.Links[deviceName]
	if ok && (is.Kind != kind || is.Alias != nl.Mark) {
		ops = append(ops, conn.LinkDel(deviceName))
		ok = false
	}
	if !ok {
		return append(ops, conn.AddTUN(deviceName), conn.LinkAlias(deviceName, nl.Mark), conn.LinkMTU(deviceName, w.MTU),
			conn.AddrAdd(deviceName, w.Address), conn.LinkUp(deviceName))
	}
	return append(ops, setup.Change(conn, is, w.MTU, w.Address, have.Addrs[is.Index])...)
}

// Plan is tool.Step.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	path := s.run.Backend(backend)
	in, err := setup.Input(s.run, backend)
	if err != nil {
		return nil, err
	}
	have, err := setup.Observe(s.conn)
	if err != nil {
		return nil, err
	}
	w, link, err := decide(path, in, have, s.takeOver)
	s.remember(in, have)
	if err != nil {
		return nil, err
	}
	ops := Diff(s.conn, w, have)
	if s.tunnel != nil {
		ops = append(ops, s.tunnel.plan(w, have.Links[deviceName].Index)...)
	}
	write, err := setup.Publish(s.run, link)
	return append(ops, write...), err
}

// Down is tool.Step: the device, where it has our mark, and link.json where it is of this back end.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	have, err := setup.Observe(s.conn)
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	if is, ok := have.Links[deviceName]; ok && is.Alias == nl.Mark {
		ops = append(ops, s.conn.LinkDel(deviceName))
	}
	return append(ops, setup.Withdraw(s.run, backend)...), nil
}
