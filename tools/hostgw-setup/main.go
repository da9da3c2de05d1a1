// Program hostgw-setup reads host-gw.json (what subnet-lease decided) and, when the node's interface
// is fit to route to its neighbours without a tunnel, writes link.json, which names that interface
// and its MTU to the others. It makes nothing in the kernel: it exists so that the host-gw backend
// has the same step, with the same file behind it, as the backends that have a device to make.
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
	Name:    "hostgw-setup",
	Summary: "check the interface that leads to the other nodes without a tunnel",
	Open: func(env *tool.Env) (tool.Step, error) {
		conn, err := nl.Open()
		if err != nil {
			return nil, err
		}
		return &step{run: env.RunDir, conn: conn}, nil
	},
}

type step struct {
	run  state.Dir
	conn *nl.Conn

	mu     sync.Mutex
	uplink string
	index  int
}

func (s *step) Close() error { return s.conn.Close() }

// Plan is tool.Step.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	link, err := s.decide()
	if err != nil {
		return nil, err
	}
	op, err := state.WriteOp(s.run.Link(), link)
	if err != nil || op == nil {
		return nil, err
	}
	return []plan.Op{op}, nil
}
