// Command towpath starts the programs of a node, each when the files it needs exist, restarts it when
// it dies and runs it again when an input changed. It reads stage files (stages.d/NAME.toml) and
// writes supervisor/STAGE.json. It knows files and processes, nothing of networks: killing it leaves
// every packet on its way.
package main

import (
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/supervisor/stage"
)

func main() { tool.Main(program) }

const programName = "towpath"

var program = tool.Program{
	Name:    programName,
	Summary: "run the programs of a node, each when its inputs exist",
	Flags: []tool.Flag{
		{Name: "stages", Usage: "directory of stage files; a later one replaces or masks what an earlier one holds", Default: stage.Search},
	},
	Verbs: []tool.Verb{
		{
			Name: "supervise", Usage: "run the stages until told to end; what they made stays", Run: supervise,
			Flags: []tool.Flag{{Name: "health", Usage: "ADDRESS:PORT or unix:PATH to serve /healthz and /readyz on; empty: nowhere", Default: ""}},
		},
		{
			Name: "status", Usage: "print how each stage is, also when no supervisor runs", Run: status,
			Flags: []tool.Flag{
				{Name: "output", Usage: "table or json", Default: "table"},
				{Name: "wait", Usage: "wait up to this long until every stage is as it should be", Default: noWait},
			},
		},
		{
			Name: "graph", Usage: "print the stages in the order of the files between them", Run: showGraph,
			Flags: []tool.Flag{{Name: "output", Usage: "text or dot", Default: "text"}},
		},
		{Name: "check", Usage: "check the stage files and what they name", Run: check},
		{
			Name: "denied", Usage: "print the packets that NetworkPolicies denied (policy-denied watch)", OwnOnly: true, Run: denied, Flags: deniedFlags,
		},
		{Name: "takeover", Usage: "take this node over from flannel: print the plan, or with --yes do it", Run: takeover, Flags: takeoverFlags},
		{Name: "handback", Usage: "give this node back to flannel: print the plan, or with --yes do it", Run: handback, Flags: handbackFlags},
		{
			Name: "down", Usage: "run the stages' down programs in reverse order", Run: down,
			Flags: []tool.Flag{
				{Name: "stop", Usage: "stop a running supervisor first", Default: false},
				{Name: "purge", Usage: "remove also the run directory, once nothing is left of what the stages made", Default: false},
			},
		},
	},
}
