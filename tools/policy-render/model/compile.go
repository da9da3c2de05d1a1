package model

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// compiled is a policy before it is part of a cluster.
type compiled struct {
	Policy
	subjects selector
	used     []*Set // named by the rules, once for each use
	inner    []*Set // named only by the PortSets among them
}

// intern gives the one Set of this content.
type intern func(*Set) *Set

// compile makes rules of a policy as the API server would default it. What is invalid matches nothing: an
// invalid peer or port is left out, and with an invalid spec.podSelector the policy isolates its whole namespace and
// allows nothing, since nobody can tell which pods were meant.
func compile(np *networkingv1.NetworkPolicy, in intern) *compiled {
	c := &compiled{Policy: Policy{Key: Key{np.Namespace, np.Name}}}
	for _, t := range np.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			c.Isolates[Ingress] = true
		case networkingv1.PolicyTypeEgress:
			c.Isolates[Egress] = true
		default: // of a later Kubernetes: it would isolate something
			c.fault("spec.policyTypes: unknown type %q", t)
			c.Isolates = [2]bool{true, true}
		}
	}
	if len(np.Spec.PolicyTypes) == 0 {
		c.Isolates = [2]bool{true, len(np.Spec.Egress) > 0}
	}
	var err error
	if c.subjects, err = compileSelector(&np.Spec.PodSelector); err != nil {
		c.subjects = nil
		c.fault("spec.podSelector: %v", err)
		return c
	}
	c.Subjects = c.subjects.String()
	if c.Isolates[Ingress] {
		for i, r := range np.Spec.Ingress {
			c.rule(Ingress, i, r.From, r.Ports, in)
		}
	}
	if c.Isolates[Egress] {
		for i, r := range np.Spec.Egress {
			c.rule(Egress, i, r.To, r.Ports, in)
		}
	}
	return c
}

func (c *compiled) fault(format string, args ...any) {
	if c.Invalid == "" {
		c.Invalid = fmt.Sprintf(format, args...)
	}
}

func (c *compiled) rule(dir Direction, i int, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, in intern) {
	r := Rule{Index: i, AnyPeer: len(peers) == 0, AnyPort: len(ports) == 0}
	section, field := "spec.ingress", "from"
	if dir == Egress {
		section, field = "spec.egress", "to"
	}
	var ranges []Range
	for j, p := range peers {
		switch set, cidr, err := compilePeer(c.Namespace, p); {
		case err != nil:
			c.fault("%s[%d].%s[%d]: %v", section, i, field, j, err)
		case set != nil:
			r.Peers = append(r.Peers, in(set))
		default:
			ranges = append(ranges, cidr...)
		}
	}
	if ranges = merge(ranges); len(ranges) > 0 {
		r.Peers = append(r.Peers, in(cidrSet(ranges)))
	}
	sortSets(r.Peers)
	r.Peers = slices.Compact(r.Peers)
	for j, p := range ports {
		switch name, pr, err := compilePort(p); {
		case err != nil:
			c.fault("%s[%d].ports[%d]: %v", section, i, j, err)
		case name == "":
			r.Ports = append(r.Ports, pr)
		default:
			over, all := r.Peers, r.AnyPeer
			if dir == Ingress {
				over, all = []*Set{in(selectorSet(c.Namespace, nil, c.subjects))}, false
			}
			if !all && len(over) == 0 {
				continue // nobody
			}
			set := in(portSet(name, pr.Protocol, all, over))
			if !slices.ContainsFunc(r.Named, func(n NamedPorts) bool { return n.Set == set }) {
				r.Named = append(r.Named, NamedPorts{name, pr.Protocol, set})
				c.inner = append(c.inner, over...)
			}
		}
	}
	r.Ports = mergePorts(r.Ports)
	slices.SortFunc(r.Named, func(a, b NamedPorts) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), strings.Compare(a.Name, b.Name))
	})
	c.used = append(c.used, r.Peers...)
	for _, n := range r.Named {
		c.used = append(c.used, n.Set)
	}
	c.Rules[dir] = append(c.Rules[dir], r)
}

func compilePeer(namespace string, p networkingv1.NetworkPolicyPeer) (*Set, []Range, error) {
	if p.IPBlock != nil {
		if p.PodSelector != nil || p.NamespaceSelector != nil {
			return nil, nil, errors.New("has both ipBlock and a selector")
		}
		block, err := ParseBlock(p.IPBlock.CIDR)
		if err != nil {
			return nil, nil, fmt.Errorf("ipBlock.cidr: %w", err)
		}
		except := make([]netip.Prefix, 0, len(p.IPBlock.Except))
		for i, e := range p.IPBlock.Except {
			x, err := ParseBlock(e)
			if err == nil {
				err = CheckExcept(block, x)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("ipBlock.except[%d]: %w", i, err)
			}
			except = append(except, x)
		}
		return nil, subtract(block, except), nil
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		return nil, nil, errors.New("names no peer")
	}
	var nsSel, podSel selector
	var err error
	if p.PodSelector != nil {
		if podSel, err = compileSelector(p.PodSelector); err != nil {
			return nil, nil, fmt.Errorf("podSelector: %w", err)
		}
	}
	if p.NamespaceSelector != nil {
		if nsSel, err = compileSelector(p.NamespaceSelector); err != nil {
			return nil, nil, fmt.Errorf("namespaceSelector: %w", err)
		}
		namespace = ""
	}
	return selectorSet(namespace, nsSel, podSel), nil, nil
}

// compilePort gives a range, or the name and protocol of a named port.
func compilePort(p networkingv1.NetworkPolicyPort) (string, PortRange, error) {
	out := PortRange{Protocol: TCP, To: 65535}
	if p.Protocol != nil {
		var ok bool
		if out.Protocol, ok = ParseProtocol(string(*p.Protocol)); !ok {
			return "", out, fmt.Errorf("protocol %q is not one of TCP, UDP, SCTP", *p.Protocol)
		}
	}
	switch {
	case p.Port == nil && p.EndPort != nil:
		return "", out, errors.New("endPort without port")
	case p.Port == nil:
		return "", out, nil
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			return "", out, errors.New("endPort with a named port")
		}
		return p.Port.StrVal, out, CheckPortName(p.Port.StrVal)
	}
	from, to := p.Port.IntVal, p.Port.IntVal
	if p.EndPort != nil {
		to = *p.EndPort
	}
	switch {
	case from < 1 || from > 65535 || to > 65535:
		return "", out, errors.New("a port is a number from 1 to 65535")
	case to < from:
		return "", out, fmt.Errorf("endPort %d is below port %d", to, from)
	}
	out.From, out.To = uint16(from), uint16(to)
	return "", out, nil
}

// ParseProtocol reads "TCP", "UDP" or "SCTP".
func ParseProtocol(s string) (Protocol, bool) {
	switch corev1.Protocol(s) {
	case corev1.ProtocolTCP:
		return TCP, true
	case corev1.ProtocolUDP:
		return UDP, true
	case corev1.ProtocolSCTP:
		return SCTP, true
	}
	return 0, false
}

// String is the protocol's name, or its number.
func (p Protocol) String() string {
	switch p {
	case ICMP:
		return "ICMP"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMPv6:
		return "ICMPv6"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprint(uint8(p))
}

// mergePorts sorts and joins ranges of one protocol that overlap or touch.
func mergePorts(in []PortRange) []PortRange {
	slices.SortFunc(in, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	out := in[:0]
	for _, r := range in {
		if n := len(out); n > 0 && out[n-1].Protocol == r.Protocol && int(r.From) <= int(out[n-1].To)+1 {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return slices.Clip(out)
}

func sortSets(sets []*Set) {
	slices.SortFunc(sets, func(a, b *Set) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.key, b.key))
	})
}
