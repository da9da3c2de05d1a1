package main

import (
	"context"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/tool"
)

func showGraph(_ context.Context, env *tool.Env) error {
	g, _, err := load(env.Strings("stages"))
	if err != nil {
		return err
	}
	switch format := env.String("output"); format {
	case "text":
		g.Text(env.Stdout)
	case "dot":
		g.DOT(env.Stdout)
	default:
		return exit.Errorf(exit.Usage, "--output %q: use text or dot", format)
	}
	return nil
}
