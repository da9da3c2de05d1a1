package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

func input() state.BackendInput {
	in := state.BackendInput{Version: 1, Node: "worker01", Backend: state.Backend{Type: backend}, Interface: state.Interface{Name: "eth0", MTU: 1500}}
	in.Subnet.IPv4, in.PublicIP.IPv4 = netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("192.168.0.11")
	return in
}

func TestFit(t *testing.T) {
	addrs := []nl.Addr{{Prefix: netip.MustParsePrefix("192.168.0.11/24")}, {Prefix: netip.MustParsePrefix("fd00::11/64")}}
	dual := input()
	dual.Subnet.IPv6, dual.PublicIP.IPv6 = netip.MustParsePrefix("fd00:1::/64"), netip.MustParseAddr("fd00::11")
	other := dual
	other.PublicIP.IPv6 = netip.MustParseAddr("fd00::99")
	nat := input()
	nat.PublicIP.IPv4 = netip.MustParseAddr("203.0.113.1")
	unused := input()
	unused.PublicIP.IPv6 = netip.MustParseAddr("fd00::99")
	for _, tc := range []struct {
		name string
		in   state.BackendInput
		says string
	}{
		{"its own", input(), ""},
		{"of both families", dual, ""},
		{"of a family that is not used", unused, ""},
		{"behind NAT", nat, "203.0.113.1"},
		{"one of two", other, "fd00::99"},
	} {
		err := fit(tc.in, addrs)
		if tc.says == "" && err != nil || tc.says != "" && (exit.Of(err) != exit.BadConfig || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: got %v (exit %d)", tc.name, err, exit.Of(err))
		}
	}
}
