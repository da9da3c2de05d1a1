package setup

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

func TestLinkOf(t *testing.T) {
	const backend = "alloc"
	for _, tc := range []struct {
		name   string
		change func(*state.BackendInput, *nl.Link)
		code   exit.Code
		says   string
	}{
		{"fine", func(*state.BackendInput, *nl.Link) {}, exit.OK, ""},
		{"dual stack", func(in *state.BackendInput, _ *nl.Link) {
			in.Subnet.IPv6, in.PublicIP.IPv6 = netip.MustParsePrefix("fd00:1::/64"), netip.MustParseAddr("fd00::11")
		}, exit.OK, ""},
		{"no device", func(_ *state.BackendInput, l *nl.Link) { *l = nl.Link{} }, exit.TryAgain, `"eth0": no such device`},
		{"down", func(_ *state.BackendInput, l *nl.Link) { l.Up = false }, exit.TryAgain, "down"},
		{"no public address", func(in *state.BackendInput, _ *nl.Link) { in.PublicIP.IPv4 = netip.Addr{} }, exit.BadInput, `key "publicIP.ipv4"`},
		{"other backend", func(in *state.BackendInput, _ *nl.Link) { in.Backend.Type = "vxlan" }, exit.BadInput, `key "backend.type"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := state.BackendInput{Version: 1, Node: "worker01", Backend: state.Backend{Type: backend}, Interface: state.Interface{Name: "eth0", MTU: 1500}}
			in.Subnet.IPv4, in.PublicIP.IPv4 = netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("192.168.0.11")
			dev := nl.Link{Name: "eth0", MTU: 9000, Up: true}
			tc.change(&in, &dev)
			link, err := LinkOf("alloc.json", backend, in, dev, dev.Name != "")
			if exit.Of(err) != tc.code || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v (exit %d), want exit %d saying %q", err, exit.Of(err), tc.code, tc.says)
			}
			if err != nil {
				return
			}
			if err := link.Validate(); err != nil || link.MTU != 9000 || link.Device.IPv4.Name != "eth0" || string(link.Publish.Data) != "null" {
				t.Errorf("link.json %+v: %v", link, err)
			}
			if in.Subnet.Has(state.IPv6) != link.Device.Has(state.IPv6) {
				t.Errorf("IPv6 part: %+v", link.Device.IPv6)
			}
		})
	}
}
