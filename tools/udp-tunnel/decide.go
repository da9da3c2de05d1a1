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
	backend     = "udp"
	deviceName  = "flannel0" // flannel's
	defaultPort = 8285
	overhead    = 20 + 8 // outer headers: IPv4, UDP
	leastMTU    = 576    // what every host takes (RFC 1122, 3.3.2)
)

// wanted is what the input asks for.
type wanted struct {
	MTU     int
	Address netip.Prefix   // of the device: the base of the subnet
	Subnet  netip.Prefix   // this node's
	Local   netip.AddrPort // where packets are sent from and received
}

// decide is pure: it turns the input into the device, the socket and link.json. What it refuses leaves the kernel as it is.
func decide(path string, in state.BackendInput, have setup.Kernel, takeOver bool) (wanted, state.Link, error) {
	bad := func(key, format string, args ...any) (wanted, state.Link, error) {
		return wanted{}, state.Link{}, &state.Error{Path: path, Key: key, Err: fmt.Errorf(format, args...)}
	}
	port := in.Backend.Port
	if port == 0 {
		port = defaultPort
	}
	switch {
	case in.Backend.Type != backend:
		return bad("backend.type", "%q where %q belongs", in.Backend.Type, backend)
	case port < 1 || port > 65535:
		return bad("backend.port", "%d is no UDP port", port)
	case !in.Subnet.Has(state.IPv4):
		return bad("subnet.ipv4", "missing: the back end udp carries IPv4 alone")
	case in.Subnet.Has(state.IPv6):
		return bad("subnet.ipv6", "the back end udp carries IPv4 alone")
	}
	uplink, err := have.Uplink(in)
	if err != nil {
		return wanted{}, state.Link{}, err
	}
	subnet := in.Subnet.IPv4
	w := wanted{
		MTU: uplink.MTU - overhead, Address: setup.Host(subnet), Subnet: subnet,
		Local: netip.AddrPortFrom(have.Source(in, state.IPv4), uint16(port)),
	}
	switch is, ok := have.Links[deviceName]; {
	case w.MTU < leastMTU:
		return bad("interface.mtu", "%d leaves %d inside the tunnel, where %d are needed", uplink.MTU, w.MTU, leastMTU)
	case !w.Local.IsValid():
		return bad("interface.ip.ipv4", "missing")
	case ok && is.Alias != nl.Mark && !takeOver:
		return wanted{}, state.Link{}, exit.WithHint(exit.Errorf(exit.Refused, "device %q: a %s that towpath did not make", deviceName, is.Kind),
			"stop flanneld, whose device goes with it; delete another's, or let --take-over replace it")
	}
	link := state.Link{Version: state.Version, Uplink: uplink.Name, MTU: w.MTU, Publish: state.Published{Type: backend, Data: json.RawMessage("null")}}
	link.Device.Set(state.IPv4, state.Device{Name: deviceName, MTU: w.MTU})
	return w, link, nil
}
