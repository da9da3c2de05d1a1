package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"syscall"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/sysctl"
)

// device is one device as it has to be.
type device struct {
	nl.VXLAN              // without Index and what else the kernel chooses
	Below    string       // name of the device below
	Offload  offload      // of the checksum inside of the tunnel: on, off, or as it is
	Address  netip.Prefix // its only global address: the base of the subnet
}

// fits says that the device is what it would be made as.
func fits(want device, have nl.VXLAN) bool { return want.VXLANSpec == have.VXLANSpec }

// alike says that the device can become the wanted one while traffic flows.
func alike(want device, have nl.VXLAN) bool {
	h := have.VXLANSpec
	h.Parent, h.Learning = want.Parent, want.Learning
	if h.Local.Is6() == want.Local.Is6() {
		h.Local = want.Local
	}
	return want.VXLANSpec == h
}

// beside says that both can be there at once, so that what is sent to the old one still arrives.
func beside(want device, have nl.VXLAN) bool { return have.VNI != want.VNI || have.Port != want.Port }

// Diff lists what makes the kernel hold the wanted devices. One with our mark that is no longer wanted stays beside them as long as
// route-sync, which removes it, sees a peer that needs it. It trusts decide to have refused a device that is neither ours nor fits.
func Diff(conn *nl.Conn, want []device, have observed) []plan.Op {
	var ops []plan.Op
	used := map[string]bool{}
	for _, w := range want {
		used[w.Name] = true
	}
	for _, w := range want {
		is, ok := have.VXLANs[w.Name]
		if ok && alike(w, is) {
			ops = append(ops, change(conn, w, is, have)...)
			if has, known := have.Offloads[w.Name]; w.Offload != asItIs && (!known || w.Offload != has) {
				ops = append(ops, nl.SetTxChecksum(w.Name, w.Offload == on))
			}
			continue
		}
		if _, there := have.Links[w.Name]; there {
			ops = append(ops, makeRoom(conn, w, is, have))
		}
		if old, ok := aside(w, have); ok {
			used[old.Name] = true
			ops = append(ops, conn.LinkName(old.Name, w.Name))
			old.Name = w.Name
			ops = append(ops, change(conn, w, old, have)...)
			continue
		}
		ops = append(ops, conn.AddVXLAN(w.VXLAN, w.Below), conn.LinkAlias(w.Name, nl.Mark))
		if have.IPv6 {
			ops = append(ops, sysctl.Zero(sysctl.AcceptRA(w.Name)))
		}
		if have.NoIPv6[sysctl.Anew] && w.Address.Addr().Is6() {
			ops = append(ops, sysctl.Zero(sysctl.DisableIPv6(w.Name)))
		}
		if w.Offload == off { // it is made with it
			ops = append(ops, nl.SetTxChecksum(w.Name, false))
		}
		ops = append(ops, conn.AddrAdd(w.Name, w.Address), conn.LinkUp(w.Name))
	}
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		if is := have.VXLANs[name]; !used[name] && is.Alias == nl.Mark {
			ops = append(ops, follow(conn, is, want)...)
		}
	}
	return ops
}

// makeRoom gives the old device of a wanted one's name another name, so that it still receives, or deletes it where it cannot
// stand beside the new one.
func makeRoom(conn *nl.Conn, w device, is nl.VXLAN, have observed) plan.Op {
	del := conn.LinkDel(w.Name)
	if is.Alias != nl.Mark || !beside(w, is) {
		return del
	}
	next := roomName(is)
	if _, taken := have.Links[next]; taken {
		return del
	}
	rename := conn.LinkName(w.Name, next)
	return plan.Func{Text: rename.String(), Run: func(ctx context.Context) error {
		err := rename.Do(ctx)
		if errors.Is(err, syscall.EBUSY) { // a kernel that renames no device that is up
			return del.Do(ctx)
		}
		return err
	}}
}

// aside finds a device of ours that can become the wanted one and has another name: it made room for one that has now to make room.
func aside(w device, have observed) (nl.VXLAN, bool) {
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		if v := have.VXLANs[name]; name != w.Name && v.Alias == nl.Mark && alike(w, v) {
			return v, true
		}
	}
	return nl.VXLAN{}, false
}

// follow keeps a device that only peers still use on the uplink and the address that the node has now.
func follow(conn *nl.Conn, is nl.VXLAN, want []device) []plan.Op {
	for _, w := range want {
		next := is.VXLANSpec
		next.Parent, next.Local = w.Parent, w.Local
		if is.Local.Is6() == w.Local.Is6() && next != is.VXLANSpec {
			return []plan.Op{conn.SetVXLAN(is, next, w.Below)}
		}
	}
	return nil
}

// remove lists the deletion of every device with our mark.
func remove(conn *nl.Conn, have observed) []plan.Op {
	var ops []plan.Op
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		if have.VXLANs[name].Alias == nl.Mark {
			ops = append(ops, conn.LinkDel(name))
		}
	}
	return ops
}

// earlierName is that of flannel's devices: of those that bear our mark too, which Diff sees to.
var earlierName = regexp.MustCompile(`^flannel(-v6)?\.\d+$`)

// earlier deletes flannel's devices, which lead nowhere once the node has another back end.
func earlier(conn *nl.Conn, have observed) []plan.Op {
	var ops []plan.Op
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		if have.VXLANs[name].Alias != nl.Mark && earlierName.MatchString(name) {
			ops = append(ops, conn.LinkDel(name))
		}
	}
	return ops
}

// unmark takes our mark off every device that has it. What has made room has a name that nobody else knows: it goes.
func unmark(conn *nl.Conn, have observed) []plan.Op {
	var ops []plan.Op
	for _, name := range slices.Sorted(maps.Keys(have.VXLANs)) {
		switch v := have.VXLANs[name]; {
		case v.Alias != nl.Mark:
		case name == roomName(v):
			ops = append(ops, conn.LinkDel(name))
		default:
			ops = append(ops, conn.LinkAlias(name, ""))
		}
	}
	return ops
}

// roomName is the name of a device that has made room for another.
func roomName(v nl.VXLAN) string { return fmt.Sprintf("retired%d", v.Index) }

func change(conn *nl.Conn, w device, is nl.VXLAN, have observed) []plan.Op {
	var ops []plan.Op
	if is.Alias != nl.Mark {
		ops = append(ops, conn.LinkAlias(w.Name, nl.Mark))
	}
	if !fits(w, is) {
		ops = append(ops, conn.SetVXLAN(is, w.VXLANSpec, w.Below))
	}
	if is.MTU != w.MTU {
		ops = append(ops, conn.LinkMTU(w.Name, w.MTU))
	}
	if is.MAC != w.MAC {
		ops = append(ops, conn.LinkMAC(w.Name, w.MAC))
	}
	if have.RAs[w.Name] {
		ops = append(ops, sysctl.Zero(sysctl.AcceptRA(w.Name)))
	}
	if have.NoIPv6[w.Name] && w.Address.Addr().Is6() {
		ops = append(ops, sysctl.Zero(sysctl.DisableIPv6(w.Name)))
	}
	ops = append(ops, setup.Addresses(conn, w.Name, []netip.Prefix{w.Address}, have.Addrs[is.Index])...)
	if !is.Up {
		ops = append(ops, conn.LinkUp(w.Name))
	}
	return ops
}
