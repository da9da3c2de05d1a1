package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// selects is a SelectorSet, read back from its key.
type selects struct {
	namespace  string // of one namespace; else
	namespaces []requirement
	every      bool // no requirement of the namespace at all
	pods       []requirement
}

// requirement is one term of a selector in the form kubectl prints.
type requirement struct {
	text, key string
	op        byte // '=' in, '!' not in, '+' exists, '-' does not exist
	values    []string
}

// parseSelects reads the key of a SelectorSet: "dev/{app=web}" or "{team=a}/{}".
func parseSelects(key string) selects {
	ns, pods, _ := strings.Cut(key, "/{")
	if strings.HasPrefix(key, "{") {
		ns, pods, _ = strings.Cut(key, "}/{")
	}
	s := selects{pods: parseRequirements(strings.TrimSuffix(pods, "}"))}
	if inner, ok := strings.CutPrefix(ns, "{"); ok {
		s.namespaces = parseRequirements(inner)
		s.every = len(s.namespaces) == 0
	} else {
		s.namespace = ns
	}
	return s
}

func parseRequirements(text string) []requirement {
	var out []requirement
	for text != "" {
		end := strings.IndexByte(text, ',')
		if open := strings.IndexByte(text, '('); open >= 0 && open < end {
			if end = strings.IndexByte(text[open:], ')'); end >= 0 {
				end += open + 1
			}
		}
		if end < 0 || end > len(text) {
			end = len(text)
		}
		out = append(out, parseRequirement(text[:end]))
		text = strings.TrimPrefix(text[end:], ",")
	}
	return out
}

func parseRequirement(text string) requirement {
	r := requirement{text: text}
	list := func(s string) []string { return strings.Split(strings.TrimSuffix(s, ")"), ",") }
	if key, values, ok := strings.Cut(text, " in ("); ok {
		r.key, r.op, r.values = key, '=', list(values)
	} else if key, values, ok := strings.Cut(text, " notin ("); ok {
		r.key, r.op, r.values = key, '!', list(values)
	} else if key, value, ok := strings.Cut(text, "="); ok {
		r.key, r.op, r.values = key, '=', []string{value}
	} else if key, ok := strings.CutPrefix(text, "!"); ok {
		r.key, r.op = key, '-'
	} else {
		r.key, r.op = text, '+'
	}
	return r
}

// lacks says in words what of the labels does not meet the requirement; empty where they meet it.
func (r requirement) lacks(labels map[string]string) string {
	value, has := labels[r.key]
	in := has && slices.Contains(r.values, value)
	switch {
	case r.op == '=' && in, r.op == '!' && !in, r.op == '+' && has, r.op == '-' && !has:
		return ""
	case !has:
		return "no label " + r.key
	}
	return r.key + "=" + value
}

func lacks(all []requirement, labels map[string]string) []string {
	var out []string
	for _, r := range all {
		if s := r.lacks(labels); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func texts(all []requirement) string {
	out := make([]string, len(all))
	for i, r := range all {
		out[i] = r.text
	}
	return strings.Join(out, ",")
}

// String is such as "pods with app=web in namespace dev".
func (s selects) String() string {
	pods := "all pods"
	if len(s.pods) > 0 {
		pods = "pods with " + texts(s.pods)
	}
	switch {
	case s.every && len(s.pods) == 0:
		return "all pods of the cluster"
	case s.every:
		return pods + " in any namespace"
	case s.namespace != "":
		return pods + " in namespace " + s.namespace
	}
	return pods + " in namespaces with " + texts(s.namespaces)
}

// setWords describes the peers that a set stands for.
func setWords(s *model.Set) string {
	if s.Kind() == model.SelectorSet {
		return parseSelects(s.Key()).String()
	}
	return blockWords(slices.Concat(s.Ranges(state.IPv4), s.Ranges(state.IPv6)))
}

// blockWords writes ranges, sorted and disjoint, as blocks and exceptions where that is shorter.
func blockWords(ranges []model.Range) string {
	v6 := slices.IndexFunc(ranges, func(r model.Range) bool { return r.From.Is6() })
	if v6 > 0 {
		return blockWords(ranges[:v6]) + " and " + blockWords(ranges[v6:])
	}
	if len(ranges) == 0 {
		return "no address"
	}
	cover, holes := exceptions(ranges)
	plain := listWords(ranges)
	if len(holes) == 0 {
		return cover.String()
	}
	if except := cover.String() + " except " + listWords(holes); len(except) < len(plain) {
		return except
	}
	return plain
}

// exceptions is the smallest block around ranges of one family, and what of it they leave out.
func exceptions(ranges []model.Range) (netip.Prefix, []model.Range) {
	first, last := ranges[0].From, ranges[len(ranges)-1].To
	bits := first.BitLen()
	for !netip.PrefixFrom(first, bits).Contains(last) {
		bits--
	}
	cover := netip.PrefixFrom(first, bits).Masked()
	var holes []model.Range
	at := cover.Addr()
	for _, r := range ranges {
		if at.Compare(r.From) < 0 {
			holes = append(holes, model.Range{From: at, To: r.From.Prev()})
		}
		at = r.To.Next()
	}
	if end := lastOf(cover); at.IsValid() && at.Compare(end) <= 0 {
		holes = append(holes, model.Range{From: at, To: end})
	}
	return cover, holes
}

// listWordsMax is how many ranges are listed before the rest is only counted.
const listWordsMax = 8

func listWords(ranges []model.Range) string {
	var out []string
	for i, r := range ranges {
		if i == listWordsMax && len(ranges) > listWordsMax+1 {
			return strings.Join(out, ", ") + fmt.Sprintf(" and %d more ranges", len(ranges)-i)
		}
		out = append(out, rangeWords(r))
	}
	return strings.Join(out, ", ")
}

// rangeWords writes an address always as a block, as a policy has to.
func rangeWords(r model.Range) string {
	if r.From == r.To {
		return netip.PrefixFrom(r.From, r.From.BitLen()).String()
	}
	return r.String()
}

// lastOf is the last address of a block.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// join is "a", "a and b", "a, b and c".
func join(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
