package main

import (
	"encoding/json"
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

const (
	macOld = "02:00:00:00:00:01"
	macNew = "02:00:00:00:00:02"
)

func input() state.BackendInput {
	in := state.BackendInput{
		Version: 1, Node: "worker01", Backend: state.Backend{Type: "vxlan", VNI: 1, Port: 8472},
		Interface: state.Interface{Name: "eth0", MTU: 1500},
	}
	in.Subnet.IPv4 = netip.MustParsePrefix("10.244.1.0/24")
	in.PublicIP.IPv4 = netip.MustParseAddr("192.168.0.11")
	in.Interface.IP.IPv4 = netip.MustParseAddr("192.168.0.11")
	in.Previous = state.Published{Type: "vxlan", Data: json.RawMessage(`{"VNI":1,"VtepMAC":"` + macOld + `"}`)}
	return in
}

func uplink() observed {
	return observed{
		Kernel: setup.Kernel{
			Links: map[string]nl.Link{"eth0": {Index: 2, Name: "eth0", Kind: "device", MTU: 1500, Up: true}},
			Addrs: map[int][]nl.Addr{2: {{Prefix: netip.MustParsePrefix("192.168.0.11/24"), Link: 2}}},
		},
		VXLANs: map[string]nl.VXLAN{}, IPv6: true, RAs: map[string]bool{},
	}
}

// with adds a device as decide would have made it, changed by f.
func with(o observed, f func(*nl.VXLAN)) observed {
	v := nl.VXLAN{
		Link:      nl.Link{Index: 7, Name: "flannel.1", Kind: "vxlan", MTU: 1450, MAC: macOld, Alias: nl.Mark, Up: true},
		VXLANSpec: nl.VXLANSpec{VNI: 1, Port: 8472, Parent: 2, Local: netip.MustParseAddr("192.168.0.11")},
	}
	o.Addrs[7] = []nl.Addr{{Prefix: netip.MustParsePrefix("10.244.1.0/32"), Link: 7}}
	if f != nil {
		f(&v)
	}
	o.VXLANs[v.Name], o.Links[v.Name] = v, v.Link
	return o
}

func texts(ops []plan.Op) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString(op.String() + "\n")
	}
	return b.String()
}

const fresh = `ip link add flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 dev eth0 local 192.168.0.11 dstport 8472 nolearning
ip link set dev flannel.1 alias towpath
sysctl -w net/ipv6/conf/flannel.1/accept_ra=0
ip addr add 10.244.1.0/32 dev flannel.1
ip link set dev flannel.1 up
`

func TestDiff(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   func(*state.BackendInput)
		have observed
		want string
	}{
		{"nothing there", nil, uplink(), fresh},
		{"as it should be", nil, with(uplink(), nil), ""},
		{"flannel's own is adopted", nil, with(uplink(), func(v *nl.VXLAN) { v.Alias = "" }), "ip link set dev flannel.1 alias towpath\n"},
		{"MTU of the uplink shrank", nil, with(uplink(), func(v *nl.VXLAN) { v.MTU = 8950 }), "ip link set dev flannel.1 mtu 1450\n"},
		{"set down", nil, with(uplink(), func(v *nl.VXLAN) { v.Up = false }), "ip link set dev flannel.1 up\n"},
		{
			"subnet changed", func(in *state.BackendInput) { in.Subnet.IPv4 = netip.MustParsePrefix("10.244.9.0/24") }, with(uplink(), nil),
			"ip addr add 10.244.9.0/32 dev flannel.1\nip addr del 10.244.1.0/32 dev flannel.1\n",
		},
		{
			"VNI changed: the old one stays for those who have not changed", func(in *state.BackendInput) { in.Backend.VNI = 7 }, with(uplink(), nil),
			strings.NewReplacer("flannel.1", "flannel.7", "id 1", "id 7").Replace(fresh),
		},
		{
			"VNI changed back", nil, with(with(uplink(), nil), func(v *nl.VXLAN) { v.Name, v.Index, v.VNI = "flannel.7", 9, 7 }), "",
		},
		{
			"port changed: made anew with its MAC", func(in *state.BackendInput) { in.Backend.Port = 4789; in.Previous = state.Published{} }, with(uplink(), nil),
			"ip link set dev flannel.1 name retired7\n" + strings.Replace(fresh, "8472", "4789", 1),
		},
		{
			"port changed back", nil,
			with(with(uplink(), func(v *nl.VXLAN) { v.Name, v.Up = "retired7", false }), func(v *nl.VXLAN) { v.Index, v.Port = 9, 4789 }),
			"ip link set dev flannel.1 name retired9\nip link set dev retired7 name flannel.1\nip link set dev flannel.1 up\n",
		},
		{
			"GBP on the port of the old one", func(in *state.BackendInput) { in.Backend.GBP = true }, with(uplink(), nil),
			"ip link del flannel.1\n" + strings.Replace(fresh, " nolearning", " nolearning gbp", 1),
		},
		{"learning by mistake", nil, with(uplink(), func(v *nl.VXLAN) { v.Learning = true }), "ip link set dev flannel.1 type vxlan nolearning\n"},
		{
			"node's address changed", func(in *state.BackendInput) {
				in.PublicIP.IPv4, in.Interface.IP.IPv4 = netip.MustParseAddr("192.168.0.12"), netip.MustParseAddr("192.168.0.12")
			}, with(with(uplink(), nil), func(v *nl.VXLAN) { v.Name, v.Index, v.VNI = "flannel.7", 9, 7 }),
			"ip link set dev flannel.1 type vxlan local 192.168.0.12\nip link set dev flannel.7 type vxlan local 192.168.0.12\n",
		},
		{
			"another uplink", nil, with(uplink(), func(v *nl.VXLAN) { v.Parent = 3 }), "ip link set dev flannel.1 type vxlan dev eth0\n",
		},
		{
			"GBP and learning", func(in *state.BackendInput) { in.Backend.GBP, in.Backend.Learning = true, true }, uplink(),
			strings.Replace(fresh, " nolearning", " gbp", 1),
		},
		{
			"public address elsewhere", func(in *state.BackendInput) { in.PublicIP.IPv4 = netip.MustParseAddr("203.0.113.9") }, uplink(), fresh,
		},
		{
			"MTU given", func(in *state.BackendInput) { in.Backend.MTU = 1400 }, uplink(), strings.Replace(fresh, "1450", "1350", 1),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := input()
			if tc.in != nil {
				tc.in(&in)
			}
			want, link, err := decide("vxlan.json", in, tc.have, false)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, texts(Diff(new(nl.Conn), want, tc.have))); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if err := link.Validate(); err != nil {
				t.Errorf("link.json: %v", err)
			}
		})
	}
}

func TestUnmark(t *testing.T) {
	have := with(with(uplink(), nil), func(v *nl.VXLAN) { v.Name, v.Index, v.Port = "retired9", 9, 4789 })
	if got := texts(unmark(new(nl.Conn), have)); got != "ip link set dev flannel.1 alias \"\"\nip link del retired9\n" {
		t.Errorf("handed back:\n%s", got)
	}
}

func TestDualStack(t *testing.T) {
	in := input()
	in.Subnet.IPv6 = netip.MustParsePrefix("fd00:10:1::/64")
	in.Interface.IP.IPv6 = netip.MustParseAddr("fd00::11")
	in.Backend.DirectRouting = true
	want, link, err := decide("vxlan.json", in, uplink(), false)
	if err != nil {
		t.Fatal(err)
	}
	ops := texts(Diff(new(nl.Conn), want, uplink()))
	for _, line := range []string{" mtu 1430 type vxlan id 1 dev eth0 local fd00::11 dstport 8472 nolearning\n", "ip -6 addr add fd00:10:1::/128 dev flannel-v6.1 nodad\n"} {
		if !strings.Contains(ops, line) {
			t.Errorf("no %q in\n%s", line, ops)
		}
	}
	if link.MTU != 1430 || link.Device.IPv4.MTU != 1450 || !link.DirectRouting || link.Device.IPv6.VtepMAC == macOld {
		t.Errorf("link.json %+v", link)
	}
	var data state.VXLANData
	if err := json.Unmarshal(link.Publish.DataV6, &data); err != nil || data.VtepMAC != link.Device.IPv6.VtepMAC || data.VNI != 1 {
		t.Errorf("published for IPv6: %s (%v)", link.Publish.DataV6, err)
	}
}

func TestChooseMAC(t *testing.T) {
	said := func(o observed, mac string) observed {
		o.Last.Device.IPv4 = state.Device{Name: "flannel.1", VNI: 1, VtepMAC: mac}
		o.HasLast = true
		return o
	}
	for _, tc := range []struct {
		name string
		have observed
		prev string
		want string
	}{
		{"what the other nodes know", uplink(), macOld, macOld},
		{"flannel's device before what was published", with(uplink(), func(v *nl.VXLAN) { v.Alias, v.MAC = "", macNew }), macOld, macNew},
		{"our device drifted from what it said", said(with(uplink(), func(v *nl.VXLAN) { v.MAC = "02:00:00:00:00:99" }), macNew), macOld, macNew},
		{"flannel's device before an old link.json", said(with(uplink(), func(v *nl.VXLAN) { v.Alias = "" }), macNew), "", macOld},
		{"only link.json remembers", said(uplink(), macNew), "", macNew},
		{"junk is not remembered", said(uplink(), macNew), "01:00:5e:00:00:01", macNew},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := input()
			in.Previous.Data = json.RawMessage(`{"VNI":1,"VtepMAC":"` + tc.prev + `"}`)
			want, _, err := decide("vxlan.json", in, tc.have, false)
			if err != nil {
				t.Fatal(err)
			}
			if want[0].MAC != tc.want {
				t.Errorf("MAC %s, want %s", want[0].MAC, tc.want)
			}
		})
	}
	in := input()
	in.Previous = state.Published{}
	a, _, _ := decide("vxlan.json", in, uplink(), false)
	b, _, _ := decide("vxlan.json", in, uplink(), false)
	if a[0].MAC == b[0].MAC {
		t.Errorf("twice the same random address %s", a[0].MAC)
	}
	if _, err := nl.ParseMAC(a[0].MAC); err != nil || a[0].MAC[1] != '2' && a[0].MAC[1] != '6' && a[0].MAC[1] != 'a' && a[0].MAC[1] != 'e' {
		t.Errorf("random address %s is not local unicast (%v)", a[0].MAC, err)
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
		{"other type", func(in *state.BackendInput) { in.Backend.Type = "host-gw" }, uplink(), exit.BadInput, `key "backend.type"`},
		{"VNI too large", func(in *state.BackendInput) { in.Backend.VNI = 1 << 24 }, uplink(), exit.BadInput, `key "backend.vni"`},
		{"VNI missing", func(in *state.BackendInput) { in.Backend.VNI = 0 }, uplink(), exit.BadInput, `key "backend.vni"`},
		{"VNI makes the name too long", func(in *state.BackendInput) { in.Backend.VNI = 10_000_000 }, uplink(), exit.BadInput, `key "backend.vni"`},
		{"port", func(in *state.BackendInput) { in.Backend.Port = 70000 }, uplink(), exit.BadInput, `key "backend.port"`},
		{"MTU above the uplink's", func(in *state.BackendInput) { in.Backend.MTU = 9000 }, uplink(), exit.BadConfig, `key "backend.mtu"`},
		{"MTU negative", func(in *state.BackendInput) { in.Backend.MTU = -1 }, uplink(), exit.BadInput, `key "backend.mtu"`},
		{"MTU tiny", func(in *state.BackendInput) { in.Backend.MTU = 100 }, uplink(), exit.BadInput, `key "interface.mtu"`},
		{"no address", func(in *state.BackendInput) {
			in.PublicIP, in.Interface.IP = state.Pair[netip.Addr]{}, state.Pair[netip.Addr]{}
		}, uplink(), exit.BadInput, `key "interface.ip.ipv4"`},
		{"no uplink", func(in *state.BackendInput) { in.Interface.Name = "eth9" }, uplink(), exit.TryAgain, `"eth9"`},
		{"another's device", nil, with(uplink(), func(v *nl.VXLAN) { v.Alias, v.Port = "", 4789 }), exit.Refused, "(port 4789, not 8472)"},
		{"another's bridge", nil, func() observed {
			o := uplink()
			o.Links["flannel.1"] = nl.Link{Index: 9, Name: "flannel.1", Kind: "bridge"}
			return o
		}(), exit.Refused, "a bridge"},
		{"VNI in use", nil, with(uplink(), func(v *nl.VXLAN) { v.Name, v.Alias = "vx0", "" }), exit.Refused, `"vx0" has VNI 1`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := input()
			if tc.in != nil {
				tc.in(&in)
			}
			_, _, err := decide("vxlan.json", in, tc.have, false)
			if err == nil || exit.Of(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v (exit %d), want exit %d saying %q", err, exit.Of(err), tc.code, tc.says)
			}
		})
	}
	other := with(uplink(), func(v *nl.VXLAN) { v.Alias, v.Port = "", 4789 })
	want, _, err := decide("vxlan.json", input(), other, true)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("ip link del flannel.1\n"+fresh, texts(Diff(new(nl.Conn), want, other))); d != "" {
		t.Errorf("taken over (-want +got)\n%s", d)
	}
}
