package graph

import (
	"path/filepath"
	"slices"

	"github.com/towpath/towpath/supervisor/stage"
)

// Waiver is what follows from files that nothing will write as things stand.
type Waiver struct {
	// Gates are the gates of each stage that are left out.
	Gates map[string][]string
	// Idle are the stages that have nothing to do: only gates that are left out would come of them.
	Idle map[string]bool
}

// Waive finds the gates that are left out: those that are missing, whose every writer is masked or can never
// run as things stand, and that are all that their stage waits for. A stage can never run while it waits for a file that
// such writers write, or for one outside the run directory that no stage writes: that is the administrator's, who
// says by it whether the stage is used. missing is the required files of each stage that do not exist. The
// answer depends on nothing else, so it is the same in whichever order files came and went.
func (g *Graph) Waive(missing map[string][]string) Waiver {
	w := Waiver{Gates: map[string][]string{}, Idle: map[string]bool{}}
	never := map[string]bool{}
	dead := func(file string) bool {
		producers := g.Producers(file)
		if len(producers) == 0 && !g.masked(file) {
			return filepath.IsAbs(file)
		}
		return !slices.ContainsFunc(producers, func(p *stage.Stage) bool { return !never[p.Name] })
	}
	for _, s := range g.Stages { // producers come first, so one pass is enough
		var gates, rest []string
		for _, file := range missing[s.Name] {
			written := len(g.Producers(file)) > 0 || g.masked(file)
			if slices.Contains(s.Gates, file) && written && dead(file) {
				gates = append(gates, file)
			} else {
				rest = append(rest, file)
			}
		}
		if len(rest) == 0 && len(gates) > 0 {
			w.Gates[s.Name] = gates
		}
		never[s.Name] = slices.ContainsFunc(rest, dead)
	}
	for _, s := range slices.Backward(g.Stages) {
		uses, needed := 0, false
		for _, e := range g.Edges {
			switch {
			case e.From != s.Name:
			case w.Idle[e.To], slices.Contains(w.Gates[e.To], e.File):
				uses++
			default:
				needed = true
			}
		}
		w.Idle[s.Name] = never[s.Name] && uses > 0 && !needed
	}
	return w
}

// masked says whether a masked stage would write the file.
func (g *Graph) masked(file string) bool {
	return slices.ContainsFunc(g.Masked, func(s *stage.Stage) bool { return writes(s, file) })
}
