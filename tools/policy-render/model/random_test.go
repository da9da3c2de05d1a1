package model

import (
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func randomLabels(r *rand.Rand) map[string]string {
	out := map[string]string{}
	for range r.IntN(3) {
		out[pick(r, "app", "tier")] = pick(r, "x", "y", "")
	}
	return out
}

func randomPod(r *rand.Rand, k Key) Pod {
	p := Pod{
		Key: k, UID: pick(r, "", "1", "2"), Labels: randomLabels(r), Node: pick(r, "n1", "n1", "n2", ""),
		HostNetwork: r.IntN(10) == 0, Finished: r.IntN(10) == 0, IPs: randomAddrs(r),
	}
	for range r.IntN(3) {
		p.Ports = append(p.Ports, NamedPort{pick(r, "http", "dns"), pick(r, TCP, UDP), pick[uint16](r, 80, 8080, 53)})
	}
	if r.IntN(3) == 0 {
		p.HostIPs = randomAddrs(r)
	}
	return p
}

func randomSelector(r *rand.Rand) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	if r.IntN(2) == 0 {
		s.MatchLabels = randomLabels(r)
	}
	for range r.IntN(2) {
		e := metav1.LabelSelectorRequirement{
			Key:      pick(r, "app", "tier", nameLabel),
			Operator: pick(r, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist),
		}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = pick(r, []string{"x"}, []string{"y", "x"}, []string{"dev"}, []string{""})
		}
		if r.IntN(30) == 0 {
			e.Operator = "Like" // of an object that no API server would take today
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func randomPeers(r *rand.Rand) (out []networkingv1.NetworkPolicyPeer) {
	for range r.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch r.IntN(4) {
		case 0:
			p.PodSelector = randomSelector(r)
		case 1:
			p.NamespaceSelector = randomSelector(r)
		case 2:
			p.PodSelector, p.NamespaceSelector = randomSelector(r), randomSelector(r)
		default:
			p.IPBlock = &networkingv1.IPBlock{CIDR: pick(r, "10.0.0.0/24", "10.0.0.7/16", "0.0.0.0/0", "10.00.1.3/32", "fd00::/64", "::/0")}
			if strings.HasPrefix(p.IPBlock.CIDR, "10.0.0.") {
				for range r.IntN(3) {
					p.IPBlock.Except = append(p.IPBlock.Except, pick(r, "10.0.0.2/31", "10.0.0.3/32", "10.0.0.0/30", "10.0.0.128/25", "10.0.0.0/25"))
				}
			}
		}
		out = append(out, p)
	}
	return out
}

func randomPorts(r *rand.Rand) (out []networkingv1.NetworkPolicyPort) {
	for range r.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		if r.IntN(2) == 0 {
			proto := pick(r, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
			p.Protocol = &proto
		}
		switch r.IntN(4) {
		case 0:
			name := intstr.FromString(pick(r, "http", "dns"))
			p.Port = &name
		case 1, 2:
			n := intstr.FromInt32(pick[int32](r, 80, 8080, 53))
			p.Port = &n
			if r.IntN(3) == 0 {
				end := n.IntVal + int32(r.IntN(3))
				p.EndPort = &end
			}
		}
		out = append(out, p)
	}
	return out
}

func randomPolicy(r *rand.Rand, k Key) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}}
	p.Spec.PodSelector = *randomSelector(r)
	for range r.IntN(3) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: randomPeers(r), Ports: randomPorts(r)})
	}
	for range r.IntN(3) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: randomPeers(r), Ports: randomPorts(r)})
	}
	switch r.IntN(4) {
	case 0:
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	case 1:
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress}
	}
	return p
}

// isNode says whether a pod's status, or that of a running pod of the same node, tells of the address as the node's.
func (o *objectsNow) isNode(c *Cluster, subject Pod, a netip.Addr) bool {
	if slices.Contains(subject.HostIPs, a) {
		return true
	}
	for _, p := range o.pods {
		if subject.Node != "" && p.Node == subject.Node && !p.Finished && c.PodByAddr(a) == nil &&
			(slices.Contains(p.HostIPs, a) || p.HostNetwork && slices.Contains(p.IPs, a)) {
			return true
		}
	}
	return false
}

// naive judges by the objects themselves with Kubernetes' own selectors, one packet at a time, sharing no code with
// what is tested but the addresses in force.
func (o *objectsNow) naive(c *Cluster, dir Direction, k Key, self, peer netip.Addr, proto Protocol, port uint16) bool {
	subject := o.pods[k]
	if subject.HostNetwork || subject.Finished || self == peer || dir == Ingress && o.isNode(c, subject, peer) {
		return true
	}
	isolated := false
	for _, np := range o.policies {
		spec := np.Spec
		if np.Namespace != k.Namespace {
			continue
		}
		sel, err := metav1.LabelSelectorAsSelector(&spec.PodSelector)
		if err == nil && !sel.Matches(labels.Set(subject.Labels)) {
			continue
		}
		types := spec.PolicyTypes
		if len(types) == 0 {
			types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			if len(spec.Egress) > 0 {
				types = append(types, networkingv1.PolicyTypeEgress)
			}
		}
		if !slices.Contains(types, [...]networkingv1.PolicyType{"Ingress", "Egress"}[dir]) {
			continue
		}
		isolated = true
		if err != nil {
			continue
		}
		if dir == Ingress {
			named := slices.Clone(subject.Ports) // and those of a second pod that has the same address for a moment
			for tk, twin := range o.pods {
				if tk.Namespace == k.Namespace && slices.Contains(c.Addrs(tk), self) && sel.Matches(labels.Set(twin.Labels)) {
					named = append(named, twin.Ports...)
				}
			}
			for _, r := range spec.Ingress {
				if o.naivePeers(c, np.Namespace, r.From, peer, nil) && naivePorts(r.Ports, named, proto, port) {
					return true
				}
			}
			continue
		}
		for _, r := range spec.Egress {
			if o.naivePeers(c, np.Namespace, r.To, peer, nil) && naivePorts(r.Ports, nil, proto, port) {
				return true
			}
			for pk, p := range o.pods { // a named port counts where the pod that is selected has it
				if slices.Contains(c.Addrs(pk), peer) && o.naivePeers(c, np.Namespace, r.To, peer, &pk) && len(r.Ports) > 0 && naivePorts(r.Ports, p.Ports, proto, port) {
					return true
				}
			}
		}
	}
	return !isolated
}

// naivePeers says whether the peers name the address, or the address as that of one pod.
func (o *objectsNow) naivePeers(c *Cluster, namespace string, peers []networkingv1.NetworkPolicyPeer, a netip.Addr, only *Key) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			if inBlock(p.IPBlock.CIDR, a) && !slices.ContainsFunc(p.IPBlock.Except, func(e string) bool { return inBlock(e, a) }) {
				return true
			}
			continue
		}
		for k, pod := range o.pods {
			if only != nil && k != *only || !slices.Contains(c.Addrs(k), a) {
				continue
			}
			nsLabels := map[string]string{}
			maps.Copy(nsLabels, o.namespaces[k.Namespace].Labels)
			nsLabels[nameLabel] = k.Namespace
			ok := p.NamespaceSelector != nil || k.Namespace == namespace
			for sel, set := range map[*metav1.LabelSelector]map[string]string{p.NamespaceSelector: nsLabels, p.PodSelector: pod.Labels} {
				if sel != nil {
					s, err := metav1.LabelSelectorAsSelector(sel)
					ok = ok && err == nil && s.Matches(labels.Set(set))
				}
			}
			if ok {
				return true
			}
		}
	}
	return false
}

func inBlock(block string, a netip.Addr) bool {
	_, n, err := net.ParseCIDR(strings.ReplaceAll(block, ".00.", ".0."))
	return err == nil && n.Contains(a.AsSlice()) && len(n.IP) == len(a.AsSlice())
}

func naivePorts(ports []networkingv1.NetworkPolicyPort, named []NamedPort, proto Protocol, port uint16) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		want := "TCP"
		if p.Protocol != nil {
			want = string(*p.Protocol)
		}
		if map[Protocol]string{TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}[proto] != want {
			continue
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if slices.Contains(named, NamedPort{p.Port.StrVal, proto, port}) {
				return true
			}
		case p.EndPort == nil && int32(port) == p.Port.IntVal, p.EndPort != nil && int32(port) >= p.Port.IntVal && int32(port) <= *p.EndPort:
			return true
		}
	}
	return false
}
