//go:build netns

package policy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/probe"
)

// starts is how many pods TestStart starts, in lots of parallel ones, while so many policies change.
const starts, parallel, churned = 100, 4, 1000

// TestStart: pods start while policies change all the time. In each pod's namespace a process sends from before ADD on, from
// ordinary sockets and raw ones, to a place that its policies allow and to places that they deny, in both families. Nothing may
// arrive at the latter, ever; and at the former not before the rules stand, which is when ADD returns.
func TestStart(t *testing.T) {
	s := &scene{Node: node.New(t), t: t, pods: map[string]*node.Pod{}}
	s.Namespaces("start", "guard", "churn")
	// Egress of start: to guard/open alone, and there to port 9. Ingress of guard/shut: from nobody of start.
	s.Set("policies", policy("start/egress", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: open}}}], ports: [{protocol: UDP, port: 9}]}, {to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: shut}}}]}]}")+
		policy("guard/ingress", "{podSelector: {matchLabels: {app: shut}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}"))
	for i := range churned {
		s.Set(fmt.Sprintf("churn-%d", i), churn(i, 0))
	}
	s.Policies()
	guard := map[string]*node.Pod{"open": s.Pod("guard/open", "app=open"), "shut": s.Pod("guard/shut", "app=shut"), "other": s.Pod("guard/other", "app=other")}

	end := make(chan struct{})
	var background sync.WaitGroup
	var changes atomic.Int64
	background.Go(func() { // about a hundred changes a second
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
				s.Set(fmt.Sprintf("churn-%d", i%churned), churn(i%churned, i))
				changes.Add(1)
			}
		}
	})
	arrived := &arrivals{}
	for name, p := range guard {
		arrived.watch(t, &background, end, name, s.wire(t, p))
	}
	var outside *probe.Wire
	s.World.Do(func() { outside, _ = probe.Open("eth0") })
	arrived.watch(t, &background, end, "outside", outside)

	var took []time.Duration
	for lot := range starts / parallel {
		var wg sync.WaitGroup
		var lots [parallel]*node.Pod
		for i := range lots {
			lots[i] = s.Prepare(fmt.Sprintf("start/p-%d-%d", lot, i), "app=start")
		}
		stop := make(chan struct{})
		for i, p := range lots {
			for _, to := range []struct {
				pod  string
				port uint16
			}{{"open", 9}, {"open", 10}, {"shut", 9}, {"other", 9}, {"", 9}} {
				for family := range 2 {
					target := netip.MustParseAddr(node.External[2*family])
					if to.pod != "" {
						target = guard[to.pod].IPs[family]
					}
					wg.Go(func() { sender(p, netip.AddrPortFrom(target, to.port), uint32(1+lot*parallel+i), stop) })
				}
			}
			wg.Go(func() { rawSender(p, guard, uint32(1+lot*parallel+i), stop) })
		}
		var adds sync.WaitGroup
		for _, p := range lots {
			adds.Go(func() {
				if err := p.Add(); err != nil {
					t.Error(err)
				}
			})
		}
		adds.Wait()
		if t.Failed() {
			close(stop)
			wg.Wait()
			break
		}
		for i, p := range lots {
			took = append(took, p.Took)
			id := uint32(1 + lot*parallel + i)
			s.Eventually(20*time.Second, func() string { // both families; else silence would prove nothing
				if n := arrived.allowed(id); n < 2 {
					return fmt.Sprintf("of what pod %d may send has arrived only %d families'", id, n)
				}
				return ""
			})
		}
		close(stop)
		wg.Wait()
		for _, p := range lots {
			p.Remove()
			if err := os.Remove(filepath.Join(s.Objects, "pod-"+strings.ReplaceAll(p.Pod, "/", "-")+".yaml")); err != nil {
				t.Error(err)
			}
		}
	}
	close(end)
	background.Wait()
	for _, text := range arrived.wrong() {
		t.Error(text)
	}
	slices.Sort(took)
	t.Logf("%d pods, %d at once, while %d of %d policies changed: ADD p50 %s, p99 %s; %d datagrams of pods arrived where they may",
		len(took), parallel, changes.Load(), churned, took[len(took)/2].Round(100*time.Microsecond), took[len(took)*99/100].Round(100*time.Microsecond), arrived.count())
}

// churn is two policies, in one of their versions. Every tenth selects the pods that start.
func churn(i, version int) string {
	selected := [10]string{"app: start", "app: nobody", "app: x", "app: x", "app: x", "app: x", "app: x", "app: x", "app: x", "app: x"}
	return policy(fmt.Sprintf("churn/p-%d", i), fmt.Sprintf("{podSelector: {matchLabels: {n: n%d}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {v: v%d}}}], ports: [{port: %d}]}]}",
		i, version, 1+version%60000)) + policy(fmt.Sprintf("start/p-%d", i), fmt.Sprintf("{podSelector: {matchLabels: {%s}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {v: v%d}}}], ports: [{port: %d}]}]}", selected[i%10], version%50, 1+version%60000))
}

// sender is a process of the pod: it sends from its first instruction, by a socket, whether there is a network yet or not.
func sender(p *node.Pod, to netip.AddrPort, id uint32, stop chan struct{}) {
	data := (probe.Packet{From: to.Addr(), To: to.Addr(), Protocol: probe.UDP, ID: id}).Bytes()
	data = data[len(data)-8:]
	p.Do(func() {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				c.WriteToUDPAddrPort(data, to)
			}
		}
	})
}

// rawSender sends frames as soon as the pod has a device, from the addresses that it will have.
func rawSender(p *node.Pod, guard map[string]*node.Pod, id uint32, stop chan struct{}) {
	p.Do(func() {
		var wire *probe.Wire
		for {
			select {
			case <-stop:
				if wire != nil {
					wire.Close()
				}
				return
			case <-time.After(2 * time.Millisecond):
			}
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				continue
			}
			if wire == nil {
				if wire, err = probe.Open("eth0"); err != nil {
					wire = nil
					continue
				}
			}
			addresses, _ := link.Addrs()
			for _, a := range addresses {
				own, err := netip.ParsePrefix(a.String())
				if err != nil || own.Addr().IsLinkLocalUnicast() {
					continue
				}
				for _, g := range guard {
					packet := probe.Packet{From: own.Addr(), To: g.Addr(own.Addr()), Protocol: probe.UDP, Port: 11, SourcePort: uint16(id), ID: id}
					ethertype := uint16(probe.IPv4)
					if own.Addr().Is6() {
						ethertype = probe.IPv6
					}
					wire.Send(probe.Frame(g.MAC, link.HardwareAddr, ethertype, packet.Bytes())) // it may still be down
				}
			}
		}
	})
}

// arrivals are the datagrams that pods' processes got through.
type arrivals struct {
	mu   sync.Mutex
	good map[[2]uint32]int // by pod and family
	bad  map[string]int
}

// watch counts what arrives at a place until the end.
func (a *arrivals) watch(t *testing.T, wg *sync.WaitGroup, end chan struct{}, name string, wire *probe.Wire) {
	if wire == nil {
		t.Fatalf("no wire at %s", name)
	}
	wg.Go(func() {
		defer wire.Close()
		for {
			select {
			case <-end:
				return
			default:
			}
			frame := wire.Receive(50)
			_, payload := probe.Payload(frame)
			p, ok := probe.Parse(payload)
			if !ok || p.ID == 0 || p.ID > starts {
				continue
			}
			a.mu.Lock()
			if name == "open" && p.Port == 9 {
				if a.good == nil {
					a.good = map[[2]uint32]int{}
				}
				family := uint32(0)
				if p.To.Is6() {
					family = 1
				}
				a.good[[2]uint32{p.ID, family}]++
			} else {
				if a.bad == nil {
					a.bad = map[string]int{}
				}
				a.bad[fmt.Sprintf("at %s: %s of pod %d", name, p, p.ID)]++
			}
			a.mu.Unlock()
		}
	})
}

func (a *arrivals) allowed(id uint32) (families int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range uint32(2) {
		if a.good[[2]uint32{id, f}] > 0 {
			families++
		}
	}
	return families
}

func (a *arrivals) wrong() (list []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for text, n := range a.bad {
		list = append(list, fmt.Sprintf("%d packets arrive that may not, %s", n, text))
	}
	slices.Sort(list)
	return list[:min(len(list), 20)]
}

func (a *arrivals) count() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.good {
		n += c
	}
	return n
}
