package nl

import (
	"net/netip"
	"testing"
)

// FuzzParse: no message, however broken, brings a program down.
func FuzzParse(f *testing.F) {
	route := RouteChange{Add, Route{
		Dst: netip.MustParsePrefix("10.244.1.0/24"), Gateway: netip.MustParseAddr("10.244.1.0"), Link: 7, OnLink: true, Protocol: 116, Metric: 9,
	}, ""}.encode(nil, 1)
	neigh := NeighChange{Replace, Neigh{NeighKey: NeighKey{7, netip.MustParseAddr("fd00::1")}, MAC: MAC{2}}, ""}.encode(nil, 2)
	fdb := FDBChange{Delete, FDB{FDBKey: FDBKey{7, MAC{2}}, Dst: netip.MustParseAddr("10.0.0.1")}, ""}.encode(nil, 3)
	for _, seed := range [][]byte{route, neigh, fdb, append(append([]byte{}, route...), fdb...), route[:20], {}, make([]byte, 64)} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = messages(b, func(h header, payload []byte) bool {
			_, _, _ = parseRoute(payload)
			_, _, _ = parseNeigh(payload)
			_, _, _ = parseFDB(payload)
			_, _, _ = parseAddr(payload)
			_, _ = parseError(h, payload)
			return true
		})
	})
}

func TestParseMAC(t *testing.T) {
	for in, ok := range map[string]bool{
		"02:00:00:00:00:01": true, "": false, "02:00:00:00:00": false, "00:00:00:00:00:00": false,
		"01:00:5e:00:00:01": false, "02:00:00:00:00:00:00:01": false, "zz:00:00:00:00:01": false,
	} {
		if _, err := ParseMAC(in); (err == nil) != ok {
			t.Errorf("ParseMAC(%q): %v", in, err)
		}
	}
}

func TestChangeText(t *testing.T) {
	v6 := Route{Dst: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::"), OnLink: true, Protocol: 116, Metric: MetricIPv6}
	for want, c := range map[string]Change{
		"ip -6 route add fd00:1::/64 via fd00:1:: dev flannel-v6.1 onlink proto 116":         RouteChange{Add, v6, "flannel-v6.1"},
		"ip route del 10.0.0.0/8 via 10.1.1.1 dev eth0 proto 116 metric 5":                   RouteChange{Delete, Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("10.1.1.1"), Protocol: 116, Metric: 5}, "eth0"},
		"ip neigh replace 10.1.0.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent":     NeighChange{Replace, Neigh{NeighKey: NeighKey{1, netip.MustParseAddr("10.1.0.0")}, MAC: MAC{2, 0, 0, 0, 0, 1}}, "flannel.1"},
		"bridge fdb replace 02:00:00:00:00:01 dev flannel.1 dst 192.168.0.12 self permanent": FDBChange{Replace, FDB{FDBKey: FDBKey{1, MAC{2, 0, 0, 0, 0, 1}}, Dst: netip.MustParseAddr("192.168.0.12")}, "flannel.1"},
		"bridge fdb del 02:00:00:00:00:01 dev flannel.1 dst 192.168.0.12 self":               FDBChange{Delete, FDB{FDBKey: FDBKey{1, MAC{2, 0, 0, 0, 0, 1}}, Dst: netip.MustParseAddr("192.168.0.12")}, "flannel.1"},
		"ip neigh del fd00:1:: dev flannel-v6.1":                                             NeighChange{Delete, Neigh{NeighKey: NeighKey{1, netip.MustParseAddr("fd00:1::")}}, "flannel-v6.1"},
	} {
		if got := c.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
