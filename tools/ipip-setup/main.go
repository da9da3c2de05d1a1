// Program ipip-setup reads ipip.json (what subnet-lease decided), makes the IPIP device between the nodes, keeps it so, and
// writes link.json, which names it to the others. It exists because packets need somewhere to go before route-sync can
// say where. The device is flannel's in name and in what it sends, so that a node may change from flannel to towpath and
// back.
package main

import (
	"context"
	"sync"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "ipip-setup",
	Summary: "make the IPIP device between the nodes",
	Flags: []tool.Flag{
		{Name: "take-over", Usage: "replace a device that has the name, does not fit and is not towpath's; with down: delete flannel's too", Default: false},
		{Name: "hand-back", Usage: "with down: take the mark off the device and leave it, for flannel to go on with", Default: false},
	},
	Open: func(env *tool.Env) (tool.Step, error) {
		conn, err := nl.Open()
		if err != nil {
			return nil, err
		}
		return &step{run: env.RunDir, conn: conn, takeOver: env.Bool("take-over"), handBack: env.Bool("hand-back")}, nil
	},
}

type step struct {
	run      state.Dir
	conn     *nl.Conn
	takeOver bool
	handBack bool

	mu      sync.Mutex
	watched watched
}

func (s *step) Close() error { return s.conn.Close() }

// Plan is tool.Step.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	path := s.run.Backend(backend)
	in, err := setup.Input(s.run, backend)
	if err != nil {
		return nil, err
	}
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	s.remember(in, have)
	want, link, err := decide(path, in, have, s.takeOver)
	if err != nil {
		return nil, err
	}
	write, err := setup.Publish(s.run, link)
	return append(Diff(s.conn, &want, have), write...), err
}
