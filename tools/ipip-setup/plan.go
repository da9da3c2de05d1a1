package main

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
)

// device is a wanted device.
type device struct {
	nl.IPIP              // without Index and what else the kernel chooses
	Address netip.Prefix // its only global address: the base of the subnet
}

// Diff lists what turns have into want. Without a wanted device, ours are deleted.
func Diff(conn *nl.Conn, want *device, have observed) []plan.Op {
	var ops []plan.Op
	for _, name := range slices.Sorted(maps.Keys(have.IPIPs)) {
		if have.IPIPs[name].Alias == nl.Mark && (want == nil || name != want.Name) {
			ops = append(ops, conn.LinkDel(name))
		}
	}
	if want == nil {
		return ops
	}
	is, ok := have.IPIPs[want.Name]
	if ok && is.IPIPSpec == want.IPIPSpec {
		return append(ops, setup.Change(conn, is.Link, want.MTU, want.Address, have.Addrs[is.Index])...)
	}
	if _, ok := have.Links[want.Name]; ok {
		ops = append(ops, conn.LinkDel(want.Name))
	}
	return append(ops, conn.AddIPIP(want.IPIP), conn.LinkAlias(want.Name, nl.Mark), conn.AddrAdd(want.Name, want.Address), conn.LinkUp(want.Name))
}

// earlier deletes flannel's device, which leads nowhere once the node has another back end.
func earlier(conn *nl.Conn, have observed) []plan.Op {
	if is, ok := have.IPIPs[deviceName]; !ok || is.Alias == nl.Mark { // Diff sees to ours
		return nil
	}
	return []plan.Op{conn.LinkDel(deviceName)}
}

// unmark lists what makes our devices flannel's again.
func unmark(conn *nl.Conn, have observed) []plan.Op {
	var ops []plan.Op
	for _, name := range slices.Sorted(maps.Keys(have.IPIPs)) {
		if have.IPIPs[name].Alias == nl.Mark {
			ops = append(ops, conn.LinkAlias(name, ""))
		}
	}
	return ops
}
