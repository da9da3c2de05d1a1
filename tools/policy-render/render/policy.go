package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

var protocols = map[model.Protocol]string{model.TCP: "tcp", model.UDP: "udp", model.SCTP: "sctp"}

// policyChain is what a policy allows in a direction, nil where that is nothing: such a policy only puts its pods
// into a group. sets are the port sets that it names.
func (c *Config) policyChain(d model.Direction, p *model.Policy) (chain *ruleset.Object, sets []*ruleset.Object) {
	var lines []string
	for i := range p.Rules[d] {
		r := &p.Rules[d][i]
		matches, ports := c.matches(d, r)
		sets = append(sets, ports...)
		for _, m := range matches {
			line := fmt.Sprintf(`counter %s comment "%s[%d]"`, open[d], word[d], r.Index)
			if m != "" {
				line = m + " " + line
			}
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return nil, nil
	}
	note := fmt.Sprintf("%s of pods %s in %s", word[d], orAll(p.Subjects), p.Namespace)
	return &ruleset.Object{
		ID: ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: PolicyChain(d, p.Key)}, Lines: lines,
		Notes: []string{clean(keyText(p.Key) + ": " + note)},
	}, sets
}

func orAll(subjects string) string {
	if subjects == "" {
		return "(all)"
	}
	return subjects
}

// matches are the conditions of a rule, any of which is enough. The port is compared first: that takes no
// look-up, or one in a smaller set.
func (c *Config) matches(d model.Direction, r *model.Rule) (out []string, sets []*ruleset.Object) {
	ports, sets := portMatches(r)
	var peers []string
	byFamily := map[string][]string{}
	if r.AnyPeer {
		peers = []string{""}
	}
	for _, f := range c.used() {
		if r.AnyPeer {
			byFamily[f.suffix] = []string{""}
			continue
		}
		for _, s := range r.Peers {
			if s.Kind() == model.CIDRSet && len(s.Ranges(f.Family)) == 0 {
				continue
			}
			m := fmt.Sprintf("%s %s @%s", f.header, peer[d], SetName(s, f.suffix))
			peers = append(peers, m)
			byFamily[f.suffix] = append(byFamily[f.suffix], m)
		}
	}
	slices.Sort(peers)
	for _, port := range ports {
		for _, p := range slices.Compact(peers) {
			out = append(out, join(port, p))
		}
	}
	for _, n := range r.Named {
		proto, ok := protocols[n.Protocol]
		if !ok {
			continue
		}
		for _, f := range c.used() {
			m := fmt.Sprintf("%s daddr . %s dport @%s", f.header, proto, SetName(n.Set, f.suffix))
			if d == model.Egress {
				out = append(out, m)
				continue
			}
			for _, p := range byFamily[f.suffix] {
				out = append(out, join(m, p))
			}
		}
	}
	return out, sets
}

func join(a, b string) string { return strings.TrimSpace(a + " " + b) }

// portMatches are a rule's numbered ports: a protocol, one port, a range, or a set that has its content as its name.
func portMatches(r *model.Rule) (out []string, sets []*ruleset.Object) {
	if r.AnyPort {
		return []string{""}, nil
	}
	byProtocol := map[model.Protocol][]model.PortRange{}
	for _, p := range r.Ports {
		byProtocol[p.Protocol] = append(byProtocol[p.Protocol], p)
	}
	for _, proto := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		name := protocols[proto]
		ranges := byProtocol[proto] // the model joined those that touch
		switch {
		case len(ranges) == 0:
		case ranges[0].From == 0 && ranges[0].To == 0xffff:
			out = append(out, "meta l4proto "+name)
		case len(ranges) == 1:
			out = append(out, name+" dport "+portText(ranges[0]))
		default:
			s := portSet(ranges)
			sets = append(sets, s)
			out = append(out, name+" dport @"+s.Name)
		}
	}
	return out, sets
}

func portText(r model.PortRange) string {
	if r.From == r.To {
		return fmt.Sprint(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// portSet is shared by all rules with these ports, of whatever protocol.
func portSet(ranges []model.PortRange) *ruleset.Object {
	o := &ruleset.Object{Head: []string{"type inet_service"}}
	for _, r := range ranges {
		o.Lines = append(o.Lines, portText(r))
		if r.From != r.To && len(o.Head) == 1 {
			o.Head = append(o.Head, "flags interval")
		}
	}
	o.ID = ruleset.ID{Family: "inet", Kind: ruleset.Set, Name: "port-" + hash(strings.Join(o.Lines, ","))}
	slices.Sort(o.Lines)
	return o
}
