//go:build netns

package nl

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
)

// newFlow is the request that makes an entry.
type newFlow struct{ Flow }

const ctaTimeout = 7

func (n newFlow) String() string { return fmt.Sprintf("make %+v", n.Flow) }

func (n newFlow) encode(b []byte, seq uint32) []byte {
	b, start := begin(b, unix.NFNL_SUBSYS_CTNETLINK<<8|ctNew, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq)
	b = append(b, familyOf(n.Orig.Src), unix.NFNETLINK_V0, 0, 0)
	b = appendTuple(appendTuple(b, ctaTupleOrig, n.Orig), ctaTupleReply, n.Reply)
	b = appendZone(b, ctaZone, n.Zone)
	if n.Master.Src.IsValid() {
		b = appendTuple(b, ctaTupleMaster, n.Master)
	}
	return finish(appendAttr(appendAttr(b, ctaTimeout, be32(600)), ctaMark, be32(n.Mark)), start)
}

func (newFlow) done(unix.Errno) bool { return false }

func openConntrack(t testing.TB) (*nstest.Namespace, *Conntrack) {
	t.Helper()
	n := nstest.New(t, "ct")
	var c *Conntrack
	n.Do(func() {
		var err error
		if c, err = OpenConntrack(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	return n, c
}

func makeFlows(t testing.TB, c *Conntrack, flows ...Flow) {
	t.Helper()
	changes := make([]Change, len(flows))
	for i, f := range flows {
		changes[i] = newFlow{f}
	}
	for i, err := range c.Apply(changes) {
		if err != nil {
			t.Fatalf("%s: %v", changes[i], err)
		}
	}
}

// flow is an untranslated flow.
func flow(protocol uint8, src, dst string, sport, dport uint16) Flow {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	return Flow{
		Orig:  Tuple{Src: s, Dst: d, Protocol: protocol, SrcPort: sport, DstPort: dport},
		Reply: Tuple{Src: d, Dst: s, Protocol: protocol, SrcPort: dport, DstPort: sport},
	}
}

func ping(src, dst string, id uint16) Flow {
	protocol, request, reply := uint8(unix.IPPROTO_ICMP), uint8(8), uint8(0)
	if strings.Contains(src, ":") {
		protocol, request, reply = unix.IPPROTO_ICMPV6, 128, 129
	}
	f := flow(protocol, src, dst, 0, 0)
	f.Orig.ICMPID, f.Orig.ICMPType, f.Reply.ICMPID, f.Reply.ICMPType = id, request, id, reply
	return f
}

// dnat is f with another destination behind the one asked for.
func dnat(f Flow, dst string, port uint16) Flow {
	f.Reply.Src, f.Reply.SrcPort = netip.MustParseAddr(dst), port
	return f
}

func inZone(f Flow, zone uint16) Flow {
	f.Zone = zone
	return f
}

func sortFlows(flows []Flow) []Flow {
	slices.SortFunc(flows, func(a, b Flow) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return flows
}

func listFlows(t testing.TB, c *Conntrack, of ...string) []Flow {
	t.Helper()
	var flows []Flow
	addrs := make([]netip.Addr, len(of))
	for i, a := range of {
		addrs[i] = netip.MustParseAddr(a)
	}
	if err := c.Flows(addrs, func(f Flow) { flows = append(flows, f) }); err != nil {
		t.Fatal(err)
	}
	return sortFlows(flows)
}

var addrEqual = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// someFlows is a table that holds every kind of entry.
func someFlows() map[string]Flow {
	master := flow(unix.IPPROTO_TCP, "10.0.0.1", "10.0.0.9", 1021, 21)
	data := flow(unix.IPPROTO_TCP, "10.0.0.9", "10.0.0.1", 20, 1020)
	data.Master = master.Orig
	return map[string]Flow{
		"tcp":      flow(unix.IPPROTO_TCP, "10.0.0.1", "10.0.0.2", 1000, 80),
		"udp":      flow(unix.IPPROTO_UDP, "10.0.0.3", "10.0.0.1", 1001, 53),
		"sctp":     flow(unix.IPPROTO_SCTP, "10.0.0.1", "10.0.0.2", 1002, 9),
		"ping":     ping("10.0.0.2", "10.0.0.1", 7),
		"ping6":    ping("fd00::1", "fd00::2", 8),
		"tcp6":     flow(unix.IPPROTO_TCP, "fd00::2", "fd00::1", 1003, 80),
		"generic":  flow(253, "10.0.0.2", "10.0.0.3", 0, 0),
		"dnat":     dnat(flow(unix.IPPROTO_TCP, "10.0.0.3", "10.96.0.1", 1004, 80), "10.0.0.2", 8080),
		"zone":     inZone(flow(unix.IPPROTO_TCP, "10.0.0.1", "10.0.0.2", 1000, 80), 5),
		"unrelate": flow(unix.IPPROTO_TCP, "10.0.0.3", "10.0.0.9", 1005, 80),
		"master":   master,
		"data":     data,
	}
}

func pick(flows map[string]Flow, names ...string) []Flow {
	var out []Flow
	for _, n := range names {
		out = append(out, flows[n])
	}
	return sortFlows(out)
}

// TestFlows: the kernel's filter and ours find the same.
func TestFlows(t *testing.T) {
	_, c := openConntrack(t)
	flows := someFlows()
	makeFlows(t, c, flows["master"]) // before what it is the master of
	for name, f := range flows {
		if name != "master" {
			makeFlows(t, c, f)
		}
	}
	for _, filtered := range []bool{true, false} {
		c.filter = func(int) bool { return filtered }
		for _, tc := range []struct{ of, want string }{
			{"10.0.0.1", "tcp udp sctp ping zone master data"},
			{"10.0.0.2", "tcp sctp ping generic dnat zone"},
			{"10.0.0.1 10.0.0.2", "tcp udp sctp ping generic dnat zone master data"},
			{"fd00::1 10.0.0.3", "ping6 tcp6 udp dnat generic unrelate"},
			{"::ffff:10.0.0.3", "udp dnat generic unrelate"},
			{"10.96.0.1", ""}, // what was asked for is no end of a flow
			{"10.9.9.9 fd00::9", ""},
			{"", ""},
		} {
			want := pick(flows, strings.Fields(tc.want)...)
			if d := cmp.Diff(want, listFlows(t, c, strings.Fields(tc.of)...), addrEqual); d != "" {
				t.Errorf("flows of %q, filtered %v: (-want +got)\n%s", tc.of, filtered, d)
			}
		}
	}
	for name, f := range flows {
		if got, ok, err := c.Flow(f.Orig, f.Zone); !ok || err != nil || got != f {
			t.Errorf("%s: %+v %v %v", name, got, ok, err)
		}
	}
	if f, ok, err := c.Flow(flows["tcp"].Orig, 6); ok || err != nil {
		t.Errorf("of another zone: %+v %v", f, err)
	}
}

// TestFlowCount: the way that is taken follows from what the kernel tells of its table.
func TestFlowCount(t *testing.T) {
	n, c := openConntrack(t)
	for i := range 3 {
		makeFlows(t, c, flow(unix.IPPROTO_TCP, "10.0.0.1", "10.0.0.2", uint16(1000+i), 80))
	}
	flows, most, err := c.count()
	if err != nil || flows != 3 || fmt.Sprintln(most) != n.Run("sysctl", "-n", "net.netfilter.nf_conntrack_max") {
		t.Errorf("%d flows of %d: %v", flows, most, err)
	}
	if c.filter(1) {
		t.Error("three flows are worth two walks over the table")
	}
}

// TestFlowMark: bits come and go, the others stay, no entry is made; and the text is a command that
// does the same.
func TestFlowMark(t *testing.T) {
	n, c := openConntrack(t)
	const bit, other = 0x80000, 0x4001
	mark := func(f Flow) uint32 {
		t.Helper()
		got, ok, err := c.Flow(f.Orig, f.Zone)
		if !ok || err != nil {
			t.Fatalf("%+v is gone: %v", f, err)
		}
		return got.Mark
	}
	for name, f := range someFlows() {
		if name == "data" { // its master is not there
			continue
		}
		f.Mark = other
		makeFlows(t, c, f)
		set, clear := FlowMark{f, bit, bit}, FlowMark{f, 0, bit}
		for _, step := range []struct {
			m    FlowMark
			want uint32
		}{{set, other | bit}, {set, other | bit}, {clear, other}, {clear, other}} {
			if err := c.Apply([]Change{step.m})[0]; err != nil || mark(f) != step.want {
				t.Errorf("%s: %s: %v, mark %#x", name, step.m, err, mark(f))
			}
		}
		// conntrack 1.4.7 can change no flow of a protocol that it knows by number only, nor one in a zone.
		if name == "generic" || name == "zone" {
			continue
		}
		for _, step := range []struct {
			m    FlowMark
			want uint32
		}{{set, other | bit}, {clear, other}} {
			out, err := n.Try("sh", "-c", step.m.String())
			if err != nil || mark(f) != step.want {
				t.Errorf("%s: %s: %v, mark %#x\n%s", name, step.m, err, mark(f), out)
			}
		}
	}
	var marked []Flow
	one := someFlows()["tcp6"]
	if err := c.Apply([]Change{FlowMark{one, bit, bit}})[0]; err != nil {
		t.Fatal(err)
	}
	if err := c.Marked(bit, func(f Flow) { marked = append(marked, f) }); err != nil || len(marked) != 1 || marked[0].Orig != one.Orig {
		t.Errorf("marked: %+v, %v", marked, err)
	}
	before := n.Run("conntrack", "-C")
	gone := flow(unix.IPPROTO_TCP, "10.1.0.1", "10.1.0.2", 1, 2)
	if err := c.Apply([]Change{FlowMark{gone, bit, bit}})[0]; err != nil {
		t.Errorf("a flow that is gone: %v", err)
	}
	if after := n.Run("conntrack", "-C"); after != before {
		t.Errorf("%s entries became %s", before, after)
	}
}

// BenchmarkFlows looks for the 20 flows of each of some pods among 50,000.
func BenchmarkFlows(b *testing.B) {
	_, c := openConntrack(b)
	const pods, each = 2500, 20
	changes := make([]Change, 0, pods*each)
	addr := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24|uint32(i))))
	}
	for i := range pods * each {
		changes = append(changes, newFlow{flow(unix.IPPROTO_TCP, addr(i/each).String(), "172.16.0.1", uint16(i%each)+1000, 80)})
	}
	for i, err := range c.Apply(changes) {
		if err != nil {
			b.Fatalf("%s: %v", changes[i], err)
		}
	}
	for _, n := range []int{1, 3} {
		of := make([]netip.Addr, n)
		for i := range of {
			of[i] = addr(i * 7)
		}
		for _, filtered := range []bool{true, false} {
			b.Run(fmt.Sprintf("addresses=%d/filtered=%v", n, filtered), func(b *testing.B) {
				c.filter = func(int) bool { return filtered }
				for b.Loop() {
					found := 0
					if err := c.Flows(of, func(Flow) { found++ }); err != nil || found != n*each {
						b.Fatalf("%d flows: %v", found, err)
					}
				}
			})
		}
	}
}
