package model

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// namespace is a namespace that has an object, a pod or a policy.
type namespace struct {
	name     string
	given    bool // there is a Namespace object
	labels   map[string]string
	old      map[string]string // labels at the last Commit, nil unless they changed since
	groups   map[string]*group
	pods     map[string]*pod
	policies map[string]*policy
	live     map[*group]struct{} // groups with local pods, as of the last Commit
}

// group is the pods of a namespace with the same labels and named ports. Selectors see no other difference, so
// everything about them is worked out once for the group: copies of one workload are one group.
type group struct {
	ns      *namespace
	key     string
	labels  map[string]string
	ports   []NamedPort
	members int    // pods that point here
	pods    []*pod // of these, those with addresses
	locals  int    // of these, those of this node that policies are enforced for
	// isolating is kept for a live group; the slices are replaced, never changed.
	isolating [2][]*Policy
	cache     atomic.Pointer[isolation] // for the others
}

// isolation is what isolates a group, worked out for a question.
type isolation struct {
	commit   int
	policies [2][]*Policy
}

func (g *group) names(name string, proto Protocol) bool {
	return slices.ContainsFunc(g.ports, func(p NamedPort) bool { return p.Name == name && p.Protocol == proto })
}

func (g *group) has(name string, proto Protocol, port uint16) bool {
	return slices.Contains(g.ports, NamedPort{name, proto, port})
}

type pod struct {
	Pod
	group *group
	at    int          // in group.pods
	addrs []netip.Addr // in force: the endpoints', else status.podIPs
	local bool
}

// eligible says whether the pod is subject and peer.
func (p *pod) eligible() bool { return !p.HostNetwork && !p.Finished }

// groupKey is the same for equal labels and ports. Lengths stand before texts, so that nothing collides.
func groupKey(buf []byte, keys []string, labels map[string]string, ports []NamedPort) ([]byte, []string) {
	buf, keys = buf[:0], keys[:0]
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	text := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	buf = binary.AppendUvarint(buf, uint64(len(keys)))
	for _, k := range keys {
		text(k)
		text(labels[k])
	}
	for _, p := range ports {
		text(p.Name)
		buf = append(buf, byte(p.Protocol), byte(p.Port>>8), byte(p.Port))
	}
	return buf, keys
}

func comparePorts(a, b NamedPort) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// canonicalPorts sorts and drops doubles; the argument is left alone.
func canonicalPorts(in []NamedPort) []NamedPort {
	if len(in) == 0 {
		return nil
	}
	out := slices.Clone(in)
	slices.SortFunc(out, comparePorts)
	return slices.Compact(out)
}

// canonicalAddrs unmaps, sorts and drops doubles and what is no address.
func canonicalAddrs(in []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(in))
	for _, a := range in {
		if a.IsValid() {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Clip(slices.Compact(out))
}

func compareKeys(a, b Key) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func compareMembers(a, b Member) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), compareKeys(a.Pod, b.Pod))
}
