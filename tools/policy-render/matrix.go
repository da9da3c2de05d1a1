package main

import (
	"context"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/tools/policy-render/explain"
)

var matrixVerb = tool.Verb{
	Name: "matrix", Usage: "print who reaches whom", OwnOnly: true, Run: runMatrix,
	Flags: append(append([]tool.Flag{}, questionFlags...),
		tool.Flag{Name: "port", Usage: "only about this port, such as 80/TCP or icmp (default: every port)", Default: ""},
		tool.Flag{Name: "format", Usage: "text, csv or html", Default: "text"},
	),
}

func runMatrix(ctx context.Context, env *tool.Env) error {
	format, err := oneOf(env, "format", "text", "csv", "html")
	if err != nil {
		return err
	}
	var port *explain.Port
	if text := env.String("port"); text != "" {
		p, err := explain.ParsePort(text)
		switch {
		case err != nil:
			return err
		case p.Name != "":
			return exit.WithHint(exit.Errorf(exit.Usage, "--port %q: a name means another port for each pod", text), "give a number: --port 80/TCP")
		}
		port = &p
	}
	s, err := settingOf(ctx, env, originOf(env))
	if err != nil {
		return err
	}
	m := explain.NewMatrix(s, port)
	switch format {
	case "csv":
		return m.CSV(env.Stdout)
	case "html":
		return m.HTML(env.Stdout)
	}
	return m.Text(env.Stdout)
}
