package explain

import (
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Matrix is who reaches whom. Its groups are pods to and from which the same is allowed, and, as one, everything outside.
type Matrix struct {
	port   *Port // nil: every port
	groups []*class
	cells  [][]int // numbers of answers, by group of the source and of the destination
	// answers are the different contents of cells; each is what is allowed over both families.
	answers []answer
}

type answer struct {
	ports  [2]Ports
	common [2]bool // families that both ends have
	// parts says what is allowed to or from which addresses, where the outside is not treated as one; ports is then
	// what most of it is given.
	parts string
}

// NewMatrix asks about a port, or about all of them where it is nil.
func NewMatrix(s *Setting, port *Port) *Matrix {
	m := &Matrix{port: port}
	r := newReach(s)
	pods := s.subjects()
	world := map[state.Family][]model.Range{} // of families that are used
	for _, k := range pods {
		for _, a := range s.Cluster.Addrs(k) {
			if f := state.FamilyOf(a); world[f] == nil {
				world[f] = s.world(f)
			}
		}
	}
	classes := classify([]*reach{r}, pods, world)
	outside := s.parts(&classes)
	m.groups = append(m.groups, classes...)
	if len(outside) > 0 {
		m.groups = append(m.groups, &class{})
	}
	m.cells = make([][]int, len(m.groups))
	known := map[string]int{}
	byKey := map[[2][2]int]int{} // what is allowed over each family, and whether both have it
	for i := range m.groups {
		m.cells[i] = make([]int, len(m.groups))
		for j := range m.groups {
			if i >= len(classes) || j >= len(classes) {
				continue
			}
			var k [2][2]int
			a := answer{}
			for f := range state.Families {
				from, to := classes[i].views[0], classes[j].views[0]
				if k[f][0] = r.between(f, from, to); from.has[f] && to.has[f] {
					k[f][1], a.common[f] = 1, true
				}
				a.ports[f] = r.all[k[f][0]]
			}
			n, ok := byKey[k]
			if !ok {
				n = m.number(known, a)
				byKey[k] = n
			}
			m.cells[i][j] = n
		}
	}
	for i, c := range classes {
		if len(outside) > 0 {
			m.cells[i][len(classes)] = m.number(known, m.outside(r, outside, func(f int, o view) int { return r.between(f, c.views[0], o) }, c))
			m.cells[len(classes)][i] = m.number(known, m.outside(r, outside, func(f int, o view) int { return r.between(f, o, c.views[0]) }, c))
		}
	}
	m.merge()
	return m
}

// number is that of an answer among those that look different.
func (m *Matrix) number(known map[string]int, a answer) int {
	var n int
	n, m.answers = number(known, m.words(a)+m.symbol(a)+a.parts, m.answers, a)
	return n
}

// merge joins groups between which and to and from which the same is allowed.
func (m *Matrix) merge() {
	for {
		known := map[string]int{}
		into := make([]int, len(m.groups))
		keep := []int{}
		var key []byte
		for i := range m.groups {
			key = key[:0]
			for j := range m.groups {
				key = binary.AppendUvarint(binary.AppendUvarint(key, uint64(m.cells[i][j])), uint64(m.cells[j][i]))
			}
			if len(m.groups[i].pods) == 0 {
				key = append(key, 0)
			}
			n, ok := known[string(key)]
			if !ok {
				n = len(keep)
				known[string(key)] = n
				keep = append(keep, i)
			}
			into[i] = n
		}
		if len(keep) == len(m.groups) {
			break
		}
		groups, cells := make([]*class, len(keep)), make([][]int, len(keep))
		for n, i := range keep {
			groups[n] = &class{}
			for _, j := range keep {
				cells[n] = append(cells[n], m.cells[i][j])
			}
		}
		for i, c := range m.groups {
			g := groups[into[i]]
			g.pods = append(g.pods, c.pods...)
		}
		m.groups, m.cells = groups, cells
	}
	m.sort()
}

// sort puts pods first, by name, and the outside last.
func (m *Matrix) sort() {
	order := make([]int, len(m.groups))
	for i, g := range m.groups {
		order[i] = i
		slices.SortFunc(g.pods, compareKeys)
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := m.groups[a], m.groups[b]
		switch {
		case len(x.pods) > 0 && len(y.pods) > 0:
			return compareKeys(x.pods[0], y.pods[0])
		}
		return len(y.pods) - len(x.pods)
	})
	groups, cells := make([]*class, len(order)), make([][]int, len(order))
	for n, i := range order {
		groups[n] = m.groups[i]
		for _, j := range order {
			cells[n] = append(cells[n], m.cells[i][j])
		}
	}
	m.groups, m.cells = groups, cells
}

// words is what a cell allows: allow, deny, part of the outside or, without a port, the ports.
func (m *Matrix) words(a answer) string {
	if a.parts != "" {
		return "part"
	}
	var out []string
	for f, family := range state.Families {
		if !a.common[f] {
			continue
		}
		text := m.portWords(a.ports[f])
		if f == 1 && a.common[0] {
			if text == out[0] {
				continue
			}
			out[0] += " (IPv4)"
			text += " (" + map[state.Family]string{state.IPv6: "IPv6"}[family] + ")"
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "no common address family"
	}
	return strings.Join(out, ", ")
}

func (m *Matrix) portWords(p Ports) string {
	if m.port != nil {
		return verdict(p.Has(m.port.Protocol, m.port.Number))
	}
	return p.String()
}

// symbol is a cell in one letter: + all of what was asked for, ~ a part of it, - nothing.
func (m *Matrix) symbol(a answer) string {
	if a.parts != "" {
		return "~"
	}
	all, none := true, true
	for f := range state.Families {
		if !a.common[f] {
			continue
		}
		if m.port != nil {
			has := a.ports[f].Has(m.port.Protocol, m.port.Number)
			all, none = all && has, none && !has
		} else {
			all, none = all && a.ports[f].Every(), none && a.ports[f].Empty()
		}
	}
	switch {
	case none:
		return "-"
	case all:
		return "+"
	}
	return "~"
}

// name of a group where it has only one member, or of the outside.
func (m *Matrix) name(g *class) string {
	if len(g.pods) > 0 {
		return g.pods[0].String()
	}
	return "external"
}

// title of group i: its name, or its number and size.
func (m *Matrix) title(i int) string {
	if g := m.groups[i]; len(g.pods) > 1 {
		return fmt.Sprintf("group %d: %d pods", i+1, len(g.pods))
	}
	return m.name(m.groups[i])
}

func (m *Matrix) asked() string {
	if m.port == nil {
		return "every port"
	}
	return m.port.words()
}

// Text is the table for a terminal: a row for each group of sources.
func (m *Matrix) Text(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	for i := range m.groups {
		fmt.Fprintf(t, "\t%d", i+1)
	}
	fmt.Fprintln(t)
	for i := range m.groups {
		fmt.Fprintf(t, "%d %s", i+1, strings.TrimPrefix(m.title(i), fmt.Sprintf("group %d: ", i+1)))
		for j := range m.groups {
			fmt.Fprintf(t, "\t%s", m.at(i, j))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s: + allowed, ~ in part, - denied; rows are sources\n", m.asked()); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	for i, g := range m.groups {
		if len(g.pods) > 1 {
			if _, err := fmt.Fprintf(w, "group %d: %s\n", i+1, podList(g.pods)); err != nil {
				return err
			}
		}
	}
	for _, note := range m.footnotes() {
		if _, err := fmt.Fprintln(w, note); err != nil {
			return err
		}
	}
	return nil
}

// at is the symbol of a cell. A group of one has nobody to reach within.
func (m *Matrix) at(i, j int) string {
	if i == j && (len(m.groups[i].pods) < 2) || len(m.groups[i].pods)+len(m.groups[j].pods) == 0 {
		return " "
	}
	return m.symbol(m.answers[m.cells[i][j]])
}

func podList(pods []model.Key) string {
	out := make([]string, len(pods))
	for i, p := range pods {
		out[i] = p.String()
	}
	return strings.Join(out, " ")
}

// CSV has a row and a column for every pod, not for groups. The cell of a pod and itself says self.
func (m *Matrix) CSV(w io.Writer) error {
	c := csv.NewWriter(w)
	type end struct {
		name  string
		group int
	}
	var ends []end
	for i, g := range m.groups {
		for _, p := range g.pods {
			ends = append(ends, end{p.String(), i})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return strings.Compare(a.name, b.name) })
	for i, g := range m.groups {
		if len(g.pods) == 0 {
			ends = append(ends, end{m.name(g), i})
		}
	}
	words := make([]string, len(m.answers))
	for i, a := range m.answers {
		words[i] = m.words(a)
	}
	row := []string{"from"}
	for _, e := range ends {
		row = append(row, e.name)
	}
	if err := c.Write(row); err != nil {
		return err
	}
	for i, from := range ends {
		row = append(row[:0], from.name)
		for j, to := range ends {
			switch {
			case i == j && len(m.groups[from.group].pods) > 0:
				row = append(row, "self")
			case len(m.groups[from.group].pods)+len(m.groups[to.group].pods) == 0:
				row = append(row, "")
			default:
				row = append(row, words[m.cells[from.group][to.group]])
			}
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
