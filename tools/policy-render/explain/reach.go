package explain

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// class is pods, or addresses that no pod has, which no policy of the clusters looked at tells apart.
type class struct {
	pods   []model.Key
	ranges []model.Range
	views  []view // one for each cluster
}

// view is a class in one cluster: a number for everything that it is as a subject, and one for all as a peer. Equal
// numbers are judged alike.
type view struct {
	subject, peer int
	has           [2]bool // an address of each family
}

// subject is what decides what a pod may do.
type subject struct {
	isolating [2][]*model.Policy
	named     map[*model.Set][]uint16 // its ports in each PortSet, by which ingress is judged
}

// peer is what decides who may reach it, or be reached by it: membership in sets, by family.
type peer struct {
	in    [2]map[*model.Set]bool
	named map[*model.Set][]uint16
}

// reach works out who reaches whom in one cluster, without asking for every pair: as many pods are judged alike.
type reach struct {
	setting  *Setting
	sets     []*model.Set
	index    map[*model.Set]int // in sets
	members  map[netip.Addr][]member
	subjects []subject
	peers    []peer
	known    [2]map[string]int // numbers of subjects and peers, by content
	// memo holds what is allowed to (or from) a peer by a subject, plus one: by family, direction, subject and peer.
	memo [2][2][][]int32
	// all are the different sets of ports; both is the intersection of two of them.
	all   []Ports
	ports map[string]int
	meet  map[[2]int]int
}

type member struct {
	set  int
	port uint16
}

func newReach(s *Setting) *reach {
	r := &reach{
		setting: s, index: map[*model.Set]int{}, members: map[netip.Addr][]member{}, known: [2]map[string]int{{}, {}},
		ports: map[string]int{}, meet: map[[2]int]int{},
	}
	r.intern(Ports{})
	r.intern(everyPort())
	add := func(set *model.Set) {
		if _, ok := r.index[set]; ok {
			return
		}
		r.index[set] = len(r.sets)
		r.sets = append(r.sets, set)
		for _, f := range state.Families {
			for _, m := range set.Members(f) {
				r.members[m.Addr] = append(r.members[m.Addr], member{r.index[set], m.Port})
			}
		}
	}
	for _, p := range s.Cluster.Policies() {
		for _, rules := range p.Rules {
			for _, rule := range rules {
				for _, set := range rule.Peers {
					add(set)
				}
				for _, n := range rule.Named {
					add(n.Set)
				}
			}
		}
	}
	return r
}

// The first of all.
const (
	nothing = iota
	everything
)

func (r *reach) intern(p Ports) int {
	var key []byte
	for _, spans := range p {
		key = binary.AppendUvarint(key, uint64(len(spans)))
		for _, s := range spans {
			key = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(key, s.from), s.to)
		}
	}
	if i, ok := r.ports[string(key)]; ok {
		return i
	}
	r.ports[string(key)] = len(r.all)
	r.all = append(r.all, p)
	return len(r.all) - 1
}

// pod looks at a pod. key is the same for pods that are judged alike.
func (r *reach) pod(k model.Key) view {
	var v view
	s := subject{named: map[*model.Set][]uint16{}}
	p := peer{in: [2]map[*model.Set]bool{{}, {}}, named: s.named}
	var subjectKey, peerKey []byte
	for _, dir := range []model.Direction{model.Ingress, model.Egress} {
		s.isolating[dir] = r.setting.Cluster.Isolating(dir, k)
		for _, pol := range s.isolating[dir] {
			subjectKey = append(append(subjectKey, pol.String()...), 0)
		}
		subjectKey = append(subjectKey, 1)
	}
	for i, f := range state.Families {
		var in []member
		for _, a := range r.setting.Cluster.Addrs(k) {
			if state.FamilyOf(a) != f {
				continue
			}
			if !v.has[i] { // further addresses of a family are judged with the first
				in = r.addr(a)
			}
			v.has[i] = true
		}
		peerKey = append(peerKey, byte(i+1))
		for _, m := range in {
			set := r.sets[m.set]
			p.in[i][set] = true
			peerKey = binary.AppendUvarint(peerKey, uint64(m.set)+2)
			if set.Kind() == model.PortSet {
				if !slices.Contains(p.named[set], m.port) {
					p.named[set] = append(p.named[set], m.port)
				}
				peerKey = binary.BigEndian.AppendUint16(peerKey, m.port)
			}
		}
	}
	if len(s.isolating[model.Ingress]) > 0 { // named ports are resolved by the subject
		for _, set := range slices.SortedFunc(maps.Keys(s.named), func(a, b *model.Set) int { return r.index[a] - r.index[b] }) {
			subjectKey = binary.AppendUvarint(subjectKey, uint64(r.index[set]))
			for _, port := range s.named[set] {
				subjectKey = binary.BigEndian.AppendUint16(subjectKey, port)
			}
		}
	}
	v.subject, r.subjects = number(r.known[0], string(subjectKey), r.subjects, s)
	v.peer, r.peers = number(r.known[1], string(peerKey), r.peers, p)
	return v
}

func number[T any](known map[string]int, key string, list []T, v T) (int, []T) {
	if i, ok := known[key]; ok {
		return i, list
	}
	known[key] = len(list)
	return len(list), append(list, v)
}

// addr is the sets that an address is in, in the order of sets.
func (r *reach) addr(a netip.Addr) []member {
	in := slices.Clone(r.members[a])
	for i, s := range r.sets {
		if s.Kind() == model.CIDRSet && s.Contains(a) {
			in = append(in, member{set: i})
		}
	}
	slices.SortFunc(in, func(a, b member) int { return (a.set-b.set)<<16 + int(a.port) - int(b.port) })
	return in
}

// outside looks at an address that no pod has: it is in blocks only, and nobody's policies are about what it does.
func (r *reach) outside(a netip.Addr) view {
	var v view
	f := 0
	if a.Is6() {
		f = 1
	}
	v.has[f] = true
	p := peer{in: [2]map[*model.Set]bool{{}, {}}}
	key := []byte{0, byte(f)}
	for i, s := range r.sets {
		if s.Kind() == model.CIDRSet && s.Contains(a) {
			p.in[f][s] = true
			key = binary.AppendUvarint(key, uint64(i))
		}
	}
	v.subject, r.subjects = number(r.known[0], "\x01\x01", r.subjects, subject{}) // as a pod that nothing isolates
	v.peer, r.peers = number(r.known[1], string(key), r.peers, p)
	return v
}

// between is the number of what from may send to to, over one family.
func (r *reach) between(family int, from, to view) int {
	if !from.has[family] || !to.has[family] {
		return nothing
	}
	out := r.side(family, model.Egress, from.subject, to.peer)
	in := r.side(family, model.Ingress, to.subject, from.peer)
	switch {
	case out == in || in == everything:
		return out
	case out == everything:
		return in
	}
	pair := [2]int{out, in}
	both, ok := r.meet[pair]
	if !ok {
		both = r.intern(r.all[out].both(r.all[in]))
		r.meet[pair] = both
	}
	return both
}

func (r *reach) side(family int, dir model.Direction, subject, peer int) int {
	if len(r.subjects[subject].isolating[dir]) == 0 {
		return everything
	}
	rows := &r.memo[family][dir]
	for len(*rows) <= subject {
		*rows = append(*rows, nil)
	}
	row := (*rows)[subject]
	if len(row) <= peer {
		row = append(row, make([]int32, len(r.peers)-len(row))...)
		(*rows)[subject] = row
	}
	if row[peer] == 0 {
		row[peer] = int32(r.intern(r.judge(family, dir, &r.subjects[subject], &r.peers[peer])) + 1)
	}
	return int(row[peer] - 1)
}

// judge is what all rules together allow: Judge of the model for every port at once.
func (r *reach) judge(family int, dir model.Direction, s *subject, p *peer) Ports {
	var out Ports
	named := s.named
	if dir == model.Egress {
		named = p.named
	}
	for _, pol := range s.isolating[dir] {
		for i := range pol.Rules[dir] {
			rule := &pol.Rules[dir][i]
			is := rule.AnyPeer || slices.ContainsFunc(rule.Peers, func(set *model.Set) bool { return p.in[family][set] })
			switch {
			case is && rule.AnyPort:
				return everyPort()
			case is:
				for _, ports := range rule.Ports {
					out = out.union(portsOf(ports.Protocol, ports.From, ports.To))
				}
			}
			for _, n := range rule.Named {
				if dir == model.Ingress && !is || dir == model.Egress && !p.in[family][n.Set] {
					continue
				}
				for _, port := range named[n.Set] {
					out = out.union(portsOf(n.Protocol, port, port))
				}
			}
		}
	}
	return out
}
