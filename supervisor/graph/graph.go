// Package graph orders stages by the files between them. A stage comes after those that write what
// it needs; nothing else makes an edge, and optional inputs make none.
package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/supervisor/stage"
)

// Edge says that To needs File, which From writes.
type Edge struct {
	From, To string
	File     string // as To names it
}

// Graph is a set of stages in order: each after the stages it needs, names deciding where files do
// not.
type Graph struct {
	Stages []*stage.Stage
	Edges  []Edge
	Masked []*stage.Stage // what the masked stages would be; they order nothing
}

// Build orders stages. Stages in a circle, and two stages that write one file and could both be
// run, are refused by name (exit status 78).
func Build(stages []*stage.Stage) (*Graph, error) {
	byName := slices.Clone(stages)
	slices.SortFunc(byName, func(a, b *stage.Stage) int { return strings.Compare(a.Name, b.Name) })
	g := &Graph{}
	for _, to := range byName {
		for _, file := range to.Required() {
			for _, from := range byName {
				if writes(from, file) {
					g.Edges = append(g.Edges, Edge{From: from.Name, To: to.Name, File: file})
				}
			}
		}
	}
	errs := rivals(byName)
	done := map[string]bool{}
	for len(g.Stages) < len(byName) {
		i := slices.IndexFunc(byName, func(s *stage.Stage) bool { return !done[s.Name] && g.met(s.Name, done) })
		if i < 0 {
			errs = append(errs, g.circle(byName, done))
			break
		}
		done[byName[i].Name] = true
		g.Stages = append(g.Stages, byName[i])
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return g, nil
}

func writes(s *stage.Stage, file string) bool {
	return slices.ContainsFunc(s.Makes(), func(out string) bool { return stage.Overlap(out, file) })
}

func (g *Graph) met(name string, done map[string]bool) bool {
	return !slices.ContainsFunc(g.Edges, func(e Edge) bool { return e.To == name && !done[e.From] })
}

// circle walks from any stage that is left to one it needs until a stage comes up again.
func (g *Graph) circle(stages []*stage.Stage, done map[string]bool) error {
	i := slices.IndexFunc(stages, func(s *stage.Stage) bool { return !done[s.Name] })
	at, walk := stages[i].Name, []Edge{}
	for !slices.ContainsFunc(walk, func(e Edge) bool { return e.To == at }) {
		i := slices.IndexFunc(g.Edges, func(e Edge) bool { return e.To == at && !done[e.From] })
		walk = append(walk, g.Edges[i])
		at = g.Edges[i].From
	}
	walk = walk[slices.IndexFunc(walk, func(e Edge) bool { return e.To == at }):]
	var parts []string
	for _, e := range walk {
		parts = append(parts, fmt.Sprintf("%s needs %s of %s", e.To, e.File, e.From))
	}
	return exit.WithHint(exit.Errorf(exit.BadConfig, "stages wait for each other in a circle: %s", strings.Join(parts, ", ")),
		"make one of the files an optional input")
}

// rivals refuses every pair of stages that write one file, unless each has a required file of its
// own, so that which of them runs is decided by files.
func rivals(stages []*stage.Stage) []error {
	var errs []error
	for i, a := range stages {
		for _, b := range stages[i+1:] {
			file := Conflict(a, b)
			if file == "" || apart(a, b) && apart(b, a) {
				continue
			}
			errs = append(errs, exit.WithHint(exit.Errorf(exit.BadConfig, "stages %s and %s both write %s", a.Name, b.Name, file),
				"mask one of them, or give each an input that the other lacks and of which only one exists"))
		}
	}
	return errs
}

// Conflict is a file that both stages write, or "".
func Conflict(a, b *stage.Stage) string {
	for _, file := range a.Makes() {
		if writes(b, file) {
			return file
		}
	}
	return ""
}

func apart(a, b *stage.Stage) bool {
	return slices.ContainsFunc(a.Required(), func(f string) bool { return !slices.Contains(b.Required(), f) })
}

// Producers is every stage that writes file.
func (g *Graph) Producers(file string) []*stage.Stage {
	var out []*stage.Stage
	for _, s := range g.Stages {
		if writes(s, file) {
			out = append(out, s)
		}
	}
	return out
}

// Consumers is the names of the stages that need what the named one writes.
func (g *Graph) Consumers(name string) []string {
	var out []string
	for _, e := range g.Edges {
		if e.From == name && !slices.Contains(out, e.To) {
			out = append(out, e.To)
		}
	}
	return out
}

// Idle says of each stage that waits whether nothing will write what it waits for as things stand:
// every stage that might is settled without having done so, or is idle itself. missing is the files
// that each waiting stage lacks; settled says that a stage's outputs stand.
func (g *Graph) Idle(missing map[string][]string, settled func(name string) bool) map[string]bool {
	idle := map[string]bool{}
	for _, s := range g.Stages { // producers come first, so one pass is enough
		idle[s.Name] = slices.ContainsFunc(missing[s.Name], func(file string) bool {
			producers := g.Producers(file)
			return len(producers) > 0 && !slices.ContainsFunc(producers, func(p *stage.Stage) bool {
				chose := settled(p.Name) && slices.ContainsFunc(p.Maybe, func(f string) bool { return stage.Overlap(f, file) })
				return !idle[p.Name] && !chose
			})
		})
	}
	return idle
}
