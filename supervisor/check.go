package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

// finding is one thing that check has to say of a stage.
type finding struct {
	stage string
	fatal bool
	text  string
}

func (f finding) String() string {
	level := "warning"
	if f.fatal {
		level = "error"
	}
	return fmt.Sprintf("%s: %s: %s", level, f.stage, f.text)
}

func check(_ context.Context, env *tool.Env) error {
	dirs := env.Strings("stages")
	g, masked, err := load(dirs)
	if err != nil {
		return err
	}
	var found []finding
	for _, s := range g.Stages {
		for i, command := range [][]string{s.Command, s.Down} {
			if len(command) == 0 || i > 0 && command[0] == s.Command[0] {
				continue
			}
			if _, err := process.Find(command[0]); err != nil {
				found = append(found, finding{s.Name, true, err.Error()})
			}
		}
		found = append(found, orphaned(g, s)...)
	}
	// Names are compared as the files have them by default: where they are on this machine is the
	// administrator's choice.
	byDefault, err := stage.Load(dirs, func(string) (string, bool) { return "", false })
	if err != nil {
		byDefault = &stage.Set{Stages: g.Stages}
	}
	for _, s := range byDefault.Stages {
		found = append(found, unregistered(s)...)
	}
	waived := waivedNow(env, g)
	for _, name := range slices.Sorted(maps.Keys(waived)) {
		fmt.Fprintf(env.Stdout, "note: %s: gate %s is left out: nothing here writes it as things stand\n", name, strings.Join(waived[name], ", "))
	}
	fatal := 0
	for _, f := range found {
		fmt.Fprintln(env.Stdout, f)
		if f.fatal {
			fatal++
		}
	}
	fmt.Fprintf(env.Stdout, "%d stages, %d masked, %d errors, %d warnings\n", len(g.Stages), len(masked), fatal, len(found)-fatal)
	if fatal > 0 {
		return exit.Errorf(exit.BadConfig, "the stage files have %d errors", fatal)
	}
	return nil
}

// orphaned names the files below the run directory that a stage waits for and no stage writes.
func orphaned(g *graph.Graph, s *stage.Stage) []finding {
	var out []finding
	for _, name := range s.Required() {
		if !filepath.IsAbs(name) && len(g.Producers(name)) == 0 {
			out = append(out, finding{s.Name, false, fmt.Sprintf("no stage writes its input %s", name)})
		}
	}
	return out
}

// unregistered compares a stage with lib/state, which says who writes and who reads each file. A
// program that lib/state does not know may do as it likes with files that are no one else's.
func unregistered(s *stage.Stage) []finding {
	program, known := programOf(s)
	var out []finding
	compare := func(names []string, what string, may func(state.File) []string) {
		for _, name := range names {
			files := registered(name)
			switch {
			case len(files) == 0 && known:
				out = append(out, finding{s.Name, true, fmt.Sprintf("%s %s: no such file is known", what, name)})
			case len(files) > 0 && !slices.ContainsFunc(files, func(f state.File) bool { return slices.Contains(may(f), program) }):
				out = append(out, finding{s.Name, known, fmt.Sprintf("%s %s: %s is none of those who may, %s",
					what, name, program, strings.Join(may(files[0]), ", "))})
			}
		}
	}
	compare(slices.Concat(s.Required(), s.Optional), "reads", func(f state.File) []string { return f.Consumers })
	compare(s.Makes(), "writes", func(f state.File) []string { return f.Producers })
	if !known {
		out = append(out, finding{s.Name, false, fmt.Sprintf("program %s is not one of towpath's: only its name is checked", program)})
	}
	return out
}

// programOf is the name that lib/state has for the stage's program: "cni-bridge conf" has its verb.
func programOf(s *stage.Stage) (name string, known bool) {
	name = filepath.Base(s.Command[0])
	candidates := []string{name}
	if len(s.Command) > 1 {
		candidates = append([]string{name + " " + s.Command[1]}, candidates...)
	}
	for _, c := range candidates {
		if slices.ContainsFunc(state.Registry, func(f state.File) bool {
			return slices.Contains(f.Producers, c) || slices.Contains(f.Consumers, c)
		}) {
			return c, true
		}
	}
	return name, false
}

var variables = regexp.MustCompile(`[A-Z]{2,}`)

// registered is the entries of lib/state that a name means, a directory those of the files in it.
func registered(name string) []state.File {
	var out []state.File
	for _, f := range state.Registry {
		if strings.HasSuffix(name, "/") {
			if strings.HasPrefix(f.Name, name) {
				out = append(out, f)
			}
			continue
		}
		pattern := variables.ReplaceAllString(regexp.QuoteMeta(f.Name), `[^/]+`)
		if regexp.MustCompile("^" + pattern + "$").MatchString(name) {
			out = append(out, f)
		}
	}
	return out
}
