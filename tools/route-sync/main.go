// Program route-sync reads lease.json, link.json and peers/ and keeps the kernel's routes, permanent
// neighbours and FDB entries so that every other node's pods are reached: through the tunnel, or
// straight over the uplink where there is no tunnel or none is needed (kind.go says which backend has what). It writes routes.json, which
// says what is programmed. It exists because a route is put in once but has to stay: what somebody
// deletes is put back, and what belongs to nodes that left is removed, whenever they left.
//
// Routes are its own by their protocol number, 116; neighbours and FDB entries by their device, a
// VXLAN device with the alias "towpath".
package main

import (
	"context"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "route-sync",
	Summary: "routes, neighbours and FDB entries for the other nodes",
	Flags: []tool.Flag{
		{Name: "take-over", Usage: "also remove untagged routes into the pod network to nodes that are no more, as flannel leaves them, and replace those over a device of flannel's that is not ours", Default: false},
		{Name: "hand-back", Usage: "with down: take our mark off the routes and leave all as it is, for flannel to go on with", Default: false},
	},
	Open: func(env *tool.Env) (tool.Step, error) {
		conn, err := nl.Open()
		if err != nil {
			return nil, err
		}
		socket, err := nl.OpenSocket()
		if err != nil {
			conn.Close()
			return nil, err
		}
		return &step{env: env, conn: conn, socket: socket}, nil
	},
}

type step struct {
	env    *tool.Env
	conn   *nl.Conn
	socket *nl.Socket
}

func (s *step) Close() error {
	s.conn.Close()
	return s.socket.Close()
}

// Watch is tool.Watcher.
func (s *step) Watch(ctx context.Context, ready func()) error { return s.follow(ctx, ready) }

// Down is tool.Step.
func (s *step) Down(context.Context) ([]plan.Op, error) { return s.remove() }
