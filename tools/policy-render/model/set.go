package model

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

// Set is a set of addresses, shared by every rule with the same content. It holds what decides its members,
// never the members: these are worked out from the pods when asked, so that a set costs the same at any size.
type Set struct {
	kind Kind
	key  string
	hash string
	c    *Cluster

	// SelectorSet: pods of one namespace, or of those that nsSel matches.
	namespace string
	nsSel     selector
	podSel    selector

	ranges []Range // CIDRSet

	// PortSet: the port of this name of the pods in one of over; of all pods where over is empty and any is set.
	name  string
	proto Protocol
	any   bool
	over  []*Set

	holders int  // policies that name it
	uses    int  // uses by relevant policies
	changed bool // since the last Commit
}

// Kind is what the members are.
func (s *Set) Kind() Kind { return s.kind }

// Key is the canonical content: what decides the members. "dev/{app=web}" are the pods of the namespace dev with that
// label, "{team=a}/{}" all pods of the namespaces with that label, "10.0.0.0/8,10.1.0.1-10.1.0.9" addresses,
// "http/TCP of dev/{app=web}" the ports of those pods.
func (s *Set) Key() string { return s.key }

// Hash is the short form of the key for names: 12 hexadecimal digits, no two sets of a cluster have the same.
func (s *Set) Hash() string { return s.hash }

// InUse says whether a relevant policy uses it: a set of a Delta that is not in use went.
func (s *Set) InUse() bool { return s.uses > 0 }

func hashOf(kind Kind, key string, salt int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", kind, salt, key))
	return hex.EncodeToString(sum[:6])
}

func selectorSet(namespace string, nsSel, podSel selector) *Set {
	if name, ok := nsSel.exactName(); ok && namespace == "" && name != "" {
		namespace, nsSel = name, nil
	}
	key := namespace
	if namespace == "" {
		key = "{" + nsSel.String() + "}"
	}
	return &Set{kind: SelectorSet, key: key + "/{" + podSel.String() + "}", namespace: namespace, nsSel: nsSel, podSel: podSel}
}

func cidrSet(ranges []Range) *Set {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return &Set{kind: CIDRSet, key: strings.Join(texts, ","), ranges: slices.Clip(ranges)}
}

// portSet takes over sorted by key; nil for all pods.
func portSet(name string, proto Protocol, any bool, over []*Set) *Set {
	keys := make([]string, len(over))
	for i, o := range over {
		keys[i] = o.key
	}
	of := strings.Join(keys, " + ")
	if any {
		of = "*"
	}
	return &Set{kind: PortSet, key: name + "/" + proto.String() + " of " + of, name: name, proto: proto, any: any, over: over}
}

// home is the namespace of all that can be members, empty where there is more than one.
func (s *Set) home() string {
	if s.kind == PortSet && len(s.over) == 1 {
		return s.over[0].namespace
	}
	return s.namespace
}

// takesNamespace says whether pods of the namespace can be members; l are its labels.
func (s *Set) takesNamespace(n *namespace, l map[string]string) bool {
	if s.namespace != "" {
		return s.namespace == n.name
	}
	return len(l) > 0 && s.nsSel.matches(l)
}

// takes says whether a pod with these facts and this address is in the set, PortSets apart from the port.
func (s *Set) takes(g *group, nsLabels map[string]string, a netip.Addr) bool {
	switch s.kind {
	case SelectorSet:
		return s.takesNamespace(g.ns, nsLabels) && s.podSel.matches(g.labels)
	case CIDRSet:
		return inRanges(s.ranges, a)
	}
	if !g.names(s.name, s.proto) {
		return false
	}
	for _, o := range s.over {
		if o.takes(g, nsLabels, a) {
			return true
		}
	}
	return s.any
}

// Contains says whether the address is a member, of a PortSet with any port.
func (s *Set) Contains(a netip.Addr) bool {
	if s.kind == CIDRSet {
		return inRanges(s.ranges, a)
	}
	first, more := s.c.owners(a)
	if first == nil {
		return false
	}
	if s.takes(first.group, first.group.ns.labels, a) {
		return true
	}
	for _, p := range more {
		if s.takes(p.group, p.group.ns.labels, a) {
			return true
		}
	}
	return false
}

// ContainsPort says whether a PortSet has the pair.
func (s *Set) ContainsPort(a netip.Addr, port uint16) bool {
	if s.kind != PortSet {
		return false
	}
	first, more := s.c.owners(a)
	if first == nil {
		return false
	}
	if first.group.has(s.name, s.proto, port) && s.takes(first.group, first.group.ns.labels, a) {
		return true
	}
	for _, p := range more {
		if p.group.has(s.name, s.proto, port) && s.takes(p.group, p.group.ns.labels, a) {
			return true
		}
	}
	return false
}

// Ranges are the ranges of a CIDRSet of one family: disjoint, merged, sorted; not to be changed.
func (s *Set) Ranges(f state.Family) []Range { return ofFamily(s.ranges, f) }

// Members are the pods' addresses of one family, with their ports for a PortSet, sorted; none for a CIDRSet.
func (s *Set) Members(f state.Family) []Member {
	var out []Member
	s.each(func(p *pod, a netip.Addr) {
		if state.FamilyOf(a) != f {
			return
		}
		if s.kind == SelectorSet {
			out = append(out, Member{Addr: a, Pod: p.Key})
			return
		}
		for _, np := range p.group.ports {
			if np.Name == s.name && np.Protocol == s.proto {
				out = append(out, Member{Addr: a, Port: np.Port, Pod: p.Key})
			}
		}
	})
	slices.SortFunc(out, compareMembers)
	return slices.CompactFunc(out, func(a, b Member) bool { return a.Addr == b.Addr && a.Port == b.Port })
}

// each calls f for every address of every pod that is a member.
func (s *Set) each(f func(*pod, netip.Addr)) {
	switch s.kind {
	case CIDRSet:
	case SelectorSet:
		s.c.eachNamespace(s.namespace, func(n *namespace) {
			if !s.takesNamespace(n, n.labels) {
				return
			}
			for _, g := range n.groups {
				if len(g.pods) == 0 || !s.podSel.matches(g.labels) {
					continue
				}
				for _, p := range g.pods {
					for _, a := range p.addrs {
						f(p, a)
					}
				}
			}
		})
	default:
		s.c.eachNamespace(s.home(), func(n *namespace) {
			for _, g := range n.groups {
				if !g.names(s.name, s.proto) {
					continue
				}
				for _, p := range g.pods {
					for _, a := range p.addrs {
						if s.takes(g, n.labels, a) {
							f(p, a)
						}
					}
				}
			}
		})
	}
}
