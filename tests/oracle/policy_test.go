package oracle

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/tools/policy-render/model"
)

func (c *cluster) policy(i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pick(c.Rand, c.namespaces).Name, Name: fmt.Sprintf("policy-%d", i)},
	}
	if !c.chance(30) { // else it selects every pod
		np.Spec.PodSelector = c.selector(false)
	}
	np.Spec.PolicyTypes = pick(c.Rand, [][]networkingv1.PolicyType{
		nil, nil,
		{},
		{networkingv1.PolicyTypeIngress},
		{networkingv1.PolicyTypeEgress},
		{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress},
	})
	switch n := c.IntN(10); {
	case n < 2: // nil
	case n < 3:
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{}
	default:
		for range 1 + c.IntN(3) {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: c.peers(), Ports: c.ports()})
		}
	}
	switch n := c.IntN(10); {
	case n < 3:
	case n < 4:
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{}
	default:
		for range 1 + c.IntN(3) {
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: c.peers(), Ports: c.ports()})
		}
	}
	return np
}

// selector is one of few requirements. A peer's may be one that matches nothing, in a cluster that is lax.
func (c *cluster) selector(peer bool) metav1.LabelSelector {
	var s metav1.LabelSelector
	if c.chance(10) {
		return s
	}
	if c.chance(45) {
		k := pick(c.Rand, labelKeys)
		s.MatchLabels = map[string]string{k: pick(c.Rand, labelValues[k])}
		if c.chance(70) {
			return s
		}
	}
	for range 1 + c.IntN(2) {
		k := pick(c.Rand, labelKeys)
		e := metav1.LabelSelectorRequirement{Key: k, Operator: pick(c.Rand, []metav1.LabelSelectorOperator{
			metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist,
		})}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			for range 1 + c.IntN(2) {
				e.Values = append(e.Values, pick(c.Rand, labelValues[k]))
			}
			if peer && c.lax && c.chance(10) {
				e.Values = nil
			}
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func (c *cluster) peers() []networkingv1.NetworkPolicyPeer {
	if c.chance(20) {
		return pick(c.Rand, [][]networkingv1.NetworkPolicyPeer{nil, {}})
	}
	var list []networkingv1.NetworkPolicyPeer
	for range 1 + c.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		pods, namespaces := c.selector(true), c.selector(true)
		if c.chance(25) {
			namespaces = metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: pick(c.Rand, c.namespaces).Name}}
		}
		switch c.IntN(5) {
		case 0:
			p.PodSelector = &pods
		case 1:
			p.NamespaceSelector = &namespaces
		case 2:
			p.PodSelector, p.NamespaceSelector = &pods, &namespaces
		default:
			p.IPBlock = c.block()
		}
		list = append(list, p)
	}
	return list
}

func (c *cluster) ports() []networkingv1.NetworkPolicyPort {
	if c.chance(25) {
		return pick(c.Rand, [][]networkingv1.NetworkPolicyPort{nil, {}})
	}
	var list []networkingv1.NetworkPolicyPort
	for range 1 + c.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		if c.chance(80) {
			protocol := pick(c.Rand, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP})
			p.Protocol = &protocol
		}
		number := pick(c.Rand, ports)
		value := intstr.FromInt32(int32(number))
		switch n := c.IntN(10); {
		case n < 2: // any port
		case n < 5:
			value = intstr.FromString(pick(c.Rand, append(portNames, "nobody-has-it")))
			p.Port = &value
		case n < 7:
			end := int32(number) + int32(c.IntN(65536-int(number)))
			if c.chance(50) {
				end = min(int32(number)+int32(c.IntN(3)), 65535)
			}
			p.Port, p.EndPort = &value, &end
		default:
			p.Port = &value
		}
		list = append(list, p)
	}
	return list
}

// anAddress is one that packets have.
func (c *cluster) anAddress() netip.Addr {
	p := &c.pods[c.IntN(len(c.pods))]
	if c.chance(35) {
		return pick(c.Rand, c.external)
	}
	return pick(c.Rand, p.IPs)
}

// block is an ipBlock around an address that packets have, with up to three excepts within it. It may be
// written the way that old objects are: with host bits, with leading zeros.
func (c *cluster) block() *networkingv1.IPBlock {
	base := c.anAddress()
	lengths := []int{0, 8, 12, 16, 22, 24, 25, 28, 29, 30, 31, 32}
	if base.Is6() {
		lengths = []int{0, 16, 32, 48, 56, 60, 64, 65, 120, 124, 125, 126, 127, 128}
	}
	length := pick(c.Rand, lengths)
	b := &networkingv1.IPBlock{CIDR: c.spell(netip.PrefixFrom(base, length))}
	for range c.IntN(4) {
		inside := base
		for range 8 { // around some other address of the block, if one is found
			if a := c.anAddress(); netip.PrefixFrom(base, length).Contains(a) {
				inside = a
				break
			}
		}
		longer := lengths[len(lengths)-1-c.IntN(len(lengths))]
		if longer > length {
			b.Except = append(b.Except, c.spell(netip.PrefixFrom(inside, longer)))
		}
	}
	return b
}

func (c *cluster) spell(p netip.Prefix) string {
	if !c.chance(15) {
		p = p.Masked()
	}
	text := p.String()
	if p.Addr().Is4() && c.chance(5) {
		octets := strings.SplitN(text, ".", 2)
		text = fmt.Sprintf("%03s.%s", octets[0], octets[1])
	}
	return text
}

// objects is the cluster as an API server would list it.
func (c *cluster) objects() []any {
	var list []any
	for _, n := range c.namespaces {
		list = append(list, corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels},
		})
	}
	for i := range c.pods {
		list = append(list, object(&c.pods[i], c.IntN(3)))
	}
	for _, np := range c.policies {
		list = append(list, np)
	}
	return list
}

// object spreads the named ports of a pod over its containers, sidecars among them.
func object(p *model.Pod, spread int) corev1.Pod {
	o := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: types.UID(p.UID), Labels: p.Labels},
		Spec:       corev1.PodSpec{NodeName: p.Node, HostNetwork: p.HostNetwork, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if p.Finished {
		o.Status.Phase = corev1.PodSucceeded
		if spread == 0 {
			o.Status.Phase = corev1.PodFailed
		}
	}
	for _, a := range p.IPs {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	for _, a := range p.HostIPs {
		o.Status.HostIPs = append(o.Status.HostIPs, corev1.HostIP{IP: a.String()})
	}
	always := corev1.ContainerRestartPolicyAlways
	o.Spec.InitContainers = []corev1.Container{
		{Name: "sidecar", RestartPolicy: &always},
		{Name: "init", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 9000}}}, // over before any packet
	}
	for i, named := range p.Ports {
		port := corev1.ContainerPort{Name: named.Name, ContainerPort: int32(named.Port), Protocol: protocolOf[named.Protocol]}
		if named.Protocol == model.TCP && spread == 1 {
			port.Protocol = "" // filled in by an API server, not in a file
		}
		containers := []*corev1.Container{&o.Spec.Containers[0], &o.Spec.Containers[1], &o.Spec.InitContainers[0]}
		in := containers[(i+spread)%3]
		in.Ports = append(in.Ports, port)
	}
	return o
}

var protocolOf = map[model.Protocol]corev1.Protocol{
	model.TCP: corev1.ProtocolTCP, model.UDP: corev1.ProtocolUDP, model.SCTP: corev1.ProtocolSCTP, model.ICMP: "ICMP", model.ICMPv6: "ICMP",
}
