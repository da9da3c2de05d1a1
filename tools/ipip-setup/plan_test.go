package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
)

func input() state.BackendInput {
	in := state.BackendInput{
		Version: 1, Node: "worker01", Backend: state.Backend{Type: backend, DirectRouting: true}, Interface: state.Interface{Name: "eth0", MTU: 1500},
	}
	in.Subnet.IPv4, in.PublicIP.IPv4 = netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("203.0.113.1")
	in.Interface.IP.IPv4 = netip.MustParseAddr("192.168.0.11")
	return in
}

func uplink() observed {
	return observed{
		Kernel: setup.Kernel{
			Links: map[string]nl.Link{"eth0": {Index: 2, Name: "eth0", Kind: "device", MTU: 1500, Up: true}},
			Addrs: map[int][]nl.Addr{2: {{Prefix: netip.MustParsePrefix("192.168.0.11/24"), Link: 2}}},
		},
		IPIPs: map[string]nl.IPIP{},
	}
}

// with adds flannel.ipip as it should be, then changed by f.
func with(f func(*nl.IPIP)) observed {
	o := uplink()
	d := nl.IPIP{
		Link:     nl.Link{Index: 7, Name: deviceName, Kind: "ipip", MTU: 1480, Alias: nl.Mark, Up: true},
		IPIPSpec: nl.IPIPSpec{Local: netip.MustParseAddr("192.168.0.11")},
	}
	o.Addrs[7] = []nl.Addr{{Prefix: netip.MustParsePrefix("10.244.1.0/32"), Link: 7}}
	f(&d)
	o.IPIPs[d.Name], o.Links[d.Name] = d, d.Link
	return o
}

// perform is the device once the operations are done.
func perform(want device) observed {
	return with(func(d *nl.IPIP) { d.MTU, d.IPIPSpec = want.MTU, want.IPIPSpec })
}

func texts(ops []plan.Op) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString(op.String() + "\n")
	}
	return b.String()
}

const fresh = `ip link add flannel.ipip mtu 1480 type ipip mode ipip local 192.168.0.11
ip link set dev flannel.ipip alias towpath
ip addr add 10.244.1.0/32 dev flannel.ipip
ip link set dev flannel.ipip up
`

func TestDiff(t *testing.T) {
	plain := func(*nl.IPIP) {}
	for _, tc := range []struct {
		name string
		in   func(*state.BackendInput)
		have observed
		want string
	}{
		{"nothing there", nil, uplink(), fresh},
		{"as it should be", nil, with(plain), ""},
		{"flannel's own is adopted", nil, with(func(d *nl.IPIP) { d.Alias = "" }), "ip link set dev flannel.ipip alias towpath\n"},
		{"MTU of the uplink grew", nil, with(func(d *nl.IPIP) { d.MTU = 1380 }), "ip link set dev flannel.ipip mtu 1480\n"},
		{"set down", nil, with(func(d *nl.IPIP) { d.Up = false }), "ip link set dev flannel.ipip up\n"},
		{
			"subnet changed", func(in *state.BackendInput) { in.Subnet.IPv4 = netip.MustParsePrefix("10.244.9.0/24") }, with(plain),
			"ip addr add 10.244.9.0/32 dev flannel.ipip\nip addr del 10.244.1.0/32 dev flannel.ipip\n",
		},
		{
			"address of the uplink changed", nil, with(func(d *nl.IPIP) { d.Local = netip.MustParseAddr("192.168.0.99") }),
			"ip link del flannel.ipip\n" + fresh,
		},
		{"ours with other settings", nil, with(func(d *nl.IPIP) { d.Other = true }), "ip link del flannel.ipip\n" + fresh},
		{"renamed", nil, with(func(d *nl.IPIP) { d.Name = "tun9" }), "ip link del tun9\n" + fresh},
		{
			"another's tunnel beside it", nil,
			with(func(d *nl.IPIP) { d.Name, d.Alias, d.Local = "tunl0", "", netip.Addr{} }), fresh,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := input()
			if tc.in != nil {
				tc.in(&in)
			}
			want, link, err := decide("ipip.json", in, tc.have, false)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, texts(Diff(new(nl.Conn), &want, tc.have))); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if err := link.Validate(); err != nil || link.MTU != 1480 || link.Device.IPv4.Name != deviceName || link.Uplink != "eth0" ||
				!link.DirectRouting || link.Publish.Type != backend || string(link.Publish.Data) != "null" {
				t.Errorf("link.json: %+v (%v)", link, err)
			}
			in.Subnet.IPv4 = netip.MustParsePrefix("10.244.1.0/24")
			want, _, _ = decide("ipip.json", in, tc.have, false)
			if again := texts(Diff(new(nl.Conn), &want, perform(want))); again != "" {
				t.Errorf("a second time:\n%s", again)
			}
		})
	}
}

func TestDown(t *testing.T) {
	have := with(func(*nl.IPIP) {})
	have.IPIPs["tunl0"] = nl.IPIP{Link: nl.Link{Index: 9, Name: "tunl0", Kind: "ipip"}}
	if d := cmp.Diff("ip link del flannel.ipip\n", texts(Diff(new(nl.Conn), nil, have))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if d := cmp.Diff("ip link set dev flannel.ipip alias \"\"\n", texts(unmark(new(nl.Conn), have))); d != "" {
		t.Errorf("handed back (-want +got)\n%s", d)
	}
	if d := texts(earlier(new(nl.Conn), have)); d != "" {
		t.Errorf("our own device is no leaving: %s", d)
	}
	flannels := have.IPIPs[deviceName]
	flannels.Alias = ""
	if d := cmp.Diff("ip link del flannel.ipip\n", texts(earlier(new(nl.Conn), observed{IPIPs: map[string]nl.IPIP{deviceName: flannels}}))); d != "" {
		t.Errorf("flannel's (-want +got)\n%s", d)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   func(*state.BackendInput)
		have observed
		code exit.Code
		says string
	}{
		{"other type", func(in *state.BackendInput) { in.Backend.Type = "vxlan" }, uplink(), exit.BadInput, `key "backend.type"`},
		{"IPv6", func(in *state.BackendInput) { in.Subnet.IPv6 = netip.MustParsePrefix("fd00::/64") }, uplink(), exit.BadInput, `key "subnet.ipv6"`},
		{"no address", func(in *state.BackendInput) { in.Interface.IP.IPv4 = netip.Addr{} }, uplink(), exit.BadInput, `key "interface.ip.ipv4"`},
		{"no uplink", func(in *state.BackendInput) { in.Interface.Name = "eth9" }, uplink(), exit.TryAgain, `"eth9"`},
		{"tiny uplink", nil, func() observed {
			o := uplink()
			o.Links["eth0"] = nl.Link{Index: 2, Name: "eth0", MTU: 80, Up: true}
			return o
		}(), exit.BadInput, `key "interface.mtu"`},
		{"another's device", nil, with(func(d *nl.IPIP) { d.Alias, d.Local = "", netip.MustParseAddr("10.0.0.1") }), exit.Refused, "local 10.0.0.1, not 192.168.0.11"},
		{"another's settings", nil, with(func(d *nl.IPIP) { d.Alias, d.Other = "", true }), exit.Refused, "other settings"},
		{"another's bridge", nil, func() observed {
			o := uplink()
			o.Links[deviceName] = nl.Link{Index: 9, Name: deviceName, Kind: "bridge"}
			return o
		}(), exit.Refused, "(bridge)"},
		{"its addresses in use", nil, with(func(d *nl.IPIP) { d.Alias, d.Name = "", "tun9" }), exit.Refused, `"tun9" is an IPIP device`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := input()
			if tc.in != nil {
				tc.in(&in)
			}
			_, _, err := decide("ipip.json", in, tc.have, false)
			if err == nil || exit.Of(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v (exit %d), want exit %d saying %q", err, exit.Of(err), tc.code, tc.says)
			}
		})
	}
	other := with(func(d *nl.IPIP) { d.Alias, d.Other = "", true })
	want, _, err := decide("ipip.json", input(), other, true)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("ip link del flannel.ipip\n"+fresh, texts(Diff(new(nl.Conn), &want, other))); d != "" {
		t.Errorf("taken over (-want +got)\n%s", d)
	}
}
