package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/render"
)

var benchConfig = render.Config{
	Network:    state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.0.0.0/8")},
	Subnet:     state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.0.0.0/24")},
	TunnelPort: 8472, PoliceNode: true, DropInvalid: true, CutMark: 0x80000, LogGroup: 100, LogRate: "10/second",
}

// benchPod is one of 100 namespaces of 100 pods; the first pod of each is this node's.
func benchPod(i int, labels map[string]string) model.Pod {
	node := i % 100
	return model.Pod{
		Key: model.Key{Namespace: fmt.Sprintf("ns%d", i/100), Name: fmt.Sprintf("pod%d", i)}, UID: fmt.Sprint(i), Labels: labels,
		Node: fmt.Sprintf("n%d", node), IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(node), byte(i / 100), 10})},
	}
}

func benchLabels(i int) map[string]string {
	return map[string]string{"app": fmt.Sprint("app", i%10), "tier": fmt.Sprint(i % 3)}
}

func benchPolicy(i, port int) *networkingv1.NetworkPolicy {
	tcp := corev1.ProtocolTCP
	ports := []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &intstr.IntOrString{IntVal: int32(port)}}}
	app := &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app", i%10)}}
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("ns%d", i/10), Name: fmt.Sprintf("policy%d", i)},
		Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{Ports: ports, From: []networkingv1.NetworkPolicyPeer{{PodSelector: app}}},
				{Ports: ports, From: []networkingv1.NetworkPolicyPeer{{PodSelector: app, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(i % 7)}}}}},
			},
			Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: ports, To: []networkingv1.NetworkPolicyPeer{{PodSelector: app}}}},
		},
	}
}

// benchWorld is a cluster of 10,000 pods and 1,000 policies, each of which isolates one of this node's 100 pods, with its
// files on a file system in memory, as /run is.
func benchWorld(b *testing.B) (*world, *writer) {
	dir, err := os.MkdirTemp("/dev/shm", "policy-render")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	w, out := newWorld("n0", benchConfig), &writer{dir: state.Dir(dir)}
	for i := range 100 {
		w.cluster.SetNamespace(model.Namespace{Name: fmt.Sprintf("ns%d", i), Labels: map[string]string{"team": fmt.Sprint(i % 7)}})
	}
	for i := range 10_000 {
		w.cluster.SetPod(benchPod(i, benchLabels(i)))
	}
	for i := range 1000 {
		if err := w.cluster.SetPolicy(benchPolicy(i, 80)); err != nil {
			b.Fatal(err)
		}
	}
	_, c := w.commit()
	if _, err := out.write(w.manifest(), c, true); err != nil {
		b.Fatal(err)
	}
	return w, out
}

// BenchmarkChange is from an event to policy.nft written: a pod's labels that put it into 10 policies' peers, a
// policy's port, a pod of this node that comes or goes.
func BenchmarkChange(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(w *world, i int)
	}{
		{"labels", func(w *world, i int) { w.cluster.SetPod(benchPod(4217, benchLabels(4217+i%2))) }},
		{"policy", func(w *world, i int) { _ = w.cluster.SetPolicy(benchPolicy(503, 80+i%2)) }},
		{"localPod", func(w *world, i int) {
			p := benchPod(4200, benchLabels(4200))
			if p.Name = "new"; i%2 == 0 {
				p.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.250")}
				w.cluster.SetPod(p)
			} else {
				w.cluster.DeletePod(p.Key)
			}
		}},
	} {
		b.Run(c.name+"/pods=10000/policies=1000", func(b *testing.B) {
			w, out := benchWorld(b)
			wrote, i := 0, 0
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				c.change(w, i)
				_, changes := w.commit()
				n, err := out.write(w.manifest(), changes, false)
				if err != nil {
					b.Fatal(err)
				}
				wrote += n
				i++
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
			b.ReportMetric(took[len(took)*95/100].Seconds()*1000, "p95-ms")
			b.ReportMetric(float64(wrote)/float64(b.N), "files/op")
		})
	}
}

// BenchmarkCold is from all objects at hand to everything written.
func BenchmarkCold(b *testing.B) {
	for b.Loop() {
		benchWorld(b)
	}
}
