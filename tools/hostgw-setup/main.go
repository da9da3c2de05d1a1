// Program hostgw-setup reads host-gw.json (what subnet-lease decided) and, when the node's interface
// is fit to route to its neighbours without a tunnel, writes link.json, which names that interface
// and its MTU to the others. It makes nothing in the kernel: it exists so that the host-gw backend
// has the same step, with the same file behind it, as the backends that have a device to make.
package main

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

const backend = "host-gw"

var program = tool.Program{
	Name:    "hostgw-setup",
	Summary: "check the interface that leads to the other nodes without a tunnel",
	Open:    func(env *tool.Env) (tool.Step, error) { return setup.OpenUplink(env.RunDir, backend, fit) },
}

// fit demands that the other nodes reach the interface by the address that they are told. One that the interface had when it
// was chosen may come back any moment: a link that goes down loses its IPv6 addresses.
func fit(in state.BackendInput, addrs []nl.Addr) error {
	for _, f := range state.Families {
		public := in.PublicIP.Of(f)
		switch {
		case !in.Subnet.Has(f) || own(addrs, public):
		case public == in.Interface.IP.Of(f):
			return exit.WithHint(exit.Errorf(exit.TryAgain, "address %s: %q has lost it", public, in.Interface.Name),
				"whoever configures the interface has to give it back; subnet-lease follows it to another")
		default:
			return exit.WithHint(exit.Errorf(exit.BadConfig, "public address %s: %q does not have it", public, in.Interface.Name),
				"host-gw routes straight to it: give --public-ip an address of that interface, choose another with --iface, or use vxlan across NAT")
		}
	}
	return nil
}

func own(addrs []nl.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(have nl.Addr) bool { return have.Prefix.Addr() == a })
}
