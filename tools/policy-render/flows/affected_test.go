package flows

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// judged is one question about a local pod.
type judged struct {
	dir         model.Direction
	pod         model.Key
	own, peer   netip.Addr
	destination uint16
}

func verdicts(c *model.Cluster, peers []netip.Addr) map[judged]bool {
	out := map[judged]bool{}
	for _, p := range c.LocalPods() {
		for _, own := range p.IPs {
			for _, peer := range peers {
				for _, port := range []uint16{80, 81, 8080} {
					for _, dir := range []model.Direction{model.Ingress, model.Egress} {
						out[judged{dir, p.Key, own, peer, port}] = c.Judge(dir, p.Key, own, peer, model.TCP, port).Allowed
					}
				}
			}
		}
	}
	return out
}

// TestAffected: whatever a change judges in another way has an end that is among the affected addresses. And where
// pods of other nodes come and go, these are few.
func TestAffected(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	labels := func() map[string]string {
		return map[string]string{"app": string(rune('a' + r.IntN(3))), "tier": string(rune('a' + r.IntN(2)))}
	}
	selector := func() *metav1.LabelSelector {
		s := &metav1.LabelSelector{}
		if r.IntN(3) > 0 {
			s.MatchLabels = map[string]string{"app": string(rune('a' + r.IntN(3)))}
		}
		return s
	}
	policy := func(name string) *networkingv1.NetworkPolicy {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", r.IntN(2)), Name: name}}
		np.Spec.PodSelector = *selector()
		np.Spec.PolicyTypes = [][]networkingv1.PolicyType{{"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}[r.IntN(3)]
		peers := []networkingv1.NetworkPolicyPeer{
			[]networkingv1.NetworkPolicyPeer{{PodSelector: selector()}, {NamespaceSelector: selector()}, {IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/29"}}}[r.IntN(3)],
		}
		var ports []networkingv1.NetworkPolicyPort
		if r.IntN(2) == 0 {
			port := []intstr.IntOrString{intstr.FromInt32(80), intstr.FromString("web")}[r.IntN(2)]
			tcp := corev1.ProtocolTCP
			ports = []networkingv1.NetworkPolicyPort{{Port: &port, Protocol: &tcp}}
		}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}
		return np
	}
	var peers []netip.Addr
	for i := range 20 {
		peers = append(peers, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	setPod := func(c *model.Cluster, i int) {
		p := model.Pod{
			Key: model.Key{Namespace: fmt.Sprint("ns", i%2), Name: fmt.Sprint("p", i)}, Labels: labels(), Node: fmt.Sprint("n", i%3),
			Finished: r.IntN(10) == 0, IPs: []netip.Addr{peers[i]},
		}
		if r.IntN(5) == 0 {
			p.IPs = []netip.Addr{peers[12+r.IntN(8)]} // some have one address for a while
		}
		if r.IntN(2) == 0 {
			p.Ports = []model.NamedPort{{Name: "web", Protocol: model.TCP, Port: []uint16{81, 8080}[r.IntN(2)]}}
		}
		c.SetPod(p)
	}
	changed := 0
	for range 30 {
		c := model.New("n0")
		for i := range 12 {
			setPod(c, i)
		}
		c.Commit()
		before := verdicts(c, peers)
		for range 60 {
			for range 1 + r.IntN(2) {
				switch r.IntN(7) {
				case 0:
					i := r.IntN(12)
					c.DeletePod(model.Key{Namespace: fmt.Sprint("ns", i%2), Name: fmt.Sprint("p", i)})
				case 1:
					c.SetNamespace(model.Namespace{Name: fmt.Sprint("ns", r.IntN(2)), Labels: labels()})
				case 2:
					if err := c.SetPolicy(policy(fmt.Sprint("np", r.IntN(6)))); err != nil {
						t.Fatal(err)
					}
				case 3:
					c.DeletePolicy(model.Key{Namespace: fmt.Sprint("ns", r.IntN(2)), Name: fmt.Sprint("np", r.IntN(6))})
				default:
					setPod(c, r.IntN(12))
				}
			}
			d := c.Commit()
			affected := Affected(c, d)
			after := verdicts(c, peers)
			for q, is := range after {
				was, ok := before[q]
				if !ok || is == was {
					continue
				}
				changed++
				if !slices.Contains(affected, q.own) && !slices.Contains(affected, q.peer) {
					t.Fatalf("%+v became %v, and affected are only %v by %+v", q, is, affected, d)
				}
			}
			before = after
		}
	}
	if changed < 1000 {
		t.Errorf("only %d verdicts changed", changed)
	}

	// A pod of another node that a policy for everyone here names costs its own flows.
	c := model.New("n1")
	for i := range 100 {
		c.SetPod(model.Pod{Key: model.Key{Namespace: "ns", Name: fmt.Sprint("p", i)}, Node: "n1", IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})}})
	}
	if err := c.SetPolicy(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "all"},
		Spec:       networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}}},
	}); err != nil {
		t.Fatal(err)
	}
	if got := Affected(c, c.Commit()); len(got) < 100 {
		t.Errorf("at first %d", len(got))
	}
	c.SetPod(model.Pod{Key: model.Key{Namespace: "ns", Name: "new"}, Node: "n2", IPs: []netip.Addr{addr("10.2.0.1")}})
	if got := Affected(c, c.Commit()); !slices.Equal(got, []netip.Addr{addr("10.2.0.1")}) {
		t.Errorf("by a pod of another node: %v", got)
	}
}
