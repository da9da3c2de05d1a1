// Program udp-tunnel reads udp.json (what subnet-lease decided) and makes the TUN device flannel0 between
// the nodes, compatible with flannel's back end udp: a pod's packet is the content of a UDP packet to
// the node whose subnet it goes to. watch carries the packets too, to the nodes of peers/. It writes
// link.json, which says to the others which device it is and what MTU pods must have. It exists for
// networks where nothing but plain UDP gets through, and for nodes whose kernel has no other tunnel.
package main

import (
	"sync"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "udp-tunnel",
	Summary: "carry the packets between the nodes over plain UDP",
	Flags: []tool.Flag{
		{Name: "take-over", Usage: "replace a device that has the name and is not towpath's", Default: false},
	},
	Open: func(env *tool.Env) (tool.Step, error) {
		conn, err := nl.Open()
		if err != nil {
			return nil, err
		}
		return &step{env: env, run: env.RunDir, conn: conn, takeOver: env.Bool("take-over")}, nil
	},
}

type step struct {
	env      *tool.Env
	run      state.Dir
	conn     *nl.Conn
	takeOver bool
	tunnel   *tunnel // of watch; nil: packets are not ours to carry

	mu      sync.Mutex
	watched watched
}

func (s *step) Close() error { return s.conn.Close() }
