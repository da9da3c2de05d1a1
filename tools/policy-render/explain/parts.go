package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// parts takes the classes of addresses out of the list, without what pods and nodes have of them.
func (s *Setting) parts(classes *[]*class) []*class {
	nodes := s.nodes()
	var pods, outside []*class
	for _, c := range *classes {
		if len(c.pods) > 0 {
			pods = append(pods, c)
			continue
		}
		var left []model.Range
		for _, r := range c.ranges {
			if r, ok := s.strangers(r, nodes); ok {
				left = append(left, r)
			}
		}
		if c.ranges = left; len(left) > 0 {
			outside = append(outside, c)
		}
	}
	*classes = pods
	return outside
}

// share is the addresses outside that one thing is allowed for.
type share struct {
	words  string
	ports  int
	ranges []model.Range
	weight float64
}

// outside is the answer about pods and everything outside; between is the number of what is allowed with a part of it.
func (m *Matrix) outside(r *reach, parts []*class, between func(family int, part view) int, pods *class) answer {
	var a answer
	var all [2][]*share
	split := false
	for _, part := range parts {
		for f := range state.Families {
			v := part.views[0]
			if !v.has[f] || !pods.views[0].has[f] {
				continue
			}
			a.common[f] = true
			ports := between(f, v)
			i := slices.IndexFunc(all[f], func(s *share) bool { return m.same(r, s.ports, ports) })
			if i < 0 {
				i = len(all[f])
				all[f] = append(all[f], &share{words: m.portWords(r.all[ports]), ports: ports})
			}
			s := all[f][i]
			s.ranges = append(s.ranges, part.ranges...)
			for _, one := range part.ranges {
				s.weight += size(one)
			}
			split = split || len(all[f]) > 1
		}
	}
	var most []*share
	var notes []string
	for f := range all {
		if len(all[f]) == 0 {
			continue
		}
		main := slices.MaxFunc(all[f], func(a, b *share) int { return cmp.Compare(a.weight, b.weight) })
		a.ports[f] = r.all[main.ports]
		most = append(most, main)
		for _, s := range all[f] {
			if s != main {
				slices.SortFunc(s.ranges, func(a, b model.Range) int { return a.From.Compare(b.From) })
				joined := []model.Range{}
				for _, one := range s.ranges {
					joined = appendRange(joined, one)
				}
				notes = append(notes, blockWords(joined)+": "+s.words)
			}
		}
	}
	if !split {
		return a
	}
	if len(most) == 2 && most[0].words != most[1].words {
		notes = append(notes, "other IPv4: "+most[0].words, "other IPv6: "+most[1].words)
	} else {
		notes = append(notes, "others: "+most[0].words)
	}
	a.parts = strings.Join(notes, " | ")
	return a
}

// same says whether two sets of ports, by number, are one answer to what was asked.
func (m *Matrix) same(r *reach, a, b int) bool {
	if m.port == nil {
		return a == b
	}
	return r.all[a].Has(m.port.Protocol, m.port.Number) == r.all[b].Has(m.port.Protocol, m.port.Number)
}

// footnotes say of each cell of the outside in which parts are treated differently, which those are.
func (m *Matrix) footnotes() []string {
	var out []string
	for i := range m.groups {
		for j := range m.groups {
			if parts := m.answers[m.cells[i][j]].parts; parts != "" && m.at(i, j) != " " {
				out = append(out, fmt.Sprintf("%d to %d: %s", i+1, j+1, parts))
			}
		}
	}
	return out
}
