package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/towpath/towpath/lib/state"
)

func at(text string) uint32 { return number(netip.MustParseAddr(text)) }

func peerAt(node, subnet, addr string) *peer {
	return newPeer(node, netip.MustParsePrefix(subnet), netip.MustParseAddr(addr))
}

func TestTable(t *testing.T) {
	table := newTable()
	found := func(want map[string]string) {
		t.Helper()
		for ip, node := range want {
			got := ""
			if p := table.find(at(ip)); p != nil {
				got = p.node
			}
			if got != node {
				t.Errorf("%s is of %q, want %q", ip, got, node)
			}
		}
	}
	table.set("b", peerAt("b", "10.244.2.0/24", "192.168.0.2"))
	table.set("c", peerAt("c", "10.244.3.0/24", "192.168.0.3"))
	table.set("small", peerAt("small", "10.244.3.128/26", "192.168.0.4"))
	found(map[string]string{"10.244.2.0": "b", "10.244.2.255": "b", "10.244.3.127": "c", "10.244.3.130": "small", "10.244.3.192": "c", "10.244.4.1": "", "0.0.0.0": ""})
	table.set("a", peerAt("a", "10.244.2.0/24", "192.168.0.5")) // the first by name has it, as route-sync says
	table.set("bb", peerAt("bb", "10.244.2.0/24", "192.168.0.6"))
	found(map[string]string{"10.244.2.7": "a"})
	table.set("a", peerAt("a", "10.244.9.0/24", "192.168.0.5"))
	found(map[string]string{"10.244.2.7": "b", "10.244.9.1": "a"})
	table.set("b", nil)
	found(map[string]string{"10.244.2.7": "bb"})
	for _, node := range []string{"bb", "a", "c", "small", "nobody"} {
		table.set(node, nil)
	}
	found(map[string]string{"10.244.2.7": "", "10.244.3.1": "", "10.244.9.1": ""})
	if len(table.nodes)+len(table.addrs)+len(table.bits) != 0 {
		t.Errorf("left over: %v %v %v", table.nodes, table.addrs, table.bits)
	}
}

// TestTableConflicts: whoever comes and goes in whatever order, the first by name has the subnet.
func TestTableConflicts(t *testing.T) {
	table := newTable()
	names := []string{"a", "b", "c", "d"}
	is := map[string]bool{}
	state := uint32(1)
	for range 2000 {
		state = state*1664525 + 1013904223
		name := names[state>>28&3]
		if is[name] = !is[name]; is[name] {
			table.set(name, peerAt(name, "10.244.2.0/24", "192.168.0.2"))
		} else {
			table.set(name, nil)
		}
		want := ""
		if there := slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
			for n, ok := range is {
				if ok && !yield(n, true) {
					return
				}
			}
		}))); len(there) > 0 {
			want = there[0]
		}
		got := ""
		if p := table.find(at("10.244.2.9")); p != nil {
			got = p.node
		}
		if got != want {
			t.Fatalf("%q has it, want %q", got, want)
		}
	}
}

func TestFrom(t *testing.T) {
	table := newTable()
	table.set("b", peerAt("b", "10.244.2.0/24", "192.168.0.2"))
	table.set("c", peerAt("c", "10.244.3.0/24", "192.168.0.3"))
	for _, tc := range []struct {
		outer, inner string
		want         verdict
	}{
		{"192.168.0.2", "10.244.2.9", accepted},
		{"192.168.0.2", "10.244.2.0", accepted},  // the peer's own end of the tunnel
		{"192.168.0.2", "192.168.0.2", accepted}, // a program of the peer that is bound to the node's address
		{"192.168.0.2", "10.244.3.9", forged},
		{"192.168.0.2", "192.168.0.3", forged},
		{"192.168.0.2", "8.8.8.8", forged},
		{"192.168.0.9", "10.244.2.9", stranger},
		{"192.168.0.9", "192.168.0.9", stranger},
	} {
		if got := table.from(at(tc.outer), at(tc.inner)); got != tc.want {
			t.Errorf("%s from %s: %q, want %q", tc.inner, tc.outer, verdictTexts[got], verdictTexts[tc.want])
		}
	}
}

func TestProcessors(t *testing.T) {
	use := 1
	for i, c := range []struct {
		taken float64
		want  int
	}{{0.1, 1}, {0.7, 1}, {0.9, 2}, {1.4, 2}, {0.6, 2}, {0.4, 1}} {
		if use = processors(use, c.taken); use != c.want {
			t.Errorf("step %d: %d, want %d", i, use, c.want)
		}
	}
}

func many(n int) *table {
	table := newTable()
	for i := range n {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		name := fmt.Sprintf("node%05d", i)
		table.set(name, newPeer(name, subnet, netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})))
	}
	return table
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 5000} {
		table := many(n)
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			ip := uint32(0)
			for b.Loop() {
				ip = ip*1664525 + 1013904223
				i := ip % uint32(n)
				if table.find(10<<24|i<<8|7) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{10, 5000} {
		table := many(n)
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			p, q := peerAt("other", "172.16.0.0/24", "192.0.2.1"), peerAt("other", "172.16.1.0/24", "192.0.2.1")
			for b.Loop() {
				table.set("other", p)
				table.set("other", q)
			}
		})
	}
}

// TestComingPeer: one that has come to this back end may send before this node has read so; nothing is sent to it until then.
func TestComingPeer(t *testing.T) {
	table := newTable()
	f := state.Peer{Node: "b", Backend: state.Published{Type: "vxlan"}}
	f.Subnet.IPv4, f.PublicIP.IPv4 = netip.MustParsePrefix("10.244.2.0/24"), netip.MustParseAddr("192.168.0.2")
	for _, away := range []bool{true, false, true} {
		if f.Backend.Type = backend; away {
			f.Backend.Type = "vxlan"
		}
		table.set(f.Node, peerOf(f))
		if v := table.from(at("192.168.0.2"), at("10.244.2.9")); v != accepted {
			t.Errorf("away %v: %v", away, v)
		}
		if p := table.find(at("10.244.2.9")); p == nil || p.away != away {
			t.Errorf("away %v: %+v", away, p)
		}
	}
	f.Subnet.IPv4 = netip.Prefix{}
	if p := peerOf(f); p != nil {
		t.Errorf("without IPv4: %+v", p)
	}
}
