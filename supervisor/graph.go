package main

import (
	"context"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/engine"
	"github.com/towpath/towpath/supervisor/graph"
)

func showGraph(_ context.Context, env *tool.Env) error {
	g, _, err := load(env.Strings("stages"))
	if err != nil {
		return err
	}
	waived := waivedNow(env, g)
	switch format := env.String("output"); format {
	case "text":
		g.Text(env.Stdout, waived)
	case "dot":
		g.DOT(env.Stdout, waived)
	default:
		return exit.Errorf(exit.Usage, "--output %q: use text or dot", format)
	}
	return nil
}

// waivedNow is the gates of each stage that are left out as the files are now.
func waivedNow(env *tool.Env, g *graph.Graph) map[string][]string {
	missing := map[string][]string{}
	for _, s := range g.Stages {
		missing[s.Name] = engine.Lacking(string(env.RunDir), s)
	}
	return g.Waive(missing).Gates
}
