package oracle

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// reference is cyclonus' matcher, given the same cluster. Where cyclonus is known to be wrong, or says nothing,
// it is asked a question that means the same and that it answers rightly; none of its answers is left out:
//
//   - NotIn: false where the key is absent, Kubernetes says true. `k notin (v)` becomes the union of
//     `k notin (v)` and `!k` (split).
//   - matchLabels with an empty value matches where the key is absent. It becomes `k in ("")` (split).
//   - NotIn without values, which the API server refuses and an old object may hold, matches; we match
//     nothing with such a selector. It becomes `k in ()`, which matches nothing (split).
//   - One port name a question: a packet is asked about once for each name that its port has at its
//     destination, and once without (allowed).
//   - CIDRs are parsed strictly; API servers took leading zeros. They are normalised (cidr).
//   - Defaults of the API server are not known to it (defaulted), nor is the namespaces' label
//     kubernetes.io/metadata.name (peer).
//   - Finished pods and hostNetwork pods are no pods to us, and it does not know of them: it is told of an
//     address outside the cluster (cluster.owner).
//   - It knows no ICMP; asked for the protocol "ICMP" it matches rules without ports only, which is right.
//   - A pod's traffic to itself and a node's to its own pods is not asked about: it has no rule for them.
type reference struct {
	*cluster
	policy          *matcher.Policy
	namespaceLabels map[string]map[string]string
}

func newReference(c *cluster) *reference {
	r := &reference{cluster: c, namespaceLabels: map[string]map[string]string{}}
	for _, n := range c.namespaces {
		labels := map[string]string{corev1.LabelMetadataName: n.Name}
		for k, v := range n.Labels {
			labels[k] = v
		}
		r.namespaceLabels[n.Name] = labels
	}
	var all []*networkingv1.NetworkPolicy
	for _, np := range c.policies {
		all = append(all, plain(np)...)
	}
	r.policy = matcher.BuildNetworkPolicies(false, all)
	return r
}

// allowed is whether the end of a packet in direction dir lets it pass.
func (r *reference) allowed(dir model.Direction, t tuple) bool {
	names := []string{""}
	if to := r.owner[t.to]; to != nil {
		for _, p := range to.Ports {
			if p.Port == t.port && p.Protocol == t.protocol && !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	for _, name := range names {
		traffic := &matcher.Traffic{
			Source: r.peer(t.from), Destination: r.peer(t.to), ResolvedPort: int(t.port), ResolvedPortName: name, Protocol: protocolOf[t.protocol],
		}
		if r.policy.IsIngressOrEgressAllowed(traffic, dir == model.Ingress).IsAllowed() {
			return true
		}
	}
	return false
}

func (r *reference) peer(a netip.Addr) *matcher.TrafficPeer {
	p := r.owner[a]
	if p == nil {
		return &matcher.TrafficPeer{IP: a.String()}
	}
	return &matcher.TrafficPeer{IP: a.String(), Internal: &matcher.InternalPeer{
		Namespace: p.Namespace, NamespaceLabels: r.namespaceLabels[p.Namespace], PodLabels: p.Labels,
	}}
}

// plain is a policy in words that cyclonus understands: several policies, with the same effect together.
func plain(np *networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
	np = np.DeepCopy()
	if len(np.Spec.PolicyTypes) == 0 {
		np.Spec.PolicyTypes = defaulted(np)
	}
	for i := range np.Spec.Ingress {
		np.Spec.Ingress[i].From = plainPeers(np.Spec.Ingress[i].From)
	}
	for i := range np.Spec.Egress {
		np.Spec.Egress[i].To = plainPeers(np.Spec.Egress[i].To)
	}
	var all []*networkingv1.NetworkPolicy
	for _, s := range split(np.Spec.PodSelector) {
		one := np.DeepCopy()
		one.Spec.PodSelector = s
		all = append(all, one)
	}
	return all
}

func defaulted(np *networkingv1.NetworkPolicy) []networkingv1.PolicyType {
	types := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(np.Spec.Egress) > 0 {
		types = append(types, networkingv1.PolicyTypeEgress)
	}
	return types
}

func plainPeers(peers []networkingv1.NetworkPolicyPeer) []networkingv1.NetworkPolicyPeer {
	var all []networkingv1.NetworkPolicyPeer
	for _, p := range peers {
		if p.IPBlock != nil {
			block := networkingv1.IPBlock{CIDR: cidr(p.IPBlock.CIDR)}
			for _, e := range p.IPBlock.Except {
				block.Except = append(block.Except, cidr(e))
			}
			all = append(all, networkingv1.NetworkPolicyPeer{IPBlock: &block})
			continue
		}
		for _, pods := range splitPointer(p.PodSelector) {
			for _, namespaces := range splitPointer(p.NamespaceSelector) {
				all = append(all, networkingv1.NetworkPolicyPeer{PodSelector: pods, NamespaceSelector: namespaces})
			}
		}
	}
	return all
}

func splitPointer(s *metav1.LabelSelector) []*metav1.LabelSelector {
	if s == nil {
		return []*metav1.LabelSelector{nil}
	}
	var all []*metav1.LabelSelector
	for _, one := range split(*s) {
		all = append(all, &one)
	}
	return all
}

// split is a list of selectors of which one or another matches exactly where s does, by Kubernetes' rules.
func split(s metav1.LabelSelector) []metav1.LabelSelector {
	all := []metav1.LabelSelector{{}}
	and := func(alternatives ...metav1.LabelSelectorRequirement) {
		var longer []metav1.LabelSelector
		for _, one := range all {
			for _, e := range alternatives {
				longer = append(longer, metav1.LabelSelector{MatchExpressions: append(slices.Clone(one.MatchExpressions), e)})
			}
		}
		all = longer
	}
	for k, v := range s.MatchLabels { // one at most
		and(metav1.LabelSelectorRequirement{Key: k, Operator: metav1.LabelSelectorOpIn, Values: []string{v}})
	}
	for _, e := range s.MatchExpressions {
		switch {
		case e.Operator != metav1.LabelSelectorOpNotIn:
			and(e)
		case len(e.Values) == 0:
			and(metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOpIn})
		default:
			and(e, metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOpDoesNotExist})
		}
	}
	return all
}

// cidr is a CIDR as net.ParseCIDR takes it: 010.244.1.2/16 as 10.244.1.2/16.
func cidr(text string) string {
	address, length, _ := strings.Cut(text, "/")
	if octets := strings.Split(address, "."); len(octets) == 4 {
		for i, o := range octets {
			n, _ := strconv.Atoi(o)
			octets[i] = strconv.Itoa(n)
		}
		address = strings.Join(octets, ".")
	}
	return address + "/" + length
}
