package main

import (
	"strconv"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// objectFlags say which objects, and for which node.
var objectFlags = append([]tool.Flag{
	{Name: "objects", Usage: "kube (the API server), or a file or directory of objects, YAML or JSON; - is standard input", Default: "/etc/towpath/objects"},
	{Name: "node", Usage: "node whose pods are looked after (default: lease.json's)", Default: ""},
}, kube.Flags...)

// renderFlags say how the rules are written.
var renderFlags = []tool.Flag{
	{Name: "output", Usage: "write one script for nft -f to this file, - is standard output, and nothing else", Default: ""},
	{Name: "node-egress", Usage: "what pods send to their own node: police (as egress) or allow", Default: "police"},
	{Name: "drop-invalid", Usage: "drop pods' packets that belong to no connection", Default: true},
	{Name: "cut", Usage: "cut established connections that are no longer allowed", Default: true},
	{Name: "cut-mark", Usage: "bit of the connection mark that forbids a connection", Default: "0x00080000"},
	{Name: "log-group", Usage: "NFLOG group that denied packets are logged to", Default: 100},
	{Name: "log-rate", Usage: "packets that each chain logs at most", Default: "10/second"},
}

type options struct {
	origin       origin
	node, output string
	render       render.Config // without what the lease says
}

func optionsOf(env *tool.Env) (options, error) {
	o := options{origin: originOf(env), node: env.String("node"), output: env.String("output")}
	mark, err := strconv.ParseUint(env.String("cut-mark"), 0, 32)
	if err != nil || mark == 0 || mark&(mark-1) != 0 {
		return o, exit.WithHint(exit.Errorf(exit.Usage, "--cut-mark %q is not one bit", env.String("cut-mark")), "write 0x00080000, or another power of two that nothing else marks connections with")
	}
	if !env.Bool("cut") {
		mark = 0
	}
	police := map[string]bool{"police": true, "allow": false}
	policed, ok := police[env.String("node-egress")]
	if !ok {
		return o, exit.WithHint(exit.Errorf(exit.Usage, "--node-egress %q is not known", env.String("node-egress")), "use police or allow")
	}
	if o.node != "" {
		if err := state.CheckNodeName(o.node); err != nil {
			return o, exit.Errorf(exit.Usage, "--node: %w", err)
		}
	}
	o.render = render.Config{
		PoliceNode: policed, DropInvalid: env.Bool("drop-invalid"), CutMark: uint32(mark),
		LogGroup: env.Int("log-group"), LogRate: env.String("log-rate"),
	}
	return o, o.render.Validate()
}
