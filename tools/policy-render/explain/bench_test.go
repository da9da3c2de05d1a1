package explain

import (
	"fmt"
	"io"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// large is 50 namespaces of 20 pods, of 5 applications, and 4 policies in each. distinct: no two pods are alike.
func large(b *testing.B, distinct, closed bool) *Setting {
	b.Helper()
	c := model.New("n1")
	for i := range 50 {
		ns := fmt.Sprintf("ns%d", i)
		c.SetNamespace(model.Namespace{Name: ns, Labels: map[string]string{"team": fmt.Sprint(i % 5)}})
		for j := range 20 {
			labels := map[string]string{"app": fmt.Sprint(j % 5)}
			if distinct {
				labels["pod"] = fmt.Sprint(j)
			}
			c.SetPod(model.Pod{Key: model.Key{Namespace: ns, Name: fmt.Sprintf("p%d", j)}, Node: "n1", Labels: labels, IPs: addrs(fmt.Sprintf("10.%d.0.%d", i, j+1))})
		}
		policy := func(name, key, value string, from ...networkingv1.NetworkPolicyPeer) {
			np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
			np.Spec.PodSelector.MatchLabels = map[string]string{key: value}
			np.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress"}
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from}}
			np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: from}, {To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{fmt.Sprintf("10.%d.0.0/16", i)}}}}}}
			if err := c.SetPolicy(np); err != nil {
				b.Fatal(err)
			}
		}
		of := func(key, value string) *metav1.LabelSelector {
			return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
		}
		for j := range 4 {
			policy(fmt.Sprint("app", j), "app", fmt.Sprint(j), networkingv1.NetworkPolicyPeer{PodSelector: of("app", fmt.Sprint(j+1))},
				networkingv1.NetworkPolicyPeer{NamespaceSelector: of("team", fmt.Sprint(j))})
		}
		if distinct {
			for j := range 20 {
				policy(fmt.Sprint("pod", j), "pod", fmt.Sprint(j), networkingv1.NetworkPolicyPeer{PodSelector: of("pod", fmt.Sprint(j/2))})
			}
		}
		if closed {
			policy("closed", "app", "4", networkingv1.NetworkPolicyPeer{NamespaceSelector: of("team", "0")})
		}
	}
	c.Commit()
	return &Setting{Cluster: c}
}

func BenchmarkMatrix(b *testing.B) {
	for _, distinct := range []bool{false, true} {
		b.Run(fmt.Sprintf("pods=1000/distinct=%v", distinct), func(b *testing.B) {
			s := large(b, distinct, false)
			for b.Loop() {
				if err := NewMatrix(s, nil).CSV(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	for _, distinct := range []bool{false, true} {
		b.Run(fmt.Sprintf("pods=1000/distinct=%v", distinct), func(b *testing.B) {
			old, now := large(b, distinct, false), large(b, distinct, true)
			for b.Loop() {
				if d := Diff(old, now); len(d.Denied)+len(d.Allowed) == 0 || d.Text() == "" {
					b.Fatal("no difference")
				}
			}
		})
	}
}

func BenchmarkExplain(b *testing.B) {
	s := large(b, true, true)
	from, to := End{Pod: model.Key{Namespace: "ns1", Name: "p1"}}, End{Pod: model.Key{Namespace: "ns2", Name: "p4"}}
	for b.Loop() {
		if _, err := s.Explain(from, to, Port{Protocol: model.TCP, Number: 80}); err != nil {
			b.Fatal(err)
		}
	}
}
