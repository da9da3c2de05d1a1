package model

import (
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/lib/state"
)

func TestOneClusterFromEndToEnd(t *testing.T) {
	c := New("n1")
	a, b := netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("10.0.2.2")
	c.SetPod(Pod{Key: Key{"dev", "a"}, UID: "1", Labels: map[string]string{"app": "web"}, Node: "n1", IPs: []netip.Addr{a}})
	c.SetPod(Pod{Key: Key{"dev", "b"}, UID: "2", Labels: map[string]string{"app": "db"}, Node: "n2", IPs: []netip.Addr{b}})
	port := intstr.FromInt32(80)
	if err := c.SetPolicy(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "p"},
		Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From:  []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
		}}},
	}); err != nil {
		t.Fatal(err)
	}
	d := c.Commit()
	if len(d.Pods) != 1 || len(d.Policies) != 1 || len(d.Sets) != 1 || len(d.Names) != 2 {
		t.Fatalf("first delta %+v", d)
	}
	if m := c.Sets()[0].Members(state.IPv4); len(m) != 1 || m[0].Addr != b {
		t.Fatalf("members %v", m)
	}
	judge := func(port uint16) bool { return c.Judge(Ingress, Key{"dev", "a"}, a, b, TCP, port).Allowed }
	if !judge(80) || judge(81) {
		t.Fatal("judged wrongly")
	}
	c.SetPod(Pod{Key: Key{"dev", "b"}, UID: "2", Labels: map[string]string{"app": "x"}, Node: "n2", IPs: []netip.Addr{b}})
	if d := c.Commit(); len(d.Pods) != 0 || len(d.Policies) != 0 || len(d.Sets) != 1 || len(d.Names) != 0 {
		t.Fatalf("second delta %+v", d)
	}
	if judge(80) {
		t.Fatal("judged by old labels")
	}
}
