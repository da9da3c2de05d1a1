// Package setup is what the setup programs of the back ends have in common: each of them reads the back end's input, makes
// or checks the device that leads to the other nodes, and names it in link.json. Uplink is the whole step of those that
// make none.
package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// Input reads what subnet-lease decided for the back end. A file that is not there wraps fs.ErrNotExist.
func Input(run state.Dir, backend string) (state.BackendInput, error) {
	in, err := state.Load[state.BackendInput](run.Backend(backend))
	if errors.Is(err, fs.ErrNotExist) {
		err = exit.WithHint(err, "subnet-lease writes it while the backend is %s; --run-dir says where", backend)
	}
	return in, err
}

// Kernel is what the kernel holds.
type Kernel struct {
	Links map[string]nl.Link // every device, by name
	Addrs map[int][]nl.Addr  // by index of the device
}

// Observe reads the devices and their addresses.
func Observe(conn *nl.Conn) (Kernel, error) {
	k := Kernel{Links: map[string]nl.Link{}, Addrs: map[int][]nl.Addr{}}
	links, err := conn.Links()
	if err != nil {
		return k, err
	}
	for _, l := range links {
		k.Links[l.Name] = l
	}
	addrs, err := conn.Addrs(0)
	for _, a := range addrs {
		k.Addrs[a.Link] = append(k.Addrs[a.Link], a)
	}
	return k, err
}

// Uplink is the interface that subnet-lease chose.
func (k Kernel) Uplink(in state.BackendInput) (nl.Link, error) {
	uplink, ok := k.Links[in.Interface.Name]
	if !ok {
		return uplink, noUplink(in.Interface.Name)
	}
	return uplink, nil
}

func noUplink(name string) error {
	return exit.WithHint(exit.Errorf(exit.TryAgain, "interface %q: no such device", name), "subnet-lease chose it: --iface there names another")
}

// Source is a tunnel's outer source address: the public one where it is this node's own (flannel's choice), else, behind
// NAT, the interface's. It is not valid where the input has none of the family.
func (k Kernel) Source(in state.BackendInput, f state.Family) netip.Addr {
	public := in.PublicIP.Of(f)
	for _, addrs := range k.Addrs {
		if public.IsValid() && slices.ContainsFunc(addrs, func(a nl.Addr) bool { return a.Prefix.Addr() == public }) {
			return public
		}
	}
	return in.Interface.IP.Of(f)
}

// Outer is the uplink, and the MTU, in bytes, that a tunnel's packets may have on it: net-conf.json's, or its own. path is the
// input's.
func (k Kernel) Outer(path string, in state.BackendInput) (uplink nl.Link, mtu int, err error) {
	if uplink, err = k.Uplink(in); err != nil {
		return uplink, 0, err
	}
	bad := func(format string, args ...any) error {
		return &state.Error{Path: path, Key: "backend.mtu", Err: fmt.Errorf(format, args...)}
	}
	switch mtu = in.Backend.MTU; {
	case mtu == 0:
		mtu = uplink.MTU
	case mtu < 0:
		err = bad("%d is no MTU", mtu)
	case mtu > uplink.MTU:
		err = exit.WithHint(&exit.Error{Code: exit.BadConfig, Err: bad("%d is more than the %d of %s", mtu, uplink.MTU, uplink.Name)},
			"MTU of Backend in net-conf.json is that of the interface below the tunnel; leave it out to follow the interface")
	}
	return uplink, mtu, err
}

// Host is a subnet's first address, as one address: what a tunnel's device gets, so that it has one and no route.
func Host(subnet netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(subnet.Addr(), subnet.Addr().BitLen())
}

// Addresses lists what gives the device exactly these global addresses; have are those that it has. What is new comes first,
// so that it is never without one.
func Addresses(conn *nl.Conn, dev string, want []netip.Prefix, have []nl.Addr) []plan.Op {
	var add, stale []plan.Op
	for _, p := range want {
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix == p }) {
			add = append(add, conn.AddrAdd(dev, p))
		}
	}
	for _, a := range have {
		if a.Global() && !slices.Contains(want, a.Prefix) {
			stale = append(stale, conn.AddrDel(dev, a.Prefix))
		}
	}
	return append(add, stale...)
}

// Change lists what gives a device our mark, the MTU and its one address, and sets it up, while traffic flows over it.
func Change(conn *nl.Conn, is nl.Link, mtu int, address netip.Prefix, have []nl.Addr) []plan.Op {
	var ops []plan.Op
	if is.Alias != nl.Mark {
		ops = append(ops, conn.LinkAlias(is.Name, nl.Mark))
	}
	if is.MTU != mtu {
		ops = append(ops, conn.LinkMTU(is.Name, mtu))
	}
	ops = append(ops, Addresses(conn, is.Name, []netip.Prefix{address}, have)...)
	if !is.Up {
		ops = append(ops, conn.LinkUp(is.Name))
	}
	return ops
}

// Publish lists the write of link.json, if it is to change.
func Publish(run state.Dir, link state.Link) ([]plan.Op, error) {
	op, err := state.WriteOp(run.Link(), link)
	if err != nil || op == nil {
		return nil, err
	}
	return []plan.Op{op}, nil
}

// Withdraw lists the removal of link.json, unless it is another back end's by now. One that cannot be read is nobody's.
func Withdraw(run state.Dir, backend string) []plan.Op {
	if last, err := state.Load[state.Link](run.Link()); err == nil && last.Publish.Type != backend {
		return nil
	}
	if op := state.RemoveOp(run.Link()); op != nil {
		return []plan.Op{op}
	}
	return nil
}
