package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Answer is what explain prints. Verdict is that of the first path.
type Answer struct {
	Version  int    `json:"version"`
	Verdict  string `json:"verdict"` // allow or deny
	From     string `json:"from"`
	To       string `json:"to"`
	Protocol string `json:"protocol"`       // TCP, UDP, SCTP or ICMP
	Port     uint16 `json:"port,omitempty"` // of the destination, after a port's name was looked up
	// Paths is one for each address family that both ends have, IPv4 first; none where there is no such family.
	Paths []Path   `json:"paths"`
	Notes []string `json:"notes,omitempty"`
}

// Path is the way of a packet between two addresses.
type Path struct {
	Family  state.Family `json:"family"`
	From    netip.Addr   `json:"from"`
	To      netip.Addr   `json:"to"`
	Verdict string       `json:"verdict"`
	// Reason says it where policies are not asked: a pod to itself, a node to its pod.
	Reason string `json:"reason,omitempty"`
	// Sides are the egress of the source and the ingress of the destination, as far as they are pods.
	Sides []Side   `json:"sides"`
	Notes []string `json:"notes,omitempty"`
}

// Side is one pod's judgement.
type Side struct {
	Direction string `json:"direction"` // ingress or egress
	Subject   string `json:"subject"`   // NAMESPACE/POD
	Verdict   string `json:"verdict"`
	// Policies isolate the subject in this direction; none: everything is allowed.
	Policies []Isolating `json:"policies"`
	// Policy and Rule (its index in spec.ingress or spec.egress) are what matched first.
	Policy string `json:"policy,omitempty"`
	Rule   *int   `json:"rule,omitempty"`
	// Why is the sentence to it; Near are the nearest misses of every policy of a denial.
	Why  string   `json:"why"`
	Near []string `json:"near,omitempty"`
}

// Isolating is a policy that isolates a pod.
type Isolating struct {
	Policy  string `json:"policy"`
	Selects string `json:"selects"` // its podSelector in words
}

const (
	allow = "allow"
	deny  = "deny"
)

func verdict(allowed bool) string {
	if allowed {
		return allow
	}
	return deny
}

// Explain answers whether one end may connect to the other.
func (s *Setting) Explain(from, to End, port Port) (*Answer, error) {
	if from.external() && to.external() {
		return nil, exit.Errorf(exit.Usage, "%w", errBothExternal)
	}
	nodes := s.nodes()
	source, err := s.find(from, nodes)
	if err != nil {
		return nil, err
	}
	dest, err := s.find(to, nodes)
	if err != nil {
		return nil, err
	}
	port, notes, err := port.resolve(dest)
	if err != nil {
		return nil, err
	}
	a := &Answer{
		Version: 1, From: source.name, To: dest.name, Protocol: port.Protocol.String(), Port: port.Number,
		Notes: slices.Concat(source.notes, dest.notes, notes), Paths: []Path{},
	}
	if dead := source.dead + dest.dead; dead != "" {
		a.Verdict = deny
		for _, d := range []string{source.dead, dest.dead} {
			if d != "" {
				a.Notes = append(a.Notes, d)
			}
		}
		return a, nil
	}
	namespaces := map[string]map[string]string{}
	for _, n := range s.Cluster.Namespaces() {
		namespaces[n.Name] = n.Labels
	}
	for _, f := range state.Families {
		p := port
		if p.Protocol == model.ICMP && f == state.IPv6 {
			p.Protocol = model.ICMPv6
		}
		if path, ok := s.path(f, source, dest, p, namespaces); ok {
			a.Paths = append(a.Paths, path)
		}
	}
	if len(a.Paths) == 0 {
		a.Verdict = deny
		a.Notes = append(a.Notes, noFamily(from, to, source, dest))
		return a, nil
	}
	a.Verdict = a.Paths[0].Verdict
	return a, nil
}

// noFamily says why there is no path: of the addresses where addresses were given, not of the pods that have them.
func noFamily(from, to End, source, dest *party) string {
	family := func(a netip.Addr) string {
		if a.Is4() {
			return "an IPv4 address"
		}
		return "an IPv6 address"
	}
	switch {
	case from.Addr.IsValid() && to.Addr.IsValid():
		return fmt.Sprintf("%s is %s and %s is %s: no packet has one of each", from.Addr, family(from.Addr), to.Addr, family(to.Addr))
	case from.Addr.IsValid():
		return fmt.Sprintf("%s is %s, and %s has none", from.Addr, family(from.Addr), dest.name)
	case to.Addr.IsValid():
		return fmt.Sprintf("%s is %s, and %s has none", to.Addr, family(to.Addr), source.name)
	}
	return fmt.Sprintf("%s and %s have no address family in common", source.name, dest.name)
}

// path judges one family.
func (s *Setting) path(f state.Family, source, dest *party, port Port, namespaces map[string]map[string]string) (Path, bool) {
	p := Path{Family: f, Sides: []Side{}}
	var ok bool
	if source.kind == "external" || dest.kind == "external" {
		ok = s.outside(&p, f, source, dest, port)
	} else {
		ok = first(source.addrs, f, &p.From) && first(dest.addrs, f, &p.To)
	}
	if !ok {
		return p, false
	}
	if source.subject() && dest.subject() && p.From == p.To {
		p.Verdict, p.Reason = allow, "a pod always reaches itself"
		return p, true
	}
	allowed := true
	if source.subject() {
		side := s.side(&packet{model.Egress, source, dest, p.From, p.To, port, namespaces})
		switch own := dest.kind == "node" && dest.node == source.node && source.node != ""; {
		case own && s.EgressAllowed:
			side.Verdict, side.Why, side.Near = allow, "allowed: it is to its own node, and --node-egress is allow", nil
			side.Policy, side.Rule = "", nil
		case own && side.Verdict == deny:
			p.Notes = append(p.Notes, "this is to its own node, which --node-egress allow would always let it reach")
		}
		p.Sides = append(p.Sides, side)
		allowed = side.Verdict == allow
	}
	if dest.subject() {
		side := s.side(&packet{model.Ingress, dest, source, p.To, p.From, port, namespaces})
		p.Sides = append(p.Sides, side)
		allowed = allowed && side.Verdict == allow
	}
	p.Verdict = verdict(allowed)
	switch {
	case len(p.Sides) == 0:
		p.Reason = "neither end is a pod that policies select"
	case allowed && source.subject() && s.tunnelled(dest, p.To, port):
		p.Verdict = deny
		p.Reason = fmt.Sprintf("policies allow it, but no pod may send tunnel packets (UDP %d) to nodes or out of the pod network", s.TunnelPort)
	}
	p.Notes = append(p.Notes, s.pathNotes(source, dest, p)...)
	return p, true
}

// tunnelled says whether the packet looks like one of the tunnel's, to an end of the tunnel.
func (s *Setting) tunnelled(dest *party, to netip.Addr, port Port) bool {
	if s.TunnelPort == 0 || port.Protocol != model.UDP || int(port.Number) != s.TunnelPort || dest.kind == "pod" {
		return false
	}
	return dest.kind == "node" || !slices.ContainsFunc(s.Network, func(n netip.Prefix) bool { return n.Contains(to) })
}

func first(addrs []netip.Addr, f state.Family, to *netip.Addr) bool {
	for _, a := range addrs {
		if state.FamilyOf(a) == f {
			*to = a
			return true
		}
	}
	return false
}

// side judges one direction. The verdict is the model's; the words are checked against it by a test.
func (s *Setting) side(k *packet) Side {
	v := s.Cluster.Judge(k.dir, k.subject.key, k.subjectAddr, k.peerAddr, k.port.Protocol, k.port.Number)
	side := Side{Direction: dirWord(k.dir), Subject: k.subject.name, Verdict: verdict(v.Allowed), Policies: []Isolating{}}
	for _, p := range v.Isolating {
		selects := "pods with " + p.Subjects
		if p.Subjects == "" {
			selects = "all pods of its namespace"
		}
		side.Policies = append(side.Policies, Isolating{p.String(), selects})
	}
	switch {
	case len(v.Isolating) == 0:
		side.Why = "allowed: no policy isolates it for " + dirWord(k.dir)
	case v.Allowed && v.Policy == nil:
		side.Why = "allowed: a node always reaches its own pods"
	case v.Allowed:
		side.Policy, side.Rule = v.Policy.String(), &v.Rule.Index
		_, words := k.judgeRule(v.Rule)
		side.Why = fmt.Sprintf("allowed: %s %s[%d] %s", v.Policy.Key, dirWord(k.dir), v.Rule.Index, words)
	default:
		side.Why = "denied: no rule of the policies that isolate it matches"
		type near struct {
			closeness int
			lines     []string
		}
		var all []near
		for _, p := range v.Isolating {
			n, lines := k.misses(p)
			all = append(all, near{n, lines})
		}
		slices.SortStableFunc(all, func(a, b near) int { return b.closeness - a.closeness })
		for _, n := range all {
			side.Near = append(side.Near, n.lines...)
		}
	}
	return side
}

// pathNotes are what is true of the packet and not said by any rule.
func (s *Setting) pathNotes(source, dest *party, p Path) []string {
	var notes []string
	if dest.subject() && source.kind == "node" && source.node != dest.node && dest.node != "" {
		notes = append(notes, fmt.Sprintf("%s runs on %s: only that node always reaches it, others are addresses like any", dest.name, dest.node))
	}
	blocks := dest.subject() && slices.ContainsFunc(s.Cluster.Isolating(model.Ingress, dest.key), func(pol *model.Policy) bool {
		return slices.ContainsFunc(pol.Rules[model.Ingress], func(r model.Rule) bool {
			return slices.ContainsFunc(r.Peers, func(set *model.Set) bool { return set.Kind() == model.CIDRSet })
		})
	})
	if blocks && (source.kind == "external" || source.kind == "address") {
		notes = append(notes, fmt.Sprintf("traffic that another node masquerades (a Service with externalTrafficPolicy Cluster) "+
			"arrives with that node's address, not with %s", p.From))
	}
	return notes
}

// textMax is how many policies and misses the text names; JSON has all.
const textMax = 20

// Text is the answer for a person. Its first line is the verdict alone.
func (a *Answer) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s", a.Verdict)
	for i, p := range a.Paths {
		port := a.Protocol
		if a.Port != 0 {
			port += fmt.Sprintf(" %d", a.Port)
		}
		switch {
		case i > 0 && p.alike(a.Paths[0]):
			line("the same from %s to %s", p.From, p.To)
			continue
		case i > 0 && p.Verdict != a.Verdict:
			port = "but " + p.Verdict + ": " + port
		}
		line("%s from %s to %s", port, endWords(a.From, p.From), endWords(a.To, p.To))
		if p.Reason != "" {
			line("  %s", p.Reason)
		}
		for _, s := range p.Sides {
			s.text(line)
		}
		for _, n := range p.Notes {
			line("note: %s", n)
		}
	}
	for _, n := range a.Notes {
		line("note: %s", n)
	}
	return b.String()
}

// alike says whether another family's path is decided in the same way.
func (p Path) alike(o Path) bool {
	return p.Verdict == o.Verdict && p.Reason == o.Reason && slices.Equal(p.Notes, o.Notes) &&
		slices.EqualFunc(p.Sides, o.Sides, func(a, b Side) bool { return a.Why == b.Why && slices.Equal(a.Near, b.Near) })
}

func endWords(name string, a netip.Addr) string {
	if name == a.String() {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, a)
}

func (s Side) text(line func(string, ...any)) {
	line("%s of %s %s", s.Direction, s.Subject, s.Why)
	if len(s.Policies) > 0 {
		names := make([]string, 0, len(s.Policies))
		for i, p := range s.Policies {
			if i == textMax {
				names = append(names, fmt.Sprintf("%d more", len(s.Policies)-i))
				break
			}
			names = append(names, fmt.Sprintf("%s (selects %s)", p.Policy, p.Selects))
		}
		line("  isolated by %s", join(names))
	}
	for i, n := range s.Near {
		if i == textMax {
			line("  and %d more lines: see --output json", len(s.Near)-i)
			break
		}
		line("  %s", n)
	}
}
