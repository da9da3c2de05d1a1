package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

func dirWord(d model.Direction) string {
	if d == model.Egress {
		return "egress"
	}
	return "ingress"
}

// packet is one direction's question: may the subject receive from, or send to, the peer?
type packet struct {
	dir         model.Direction
	subject     *party
	peer        *party
	subjectAddr netip.Addr
	peerAddr    netip.Addr
	port        Port
	namespaces  map[string]map[string]string // labels by name
}

// destination is the pod whose ports are meant, nil where it is no pod.
func (k *packet) destination() *model.Pod {
	p := k.subject
	if k.dir == model.Egress {
		p = k.peer
	}
	if p.kind != "pod" {
		return nil
	}
	return p.pod
}

// the peer in a sentence.
func (k *packet) peerWord() string {
	if k.dir == model.Egress {
		return "the destination"
	}
	return "the source"
}

// closeness of a rule to a packet.
const (
	far = iota
	portMatches
	peerMatches
	matches
)

// judgeRule says how close a rule comes, and in words what it would allow and why it does not allow this.
func (k *packet) judgeRule(r *model.Rule) (closeness int, words string) {
	dst := k.subjectAddr
	if k.dir == model.Egress {
		dst = k.peerAddr
	}
	portOK := r.AnyPort || slices.ContainsFunc(r.Ports, func(p model.PortRange) bool {
		return p.Protocol == k.port.Protocol && p.From <= k.port.Number && k.port.Number <= p.To
	}) || slices.ContainsFunc(r.Named, func(n model.NamedPorts) bool {
		return n.Protocol == k.port.Protocol && n.Set.ContainsPort(dst, k.port.Number)
	})
	peerOK := r.MatchesPeer(k.peerAddr)
	switch {
	case r.Matches(k.dir, k.subjectAddr, k.peerAddr, k.port.Protocol, k.port.Number):
		return matches, "allows " + k.portWords(r) + k.peersMatching(r)
	case peerOK:
		return peerMatches, "would allow " + k.portWords(r) + ", not " + k.notPort(r)
	case portOK:
		return portMatches, k.peerMiss(r)
	}
	return far, k.peerMiss(r) + "; and it is about " + k.portWords(r) + ", not " + k.notPort(r)
}

// notPort names the port asked for, without the protocol where the rule is only about the same.
func (k *packet) notPort(r *model.Rule) string {
	other := slices.ContainsFunc(r.Ports, func(p model.PortRange) bool { return p.Protocol != k.port.Protocol }) ||
		slices.ContainsFunc(r.Named, func(n model.NamedPorts) bool { return n.Protocol != k.port.Protocol })
	if !other && k.port.Number != 0 {
		return fmt.Sprint(k.port.Number)
	}
	return Port{Protocol: k.port.Protocol, Number: k.port.Number}.words()
}

// portWords is such as "TCP 80, 8000-8080 and port http (TCP 8080 on dev/web)".
func (k *packet) portWords(r *model.Rule) string {
	if r.AnyPort {
		return "every port"
	}
	var out []string
	for _, proto := range protocols {
		var ports []string
		for _, p := range r.Ports {
			switch {
			case p.Protocol != proto:
			case p.To == 65535 && p.From <= 1:
				out = append(out, "every "+proto.String()+" port")
			default:
				ports = append(ports, span{p.From, p.To}.String())
			}
		}
		if len(ports) > 0 {
			out = append(out, proto.String()+" "+strings.Join(ports, ", "))
		}
	}
	for _, n := range r.Named {
		out = append(out, fmt.Sprintf("port %s (%s%s)", n.Name, n.Protocol, k.named(n)))
	}
	if len(out) == 0 {
		return "no valid port"
	}
	return join(out)
}

// named says what a name means for the destination.
func (k *packet) named(n model.NamedPorts) string {
	dst := k.destination()
	if dst == nil {
		return "; only pods have names for ports"
	}
	var numbers []string
	for _, p := range dst.Ports {
		if p.Name == n.Name && p.Protocol == n.Protocol {
			numbers = append(numbers, fmt.Sprint(p.Port))
		}
	}
	if len(numbers) == 0 {
		return fmt.Sprintf("; %s has none of that name", dst.Key)
	}
	return fmt.Sprintf(" %s on %s", join(numbers), dst.Key)
}

// peersMatching says which peer of a matching rule it was.
func (k *packet) peersMatching(r *model.Rule) string {
	word := " from "
	if k.dir == model.Egress {
		word = " to "
	}
	if r.AnyPeer {
		return word + "anyone"
	}
	for _, s := range r.Peers {
		if s.Contains(k.peerAddr) {
			return word + k.setWords(s)
		}
	}
	return ""
}

// peersMax is how many peers of a rule are named.
const peersMax = 3

// peerMiss says whom the rule is about, and why that is not the peer. The nearest come first.
func (k *packet) peerMiss(r *model.Rule) string {
	if len(r.Peers) == 0 {
		return "names no valid peer"
	}
	type miss struct {
		lacks int
		words string
	}
	var all []miss
	for _, s := range r.Peers {
		n, words := k.setMiss(s)
		all = append(all, miss{n, words})
	}
	slices.SortStableFunc(all, func(a, b miss) int { return a.lacks - b.lacks })
	var out []string
	for i, m := range all {
		if i == peersMax {
			out = append(out, fmt.Sprintf("and none of %d more peers fits", len(all)-i))
			break
		}
		out = append(out, m.words)
	}
	return strings.Join(out, "; ")
}

// setMiss says why the peer is not in the set, and by how much.
func (k *packet) setMiss(s *model.Set) (lacking int, words string) {
	if s.Kind() != model.SelectorSet {
		return k.blockMiss(s)
	}
	sel := parseSelects(s.Key())
	words = "selects " + sel.String() + ", " + k.peerWord()
	switch k.peer.kind {
	case "node":
		return 100, words + " is an address of a node"
	case "pod":
	default:
		return 100, words + " is no pod"
	}
	ns := k.peer.key.Namespace
	var missing []string
	switch {
	case sel.namespace != "" && sel.namespace != ns:
		lacking++
		missing = append(missing, "is in namespace "+ns)
	case sel.namespace == "":
		if m := lacks(sel.namespaces, k.namespaces[ns]); len(m) > 0 {
			lacking += len(m)
			missing = append(missing, "is in namespace "+ns+", which has "+join(m))
		}
	}
	if m := lacks(sel.pods, k.peer.pod.Labels); len(m) > 0 {
		lacking += len(m)
		missing = append(missing, "has "+join(m))
	}
	return lacking, words + " " + strings.Join(missing, " and ")
}

func (k *packet) blockMiss(s *model.Set) (lacking int, words string) {
	ranges := s.Ranges(state.FamilyOf(k.peerAddr))
	words = "allows " + k.setWords(s) + ", "
	if len(ranges) == 0 {
		return 50, words + k.peerWord() + " is " + k.peerAddr.String()
	}
	if _, holes := exceptions(ranges); strings.Contains(words, " except ") {
		for _, h := range holes {
			if h.From == h.To && h.From == k.peerAddr {
				return 1, words + "which " + k.peerWord() + " is"
			}
		}
	}
	return 2, words + k.peerWord() + " is " + k.peerAddr.String()
}

// setWords describes a set, of blocks only those of the peer's family where there are any.
func (k *packet) setWords(s *model.Set) string {
	if ranges := s.Ranges(state.FamilyOf(k.peerAddr)); len(ranges) > 0 {
		return blockWords(ranges)
	}
	return setWords(s)
}

// misses are the rules of a policy that come nearest, in words, and how near; the index of each stands before it.
func (k *packet) misses(p *model.Policy) (best int, out []string) {
	best = -1
	rest := 0
	for i := range p.Rules[k.dir] {
		r := &p.Rules[k.dir][i]
		n, words := k.judgeRule(r)
		text := fmt.Sprintf("%s %s[%d] %s", p.Key, dirWord(k.dir), r.Index, words)
		switch {
		case n > best:
			rest += len(out)
			best, out = n, []string{text}
		case n == best && len(out) < 3:
			out = append(out, text)
		default:
			rest++
		}
	}
	switch {
	case len(out) == 0:
		out = append(out, fmt.Sprintf("%s allows nothing: it has no %s rule", p.Key, dirWord(k.dir)))
	case rest == 1:
		out = append(out, fmt.Sprintf("%s has one more rule, which is no nearer", p.Key))
	case rest > 1:
		out = append(out, fmt.Sprintf("%s has %d more rules, which are no nearer", p.Key, rest))
	}
	if p.Invalid != "" {
		out = append(out, fmt.Sprintf("%s is invalid, and that part of it matches nothing: %s", p.Key, p.Invalid))
	}
	return best, out
}
