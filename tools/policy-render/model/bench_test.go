package model

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/lib/state"
)

type size struct{ pods, policies int }

var sizes = []size{{10_000, 1_000}, {100_000, 10_000}}

func (s size) String() string { return fmt.Sprintf("pods=%d/policies=%d", s.pods, s.policies) }

// benchPod is pod i: a hundred namespaces, workloads of ten pods, a pod-template-hash, 200 pods a node.
func (s size) benchPod(i int, app string) Pod {
	ns, node := i%100, i/200
	return Pod{
		Key: Key{fmt.Sprintf("ns-%d", ns), fmt.Sprintf("web-%d-7d9f8b6c5-%05d", i/1000, i)}, UID: fmt.Sprintf("0f5f2f3e-5b1c-4f7e-9d8a-%012d", i),
		Labels: map[string]string{"app": app, "tier": "backend", "pod-template-hash": fmt.Sprintf("7d9f8b6c%d", i/1000)},
		Node:   fmt.Sprintf("node-%d", node), IPs: []netip.Addr{benchAddr(i)}, HostIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(node >> 8), byte(node)})},
		Ports: []NamedPort{{"http", TCP, 8080}},
	}
}

func benchAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func benchApp(i int) string { return fmt.Sprintf("app-%d", i/1000%20) }

// benchPolicy is policy i: of one namespace, for one app, from another app, another namespace and a block.
func benchPolicy(i int, port int32) *networkingv1.NetworkPolicy {
	p := intstr.FromInt32(port)
	http := intstr.FromString("http")
	app := func(n int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", n%20)}}
	}
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("policy-%d", i)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *app(i / 100),
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{
					{PodSelector: app(i/100 + 1)},
					{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: fmt.Sprintf("ns-%d", (i+1)%100)}}},
					{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("172.16.%d.0/24", i%256), Except: []string{fmt.Sprintf("172.16.%d.7/32", i%256)}}},
				},
				Ports: []networkingv1.NetworkPolicyPort{{Port: &p}, {Port: &http}},
			}},
		},
	}
}

func (s size) cluster(b *testing.B) *Cluster {
	c := New("node-0")
	for i := range 100 {
		c.SetNamespace(Namespace{Name: fmt.Sprintf("ns-%d", i), Labels: map[string]string{"team": fmt.Sprintf("team-%d", i%10)}})
	}
	for i := range s.pods {
		c.SetPod(s.benchPod(i, benchApp(i)))
	}
	for i := range s.policies {
		if err := c.SetPolicy(benchPolicy(i, 80)); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkColdStart takes all objects, commits, and asks for the members of every set.
func BenchmarkColdStart(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			var c *Cluster
			var d Delta
			before := heap()
			for b.Loop() {
				c = s.cluster(b)
				d = c.Commit()
				for _, set := range d.Sets {
					set.Members(state.IPv4)
				}
			}
			if len(d.Sets) == 0 || len(d.Pods) != 200 || len(d.Policies) == 0 {
				b.Fatalf("%d sets, %d pods, %d policies", len(d.Sets), len(d.Pods), len(d.Policies))
			}
			sets, policies := len(d.Sets), len(d.Policies)
			d = Delta{}
			b.ReportMetric(float64(heap()-before), "heap-B")
			b.ReportMetric(float64(sets), "sets")
			b.ReportMetric(float64(policies), "relevant")
			runtime.KeepAlive(c)
		})
	}
}

// BenchmarkLabelChange changes a pod of another node in and out of sets.
func BenchmarkLabelChange(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			c := s.cluster(b)
			c.Commit()
			b.ReportAllocs()
			n, sets := 0, 0
			for b.Loop() {
				n++
				c.SetPod(s.benchPod(5_000, []string{"app-1", "app-0"}[n%2]))
				for _, set := range c.Commit().Sets {
					set.Members(state.IPv4)
					sets++
				}
			}
			if sets == 0 {
				b.Fatal("no set changed")
			}
			b.ReportMetric(float64(sets)/float64(n), "sets/op")
		})
	}
}

// BenchmarkPolicyChange changes a rule of a policy that isolates pods of this node.
func BenchmarkPolicyChange(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.String(), func(b *testing.B) {
			c := s.cluster(b)
			c.Commit()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				if err := c.SetPolicy(benchPolicy(5, int32(80+n%2))); err != nil {
					b.Fatal(err)
				}
				if d := c.Commit(); len(d.Policies) != 1 {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
}

// BenchmarkJudge judges an allowed and a denied packet.
func BenchmarkJudge(b *testing.B) {
	s := sizes[0]
	c := s.cluster(b)
	c.Commit()
	subject := c.LocalPods()[0]
	allowed, denied := netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("203.0.113.1")
	if len(subject.Policies[Ingress]) == 0 {
		b.Fatal("not isolated")
	}
	if l := subject.Policies[Ingress][0].Rules[Ingress][0].Peers; l[len(l)-1].Kind() == CIDRSet {
		allowed = l[len(l)-1].Ranges(state.IPv4)[0].From
	}
	for name, peer := range map[string]netip.Addr{"allowed": allowed, "denied": denied} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v := c.Judge(Ingress, subject.Key, subject.IPs[0], peer, TCP, 80); v.Allowed != (name == "allowed") {
					b.Fatal(v)
				}
			}
		})
	}
}
