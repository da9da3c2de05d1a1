// Program alloc-setup reads alloc.json (what subnet-lease decided) and writes link.json, which names the node's interface and its
// MTU to the others. The backend alloc is a lease and nothing more: how pods' packets reach the other nodes is somebody else's
// matter, a cloud's routing table or a routing daemon. It exists so that the node has its lease, its masquerading and its CNI
// configuration as with every other backend.
package main

import (
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "alloc-setup",
	Summary: "name the interface that leads to the other nodes by somebody else's routes",
	Open:    func(env *tool.Env) (tool.Step, error) { return setup.OpenUplink(env.RunDir, "alloc", nil) },
}
