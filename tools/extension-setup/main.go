// Program extension-setup runs the commands of flannel's back end "extension": PreStartupCommand and PostStartupCommand once,
// SubnetAddCommand for each other node that comes, SubnetRemoveCommand for each that goes, ShutdownCommand at the end. It reads
// extension.json, lease.json and peers/ (subnet-lease's), and writes link.json, with what PreStartupCommand printed to be published,
// and extension/, which remembers what was run. It exists so that whoever has a network of their own can lead packets by
// it without writing a program that follows nodes.
package main

import (
	"context"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

const backend = "extension"

var program = tool.Program{
	Name:    "extension-setup",
	Summary: "run the commands that lead packets to the other nodes",
	Flags: []tool.Flag{
		{Name: "time-limit", Usage: "how long a command may take until it is killed", Default: 30 * time.Second},
		{Name: "jobs", Usage: "how many commands may run at once, for as many nodes", Default: 8},
	},
	Open: open,
}

type step struct {
	env    *tool.Env
	run    state.Dir
	place  nl.Place
	uplink *setup.Uplink
	runner runner
	jobs   int
}

func open(env *tool.Env) (tool.Step, error) {
	s := &step{env: env, run: env.RunDir, jobs: env.Int("jobs"), runner: runner{limit: env.Duration("time-limit"), log: env.Log}}
	if s.jobs < 1 || s.runner.limit <= 0 {
		return nil, exit.Errorf(exit.Usage, "--jobs and --time-limit have to be more than nothing")
	}
	var err error
	if s.place, err = nl.Here(); err != nil {
		return nil, err
	}
	s.uplink, err = setup.OpenUplink(env.RunDir, backend, nil)
	return s, err
}

func (s *step) Close() error { return s.uplink.Close() }

// Watch is tool.Watcher.
func (s *step) Watch(ctx context.Context, ready func()) error { return s.follow(ctx, ready) }
