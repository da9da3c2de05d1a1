// Program vxlan-setup reads vxlan.json (what subnet-lease decided) and makes the VXLAN device
// between the nodes as it asks: flannel.VNI for IPv4, flannel-v6.VNI for IPv6, compatible with
// flannel's in name, port, flags and address. It writes link.json, which says to the others which
// device it is, what MTU pods must have and what to publish. It exists as a program of its own so
// that the device can be looked at, made, repaired and removed by itself, whatever the rest does.
package main

import (
	"context"
	"sync"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program) }

var program = tool.Program{
	Name:    "vxlan-setup",
	Summary: "make the VXLAN device between the nodes",
	Flags: []tool.Flag{
		{Name: "take-over", Usage: "replace a device that has the name, does not fit and is not towpath's; with down: delete flannel's too", Default: false},
		{Name: "hand-back", Usage: "with down: take the mark off the devices and leave them, for flannel to go on with", Default: false},
		{Name: "checksum-offload", Usage: "auto, on or off: whether the devices take packets whose checksum the network card is to fill in; " +
			"auto turns that off where they are found not to arrive", Default: string(auto)},
		{Name: "sysctl-root", Usage: sysctl.FlagUsage, Default: sysctl.Default},
	},
	Open: func(env *tool.Env) (tool.Step, error) {
		sysctl.Root = env.String("sysctl-root")
		if verb := env.Verb(); sysctl.ReadOnly(sysctl.AcceptRA("all")) && (verb == "apply" || verb == "watch") {
			env.Log.Warn("the kernel's parameters are read-only: the device takes router advertisements, if pods or peers send them over it",
				"path", sysctl.Root, "hint", "mount the host's /proc/sys/net elsewhere and name that place with --sysctl-root")
		}
		return open(env)
	},
	Verbs: []tool.Verb{probeVerb},
}

type step struct {
	run      state.Dir
	conn     *nl.Conn
	takeOver bool
	handBack bool
	mode     offload

	prober  *prober
	probing sync.WaitGroup
	stop    context.CancelFunc // ends probing; nil while there is none

	mu      sync.Mutex
	watched watched
	remark  string
}

func open(env *tool.Env) (*step, error) {
	mode, err := parseOffload(env.String("checksum-offload"))
	if err != nil {
		return nil, err
	}
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	return &step{
		run: env.RunDir, conn: conn, takeOver: env.Bool("take-over"), handBack: env.Bool("hand-back"), mode: mode,
		prober: newProber(env.RunDir, env.Log),
	}, nil
}

func (s *step) Close() error {
	if s.stop != nil {
		s.stop()
		s.probing.Wait()
	}
	return s.conn.Close()
}

// Plan is tool.Step.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	input, err := setup.Input(s.run, backend)
	if err != nil {
		return nil, err
	}
	have, err := s.observe()
	if err != nil {
		return nil, err
	}
	want, link, err := decide(s.run.Backend(backend), input, have, s.takeOver)
	s.remember(input, want, have)
	if err != nil {
		return nil, err
	}
	found := s.offloads(want, have, have.Links[input.Interface.Name])
	ops, err := s.publish(Diff(s.conn, want, have), want, link)
	if err != nil {
		return nil, err
	}
	return s.writeDown(ops, found)
}
