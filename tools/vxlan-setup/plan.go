package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/sysctl"
)

// mark is the alias of the devices that towpath owns: only these are ever deleted.
const mark = "towpath"

// scopeLink: an address of a wider scope is a global one. An IPv6 device gives itself link-local ones.
const scopeLink = 253

// device is one device as it has to be.
type device struct {
	nl.VXLAN              // without Index and what else the kernel chooses
	Below    string       // name of the device below
	Address  netip.Prefix // its only global address: the base of the subnet
}

// fits says that the device is what it would be made as: adopted, not made anew. MTU, MAC, address and
// alias can be changed while traffic flows.
func fits(want device, have nl.VXLAN) bool { return want.VXLANSpec == have.VXLANSpec }

// Diff lists what makes the kernel hold exactly the wanted devices, and no other with our mark. It
// trusts decide to have refused a device that is neither ours nor fits.
func Diff(conn *nl.Conn, want []device, have observed) []plan.Op {
	var ops []plan.Op
	names := map[string]device{}
	for _, w := range want {
		names[w.Name] = w
	}
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		if _, wanted := names[name]; !wanted && have.VXLANs[name].Alias == mark {
			ops = append(ops, conn.LinkDel(name))
		}
	}
	for _, w := range want {
		is, ok := have.VXLANs[w.Name]
		if ok && fits(w, is) {
			ops = append(ops, change(conn, w, is, have)...)
			continue
		}
		if _, ok := have.Links[w.Name]; ok {
			ops = append(ops, conn.LinkDel(w.Name))
		}
		ops = append(ops, conn.AddVXLAN(w.VXLAN, w.Below), conn.LinkAlias(w.Name, mark))
		if have.IPv6 {
			ops = append(ops, refuseRA(w.Name))
		}
		ops = append(ops, conn.AddrAdd(w.Name, w.Address), conn.LinkUp(w.Name))
	}
	return ops
}

func change(conn *nl.Conn, w device, is nl.VXLAN, have observed) []plan.Op {
	var ops []plan.Op
	if is.Alias != mark {
		ops = append(ops, conn.LinkAlias(w.Name, mark))
	}
	if is.MTU != w.MTU {
		ops = append(ops, conn.LinkMTU(w.Name, w.MTU))
	}
	if is.MAC != w.MAC {
		ops = append(ops, conn.LinkMAC(w.Name, w.MAC))
	}
	if have.RAs[w.Name] {
		ops = append(ops, refuseRA(w.Name))
	}
	found := false
	var stale []plan.Op
	for _, a := range have.Addrs[is.Index] {
		switch {
		case a.Prefix == w.Address:
			found = true
		case a.Scope < scopeLink:
			stale = append(stale, conn.AddrDel(w.Name, a.Prefix))
		}
	}
	if !found {
		ops = append(ops, conn.AddrAdd(w.Name, w.Address))
	}
	ops = append(ops, stale...)
	if !is.Up {
		ops = append(ops, conn.LinkUp(w.Name))
	}
	return ops
}

// refuseRA keeps a router advertisement, from whoever reaches the overlay, off the device.
func refuseRA(name string) plan.Op {
	return plan.Func{
		Text: "sysctl -w " + acceptRA(name) + "=0",
		Run:  func(context.Context) error { return sysctl.Set(acceptRA(name), "0") },
	}
}
