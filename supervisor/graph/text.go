package graph

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/towpath/towpath/supervisor/stage"
)

// Text prints the stages as trees: each below the last of the stages it needs, with the files it
// waits for before the arrow and those it writes after it. Gates that are left out are in parentheses.
func (g *Graph) Text(w io.Writer, waived map[string][]string) {
	children := map[string][]*stage.Stage{}
	for i, s := range g.Stages {
		parent := ""
		for _, p := range g.Stages[:i] {
			if slices.ContainsFunc(g.Edges, func(e Edge) bool { return e.From == p.Name && e.To == s.Name }) {
				parent = p.Name
			}
		}
		children[parent] = append(children[parent], s)
	}
	for _, s := range children[""] {
		fmt.Fprintln(w, line(s, waived))
		branch(w, children, waived, s.Name, "")
	}
}

func branch(w io.Writer, children map[string][]*stage.Stage, waived map[string][]string, of, indent string) {
	for i, s := range children[of] {
		arm, further := "├─ ", "│  "
		if i == len(children[of])-1 {
			arm, further = "└─ ", "   "
		}
		fmt.Fprintln(w, indent+arm+line(s, waived))
		branch(w, children, waived, s.Name, indent+further)
	}
}

func line(s *stage.Stage, waived map[string][]string) string {
	var parts []string
	needs := s.Required()
	for i, f := range needs {
		if slices.Contains(waived[s.Name], f) {
			needs[i] = "(" + f + ")"
		}
	}
	for _, f := range s.Optional {
		needs = append(needs, "["+f+"]")
	}
	if len(needs) > 0 {
		parts = append(parts, strings.Join(needs, " "), "→")
	}
	parts = append(parts, strings.ToUpper(s.Name))
	makes := slices.Clone(s.Outputs)
	for _, f := range s.Maybe {
		makes = append(makes, "["+f+"]")
	}
	if len(makes) > 0 {
		parts = append(parts, "→", strings.Join(makes, " "))
	}
	return strings.Join(parts, " ")
}

// DOT prints the graph for Graphviz: boxes are stages, notes are files, a dashed line is an optional
// input, a dotted one an output of some configurations or a gate that is left out.
func (g *Graph) DOT(w io.Writer, waived map[string][]string) {
	fmt.Fprintln(w, "digraph towpath {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];")
	var files []string
	for _, s := range g.Stages {
		for _, f := range slices.Concat(s.Required(), s.Optional, s.Makes()) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	slices.Sort(files)
	for _, f := range files {
		fmt.Fprintf(w, "  %q [label=%q, shape=note];\n", "file "+f, f)
	}
	for _, s := range g.Stages {
		fmt.Fprintf(w, "  %q [label=%q, shape=box, style=rounded, tooltip=%q];\n", "stage "+s.Name, s.Name, s.Summary)
		draw := func(names []string, in bool, style string) {
			for _, f := range names {
				from, to := "stage "+s.Name, "file "+f
				if in {
					from, to = to, from
				}
				fmt.Fprintf(w, "  %q -> %q%s;\n", from, to, style)
			}
		}
		out := waived[s.Name]
		draw(slices.DeleteFunc(s.Required(), func(f string) bool { return slices.Contains(out, f) }), true, "")
		draw(out, true, " [style=dotted]")
		draw(s.Optional, true, " [style=dashed]")
		draw(s.Outputs, false, "")
		draw(s.Maybe, false, " [style=dotted]")
	}
	fmt.Fprintln(w, "}")
}
