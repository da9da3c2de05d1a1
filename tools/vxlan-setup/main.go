// Program vxlan-setup reads vxlan.json (what subnet-lease decided) and makes the VXLAN device
// between the nodes as it asks: flannel.VNI for IPv4, flannel-v6.VNI for IPv6, compatible with
// flannel's in name, port, flags and address. It writes link.json, which says to the others which
// device it is, what MTU pods must have and what to publish. It exists as a program of its own so
// that the device can be looked at, made, repaired and removed by itself, whatever the rest does.
package main

import (
	"context"
	"sync"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "vxlan-setup",
	Summary: "make the VXLAN device between the nodes",
	Flags: []tool.Flag{
		{Name: "take-over", Usage: "replace a device that has the name, does not fit and is not towpath's", Default: false},
	},
	Open: func(env *tool.Env) (tool.Step, error) {
		conn, err := nl.Open()
		if err != nil {
			return nil, err
		}
		return &step{run: env.RunDir, conn: conn, takeOver: env.Bool("take-over")}, nil
	},
}

type step struct {
	run      state.Dir
	conn     *nl.Conn
	takeOver bool

	mu      sync.Mutex
	watched watched
}

func (s *step) Close() error { return s.conn.Close() }

// Plan is tool.Step.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	input, err := state.Load[state.BackendInput](s.run.Backend(backend))
	if err != nil {
		return nil, inputError(err)
	}
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	want, link, err := decide(s.run.Backend(backend), input, have, s.takeOver)
	s.remember(input, want, have)
	if err != nil {
		return nil, err
	}
	ops := Diff(s.conn, want, have)
	return s.publish(ops, want, link)
}
