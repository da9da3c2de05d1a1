package explain

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// addPolicies sets policies written as YAML documents of name (NAMESPACE/NAME) and spec.
func addPolicies(t testing.TB, c *model.Cluster, specs map[string]string) {
	t.Helper()
	for name, spec := range specs {
		end, err := ParseEnd(name)
		if err != nil {
			t.Fatal(err)
		}
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: end.Pod.Namespace, Name: end.Pod.Name}}
		if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func key(s string) model.Key {
	e, err := ParseEnd(s)
	if err != nil {
		panic(err)
	}
	return e.Pod
}

// story is the cluster of the tests: two namespaces, two nodes.
func story(t testing.TB, specs map[string]string) *Setting {
	t.Helper()
	c := model.New("n1")
	c.SetNamespace(model.Namespace{Name: "dev", Labels: map[string]string{"team": "a"}})
	c.SetNamespace(model.Namespace{Name: "prod", Labels: map[string]string{"team": "b"}})
	pod := func(name, node, label string, ips ...string) *model.Pod {
		p := &model.Pod{Key: key(name), Node: node, Labels: map[string]string{"app": label}, IPs: addrs(ips...)}
		if node != "" {
			p.HostIPs = addrs("192.168.0.1" + node[1:])
		}
		return p
	}
	web := pod("dev/myapp", "n1", "myapp", "10.244.1.2", "fd00:1::2")
	web.Ports = []model.NamedPort{{Name: "http", Protocol: model.TCP, Port: 8080}, {Name: "dns", Protocol: model.TCP, Port: 53}, {Name: "dns", Protocol: model.UDP, Port: 5353}}
	host, job := pod("dev/agent", "n1", "agent"), pod("dev/job", "n1", "job", "10.244.1.9")
	host.HostNetwork, job.Finished = true, true
	host.IPs = host.HostIPs
	pods := []*model.Pod{
		web, host, job, pod("dev/other", "n1", "other", "10.244.1.3"), pod("prod/web", "n2", "web", "10.244.2.2", "fd00:2::2"),
		pod("prod/db", "n2", "db", "10.244.2.3"), pod("prod/new", "", "web"), pod("prod/only6", "n2", "web", "fd00:2::9"),
	}
	placed := Place(pods, nil)
	for _, p := range pods {
		c.SetPod(*p)
	}
	addPolicies(t, c, specs)
	c.Commit()
	return &Setting{Cluster: c, Placed: placed, Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}
}

// randomSetting is a cluster of a few pods with policies that use everything there is.
func randomSetting(t testing.TB, r *rand.Rand) (*Setting, []*model.Pod) {
	t.Helper()
	c := model.New("n0")
	labels := func() map[string]string {
		out := map[string]string{}
		for _, k := range []string{"app", "tier"} {
			if r.IntN(3) > 0 {
				out[k] = string(rune('a' + r.IntN(3)))
			}
		}
		return out
	}
	for i := range 3 {
		c.SetNamespace(model.Namespace{Name: fmt.Sprintf("ns%d", i), Labels: labels()})
	}
	var pods []*model.Pod
	for i := range 12 {
		node := r.IntN(3)
		p := &model.Pod{
			Key: model.Key{Namespace: fmt.Sprintf("ns%d", r.IntN(3)), Name: fmt.Sprintf("p%d", i)}, Labels: labels(),
			Node: fmt.Sprintf("n%d", node), HostIPs: addrs(fmt.Sprintf("192.168.0.%d", node)),
			HostNetwork: r.IntN(10) == 0, Finished: r.IntN(12) == 0,
		}
		if r.IntN(4) > 0 {
			p.IPs = append(p.IPs, addrs(fmt.Sprintf("10.%d.0.%d", node, i+1))...)
		}
		if r.IntN(2) > 0 {
			p.IPs = append(p.IPs, addrs(fmt.Sprintf("fd00:%d::%d", node, i+1))...)
		}
		if p.HostNetwork {
			p.IPs = p.HostIPs
		}
		for _, name := range []string{"http", "dns"} {
			if r.IntN(2) == 0 {
				p.Ports = append(p.Ports, model.NamedPort{Name: name, Protocol: protocols[r.IntN(2)], Port: uint16(80 + r.IntN(3))})
			}
		}
		pods = append(pods, p)
	}
	placed := Place(pods, nil)
	for _, p := range pods {
		c.SetPod(*p)
	}
	for i := range 5 {
		if err := c.SetPolicy(randomPolicy(r, fmt.Sprintf("ns%d", r.IntN(3)), fmt.Sprintf("np%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	c.Commit()
	return &Setting{Cluster: c, Placed: placed}, pods
}

func randomSelector(r *rand.Rand) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	for range r.IntN(3) {
		k, values := []string{"app", "tier"}[r.IntN(2)], []string{string(rune('a' + r.IntN(3))), "c"}
		switch op := []metav1.LabelSelectorOperator{"", "In", "NotIn", "Exists", "DoesNotExist"}[r.IntN(5)]; op {
		case "":
			s.MatchLabels = map[string]string{k: values[0]}
		case "In", "NotIn":
			s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: k, Operator: op, Values: values})
		default:
			s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: k, Operator: op})
		}
	}
	return s
}

func randomPolicy(r *rand.Rand, ns, name string) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	if r.IntN(2) == 0 {
		np.Spec.PodSelector = *randomSelector(r)
	}
	np.Spec.PolicyTypes = [][]networkingv1.PolicyType{{"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}[r.IntN(3)]
	peers := func() []networkingv1.NetworkPolicyPeer {
		var out []networkingv1.NetworkPolicyPeer
		for range r.IntN(3) {
			var p networkingv1.NetworkPolicyPeer
			switch r.IntN(4) {
			case 0:
				p.IPBlock = []*networkingv1.IPBlock{
					{CIDR: "10.0.0.0/8", Except: []string{fmt.Sprintf("10.%d.0.%d/32", r.IntN(3), 1+r.IntN(12))}},
					{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "203.0.113.0/24"}},
					{CIDR: "fd00::/16"},
					{CIDR: "10.1.0.0/28", Except: []string{"10.1.0.4/30", "10.1.0.15/32"}},
					{CIDR: "192.168.0.0/30"},
				}[r.IntN(5)]
			case 1:
				p.PodSelector = randomSelector(r)
			case 2:
				p.NamespaceSelector = randomSelector(r)
			default:
				p.PodSelector, p.NamespaceSelector = randomSelector(r), randomSelector(r)
			}
			out = append(out, p)
		}
		return out
	}
	ports := func() []networkingv1.NetworkPolicyPort {
		var out []networkingv1.NetworkPolicyPort
		for range r.IntN(3) {
			var p networkingv1.NetworkPolicyPort
			proto := []corev1.Protocol{"TCP", "UDP"}[r.IntN(2)]
			p.Protocol = &proto
			switch r.IntN(4) {
			case 0:
			case 1:
				p.Port = new(intstr.IntOrString)
				*p.Port = intstr.FromString([]string{"http", "dns"}[r.IntN(2)])
			case 2:
				end := int32(82)
				p.EndPort = &end
				fallthrough
			default:
				p.Port = new(intstr.IntOrString)
				*p.Port = intstr.FromInt32(int32(80 + r.IntN(3)))
			}
			out = append(out, p)
		}
		return out
	}
	for range r.IntN(3) {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers(), Ports: ports()})
	}
	for range r.IntN(3) {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers(), Ports: ports()})
	}
	return np
}
