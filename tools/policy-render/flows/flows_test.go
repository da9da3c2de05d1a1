package flows

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/tools/policy-render/model"
)

var addr = netip.MustParseAddr

// cluster is a node with two pods, a and b, and one on another node, c.
func cluster(t *testing.T, specs ...string) *model.Cluster {
	t.Helper()
	c := model.New("n1")
	for name, ip := range map[string]string{"a": "10.244.1.2", "b": "10.244.1.3", "c": "10.244.2.2"} {
		node := "n1"
		if name == "c" {
			node = "n2"
		}
		c.SetPod(model.Pod{
			Key: model.Key{Namespace: "ns", Name: name}, Node: node, Labels: map[string]string{"app": name},
			IPs: []netip.Addr{addr(ip)},
		})
	}
	for i, spec := range specs {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i)}}
		if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
			t.Fatal(err)
		}
		if err := c.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	c.Commit()
	return c
}

// flow is such as "tcp 10.244.1.2:1000 > 10.96.0.1:80 = 10.244.1.3:8080", where what follows = is behind DNAT.
func flow(text string) nl.Flow {
	fields := strings.Fields(text)
	protocol := map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}[fields[0]]
	at := func(s string) (netip.Addr, uint16) {
		if protocol == 1 {
			return addr(s), 0
		}
		p := netip.MustParseAddrPort(s)
		return p.Addr(), p.Port()
	}
	var f nl.Flow
	f.Orig.Protocol, f.Reply.Protocol = protocol, protocol
	f.Orig.Src, f.Orig.SrcPort = at(fields[1])
	f.Orig.Dst, f.Orig.DstPort = at(fields[3])
	f.Reply.Src, f.Reply.SrcPort = at(fields[len(fields)-1])
	f.Reply.Dst, f.Reply.DstPort = f.Orig.Src, f.Orig.SrcPort
	if protocol == 1 {
		f.Orig.ICMPType, f.Orig.ICMPID = 8, 5
		f.Reply.ICMPID = 5
	}
	return f
}

const (
	bit   = 0x80000
	other = 0x4001
)

func TestDiff(t *testing.T) {
	node := Node{Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}, Addrs: []netip.Addr{addr("10.244.1.1"), addr("192.168.0.11")}}
	open := node
	open.EgressAllowed = true
	const (
		ingress80 = `{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: c}}}], ports: [{port: 80}]}]}`
		anyFromC  = `{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]}`
		noEgress  = `{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress]}`
	)
	for name, c := range map[string]struct {
		policies []string
		node     Node
		flow     string
		allowed  bool
	}{
		"no policy":                   {nil, node, "tcp 10.244.2.2:1 > 10.244.1.2:81", true},
		"allowed port":                {[]string{ingress80}, node, "tcp 10.244.2.2:1 > 10.244.1.2:80", true},
		"other port":                  {[]string{ingress80}, node, "tcp 10.244.2.2:1 > 10.244.1.2:81", false},
		"the port behind DNAT":        {[]string{ingress80}, node, "tcp 10.244.2.2:1 > 10.96.0.1:81 = 10.244.1.2:80", true},
		"not the port before DNAT":    {[]string{ingress80}, node, "tcp 10.244.2.2:1 > 10.96.0.1:80 = 10.244.1.2:81", false},
		"other protocol":              {[]string{ingress80}, node, "udp 10.244.2.2:1 > 10.244.1.2:80", false},
		"other source":                {[]string{ingress80}, node, "tcp 10.244.1.3:1 > 10.244.1.2:80", false},
		"answers need no allowance":   {[]string{ingress80}, node, "tcp 10.244.1.2:1 > 10.244.1.3:9", true},
		"ping is no port":             {[]string{ingress80}, node, "icmp 10.244.2.2 > 10.244.1.2", false},
		"ping allowed":                {[]string{anyFromC}, node, "icmp 10.244.2.2 > 10.244.1.2", true},
		"egress denied":               {[]string{noEgress}, node, "tcp 10.244.1.2:1 > 203.0.113.1:443", false},
		"egress of another pod":       {[]string{noEgress}, node, "tcp 10.244.1.3:1 > 203.0.113.1:443", true},
		"both ends are judged":        {[]string{noEgress}, node, "tcp 10.244.1.2:1 > 10.244.1.3:80", false},
		"to itself":                   {[]string{noEgress, ingress80}, node, "tcp 10.244.1.2:1 > 10.96.0.1:80 = 10.244.1.2:7", true},
		"from the own node":           {[]string{ingress80}, node, "tcp 192.168.0.11:1 > 10.244.1.2:9", true},
		"from the own node's bridge":  {[]string{ingress80}, node, "tcp 10.244.1.1:1 > 10.244.1.2:9", true},
		"to the own node":             {[]string{noEgress}, node, "tcp 10.244.1.2:1 > 192.168.0.11:22", false},
		"to the own node, lifted":     {[]string{noEgress}, open, "tcp 10.244.1.2:1 > 192.168.0.11:22", true},
		"by the own node, not lifted": {[]string{noEgress}, open, "tcp 10.244.1.2:1 > 192.168.0.11:22 = 10.244.1.3:22", false},
		"from an unknown address":     {nil, node, "tcp 10.244.1.99:1 > 10.244.1.2:80", false},
		"to an unknown address":       {nil, node, "tcp 10.244.2.2:1 > 10.244.1.99:80", false},
		"both ends unknown":           {nil, node, "tcp 10.244.1.98:1 > 203.0.113.1:80", false},
	} {
		cl := cluster(t, c.policies...)
		f := flow(c.flow)
		for _, mark := range []uint32{0, other, bit, other | bit} {
			f.Mark = mark
			var want []nl.FlowMark
			switch cut := mark&bit != 0; {
			case c.allowed && cut:
				want = []nl.FlowMark{{Flow: f, Mask: bit}}
			case !c.allowed && !cut:
				want = []nl.FlowMark{{Flow: f, Bits: bit, Mask: bit}}
			}
			if got := Diff(cl, c.node, []Found{{f, f}}, bit); !slices.Equal(got, want) {
				t.Errorf("%s, mark %#x: %v", name, mark, got)
			}
		}
	}
	foreign := flow("tcp 203.0.113.1:1 > 192.168.0.11:22")
	foreign.Mark = bit
	if got := Diff(cluster(t), node, []Found{{foreign, foreign}}, bit); got != nil {
		t.Errorf("a flow of no pod: %v", got)
	}
	// A flow that another expects is judged by that one.
	control, data := flow("tcp 10.244.2.2:1 > 10.244.1.2:80"), flow("tcp 10.244.1.2:20 > 10.244.2.2:2")
	if got := Diff(cluster(t, ingress80, noEgress), node, []Found{{data, control}}, bit); got != nil {
		t.Errorf("data of an allowed control connection: %v", got)
	}
	if got := Diff(cluster(t, ingress80, noEgress), node, []Found{{data, data}}, bit); len(got) != 1 {
		t.Errorf("the same without one: %v", got)
	}
}

// fake is a Table.
type fake struct {
	flows   []nl.Flow
	fail    atomic.Int32
	lists   int
	applied []string
	takes   time.Duration
}

func (f *fake) Flows(of []netip.Addr, give func(nl.Flow)) error {
	f.lists++
	<-time.After(f.takes)
	if f.fail.Add(-1) >= 0 {
		return errors.New("no buffer space")
	}
	for _, flow := range f.flows {
		if slices.Contains(of, flow.Orig.Src) || slices.Contains(of, flow.Reply.Src) {
			give(flow)
		}
	}
	return nil
}

func (f *fake) Flow(t nl.Tuple, _ uint16) (nl.Flow, bool, error) {
	for _, flow := range f.flows {
		if flow.Orig == t {
			return flow, true, nil
		}
	}
	return nl.Flow{}, false, nil
}

func (f *fake) Marked(bits uint32, give func(nl.Flow)) error {
	for _, flow := range f.flows {
		if flow.Mark&bits == bits {
			give(flow)
		}
	}
	return nil
}

func (f *fake) Apply(changes []nl.Change) []error {
	f.applied = append(f.applied, fmt.Sprint(len(changes)))
	return make([]error, len(changes))
}

func TestRead(t *testing.T) {
	control, data, loop := flow("tcp 10.244.2.2:1 > 10.244.1.2:21"), flow("tcp 10.244.1.2:20 > 10.244.2.2:2"), flow("tcp 10.244.1.2:30 > 10.244.2.2:3")
	orphan := flow("tcp 10.244.1.2:40 > 10.244.2.2:4")
	data.Master, loop.Master, orphan.Master = control.Orig, loop.Orig, flow("tcp 1.1.1.1:1 > 1.1.1.1:2").Orig
	table := &fake{flows: []nl.Flow{orphan, loop, data, control, flow("tcp 10.9.9.9:1 > 10.9.9.8:1")}}
	got, err := Read(table, []netip.Addr{addr("10.244.1.2")})
	want := []Found{{data, control}, {loop, loop}, {orphan, orphan}, {control, control}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%v", got, err)
	}
	if got, err := Read(table, nil); got != nil || err != nil || table.lists != 1 {
		t.Errorf("nobody's flows: %v %v, listed %d times", got, err, table.lists)
	}
}

func TestOps(t *testing.T) {
	table := &fake{}
	for i := range 300 {
		f := flow(fmt.Sprintf("tcp 10.244.2.2:%d > 10.244.1.2:80", 1000-i))
		f.Mark = bit | other
		if i == 7 {
			f.Mark = other
		}
		table.flows = append(table.flows, f)
	}
	marks, err := Cleared(table, bit)
	if err != nil || len(marks) != 299 {
		t.Fatalf("%d marks, %v", len(marks), err)
	}
	ops := Ops(table, marks)
	if d := cmp.Diff("conntrack -U -p tcp -s 10.244.2.2 -d 10.244.1.2 --sport 701 --dport 80 --mark 0x0/0x80000", ops[0].String()); d != "" {
		t.Error(d)
	}
	n := 0
	if err := plan.Do(t.Context(), ops, func(plan.Op) { n++ }); err != nil || n != 299 || !slices.Equal(table.applied, []string{"299"}) {
		t.Errorf("%d done in goes of %v: %v", n, table.applied, err)
	}
}

// TestCutter: requests are gathered while a listing is under way, a failure is tried again, and listings that take
// long are not made one after another.
func TestCutter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		table := &fake{flows: []nl.Flow{flow("tcp 10.244.2.2:1 > 10.244.1.2:80"), flow("tcp 10.244.2.2:1 > 10.244.1.3:80")}, takes: 100 * time.Millisecond}
		failures := 0
		c := NewCutter(ctx, table, func(error) { failures++ })
		c.Request(nil)
		synctest.Wait()
		if table.lists != 0 {
			t.Error("nobody's flows were listed")
		}
		start := time.Now()
		c.Request([]netip.Addr{addr("10.244.1.2")})
		if found := <-c.Found(); len(found) != 1 || time.Since(start) != table.takes {
			t.Errorf("%v after %v", found, time.Since(start))
		}
		for range 10 {
			c.Request([]netip.Addr{addr("10.244.1.2")})
			c.Request([]netip.Addr{addr("10.244.1.3")})
		}
		if found := <-c.Found(); len(found) != 2 || table.lists != 2 || time.Since(start) != 4*table.takes {
			t.Errorf("%v, %d listings after %v", found, table.lists, time.Since(start))
		}
		table.fail.Store(2)
		c.Request([]netip.Addr{addr("10.244.1.3")})
		if found := <-c.Found(); len(found) != 1 || failures != 2 || table.lists != 5 {
			t.Errorf("%v after %d failures, %d listings", found, failures, table.lists)
		}
		table.takes = time.Second // never longer than it may take to cut
		start = time.Now()
		c.Request([]netip.Addr{addr("10.244.1.2")})
		<-c.Found()
		c.Request([]netip.Addr{addr("10.244.1.2")})
		<-c.Found()
		if took := time.Since(start); took > 2*table.takes+2*pauseMax {
			t.Errorf("two listings took %v", took)
		}
		c.Request([]netip.Addr{addr("10.9.9.9")}) // has no flows: nothing is found, and nothing hangs
		<-time.After(10 * time.Second)
		cancel()
		synctest.Wait()
	})
}
