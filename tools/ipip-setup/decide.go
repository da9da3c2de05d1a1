package main

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
)

const (
	backend    = "ipip"
	deviceName = "flannel.ipip" // flannel's
	overhead   = 20             // the outer IPv4 header, bytes
	leastMTU   = 68             // of IPv4
)

// decide says what the device is to be, and what link.json has to hold. It is pure.
func decide(path string, in state.BackendInput, have observed, takeOver bool) (device, state.Link, error) {
	bad := func(key, format string, args ...any) (device, state.Link, error) {
		return device{}, state.Link{}, &state.Error{Path: path, Key: key, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case in.Backend.Type != backend:
		return bad("backend.type", "%q where %q belongs", in.Backend.Type, backend)
	case in.Subnet.Has(state.IPv6):
		return bad("subnet.ipv6", "%s: ipip carries IPv4 only", in.Subnet.IPv6)
	case !in.Interface.IP.IPv4.IsValid():
		return bad("interface.ip.ipv4", "missing: packets to the other nodes need a source")
	}
	uplink, err := have.Uplink(in)
	if err != nil {
		return device{}, state.Link{}, err
	}
	var want device
	want.Name, want.MTU, want.Local = deviceName, uplink.MTU-overhead, in.Interface.IP.IPv4
	want.Address = setup.Host(in.Subnet.IPv4)
	if want.MTU < leastMTU {
		return bad("interface.mtu", "%d leaves %d inside the tunnel, IPv4 needs %d", uplink.MTU, want.MTU, leastMTU)
	}
	if err := refuse(want, have, takeOver); err != nil {
		return device{}, state.Link{}, err
	}
	return want, state.Link{
		Version: state.Version, Uplink: uplink.Name, MTU: want.MTU, DirectRouting: in.Backend.DirectRouting,
		Device:  state.Pair[state.Device]{IPv4: state.Device{Name: want.Name, MTU: want.MTU}},
		Publish: state.Published{Type: backend, Data: json.RawMessage("null")},
	}, nil
}

// refuse names a device of somebody else's in the way.
func refuse(want device, have observed, takeOver bool) error {
	is, ok := have.Links[want.Name]
	t, isIPIP := have.IPIPs[want.Name]
	if ok && is.Alias != nl.Mark && !takeOver && (!isIPIP || t.IPIPSpec != want.IPIPSpec) {
		return exit.WithHint(exit.Errorf(exit.Refused, "device %q: a device (%s) that towpath did not make and that does not fit%s", want.Name, is.Kind, misfit(want, t, isIPIP)),
			"delete it, or let --take-over replace it")
	}
	for name, o := range have.IPIPs {
		if name != want.Name && o.Alias != nl.Mark && o.IPIPSpec == want.IPIPSpec {
			return exit.WithHint(exit.Errorf(exit.Refused, "device %q: %q is an IPIP device with local %s already", want.Name, name, o.Local), "delete %s", name)
		}
	}
	return nil
}

func misfit(want device, have nl.IPIP, isIPIP bool) string {
	switch {
	case !isIPIP:
		return ""
	case have.Local != want.Local:
		return fmt.Sprintf(": local %s, not %s", addrText(have.Local), want.Local)
	}
	return ": other settings"
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "any"
	}
	return a.String()
}
