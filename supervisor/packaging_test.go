package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/supervisor/graph"
	"github.com/towpath/towpath/supervisor/stage"
)

// TestStageFiles: every file that a shipped stage names is one that lib/state knows, with that
// program as its producer or consumer, and the stages fit together.
func TestStageFiles(t *testing.T) {
	set, err := stage.Load([]string{"../packaging/stages.d"}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	g, err := graph.Build(set.Stages)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g.Stages {
		for _, f := range slices.Concat(unregistered(s), orphaned(g, s)) {
			t.Error(f)
		}
		if s.Summary == "" {
			t.Errorf("%s has no summary", s.Name)
		}
		if len(s.Program) == 0 {
			t.Errorf("%s names no program, whose plan and apply towpath takeover needs", s.Name)
		}
	}
	// and the other way round: whatever a program of the pipeline is said to write, its stage says too
	for _, f := range state.Registry {
		for _, producer := range f.Producers {
			i := slices.IndexFunc(g.Stages, func(s *stage.Stage) bool {
				name, _ := programOf(s)
				return name == producer
			})
			if i < 0 {
				continue // run by others: cni-bridge by the container runtime, the supervisor itself
			}
			dir, _, _ := strings.Cut(f.Name, "/")
			if !slices.ContainsFunc(g.Stages[i].Makes(), func(out string) bool { return stage.Overlap(out, f.Name) || out == dir+"/" }) {
				t.Errorf("%s does not say that it writes %s", g.Stages[i].Name, f.Name)
			}
		}
	}
}

func TestUnit(t *testing.T) {
	data, err := os.ReadFile(filepath.FromSlash("../packaging/systemd/towpath.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Type=notify", "WatchdogSec=30", "KillMode=process", "EnvironmentFile=-/etc/towpath/environment", "ExecStart=/usr/bin/towpath supervise",
		"Restart=on-failure", // not always: towpath down --stop must not be undone
	} {
		if !slices.Contains(strings.Split(string(data), "\n"), line) {
			t.Errorf("the unit lacks %s", line)
		}
	}
}
