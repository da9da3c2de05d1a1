package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/setup"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

var probeVerb = tool.Verb{
	Name: "probe", Usage: "ask other nodes whether packets whose checksum the network card is to fill in arrive there", OwnOnly: true,
	Flags: []tool.Flag{
		{Name: "peer", Usage: "node to ask, in place of up to 8 by chance", Default: []string(nil)},
		{Name: "again", Usage: "do not ask now: have watch, with --checksum-offload auto, forget its verdict and find out anew", Default: false},
	},
	Run: func(ctx context.Context, env *tool.Env) error {
		if env.Bool("again") {
			return forget(env)
		}
		return probe(ctx, env.RunDir, env.Strings("peer"), env.Stdout)
	},
}

// forget takes what the verdicts count under out of checksum.json, so that they count no more. What was turned off stays
// so until watch has tried it.
func forget(env *tool.Env) error {
	found, err := state.Load[state.Checksum](env.RunDir.Checksum())
	if err != nil {
		return exit.WithHint(err, "watch writes it once it has a verdict, with --checksum-offload auto")
	}
	for _, f := range state.Families {
		if is := found.Device.Of(f); is != (state.ChecksumFound{}) {
			is.Uplink, is.Driver, is.MTU = "", "", 0
			found.Device.Set(f, is)
		}
	}
	changed, err := state.Save(env.RunDir.Checksum(), found)
	if changed {
		fmt.Fprintln(env.Stdout, "write", env.RunDir.Checksum())
	}
	return err
}

// probe asks about each device of link.json and prints what came of it.
func probe(ctx context.Context, run state.Dir, nodes []string, out io.Writer) error {
	input, err := setup.Input(run, backend)
	if err != nil {
		return err
	}
	link, err := state.Load[state.Link](run.Link())
	if err != nil {
		return exit.WithHint(err, "vxlan-setup apply or watch writes it, when the device stands")
	}
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DEVICE\tPEER\tOFFLOADED\tCOMPLETE\tVERDICT")
	verdicts := map[string]int{}
	broken := ""
	for _, f := range state.Families {
		name := link.Device.Of(f).Name
		if name == "" || !input.Subnet.Has(f) {
			continue
		}
		device, ok, err := conn.Link(name)
		if err != nil {
			return err
		}
		if !ok {
			return exit.Errorf(exit.TryAgain, "device %q: it is not there", name)
		}
		offloaded, err := nl.TxChecksum(name)
		if err != nil {
			return err
		}
		peers, err := pick(run, f, device.Index, nodes)
		if err != nil {
			return err
		}
		for _, t := range ask(ctx, input.Subnet.Of(f).Addr(), peers, offloaded) {
			verdict := t.verdict()
			if !offloaded && t.complete.answered > 0 {
				verdict = "offload is off"
			}
			if verdict == fault {
				broken = name
			}
			verdicts[verdict]++
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", name, t.node, t.offloaded, t.complete, verdict)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	switch {
	case broken != "":
		return exit.WithHint(exit.Errorf(exit.BadConfig, "checksum offload of %q is on, and packets with it do not arrive", broken),
			"vxlan-setup --checksum-offload auto or off, on this node")
	case len(verdicts) == 0:
		return exit.WithHint(exit.Errorf(exit.TryAgain, "no peer to ask"), "none is reached through the tunnel: see %s and %s", run.Peers(), run.Routes())
	case len(verdicts) == 1 && verdicts[unknown] > 0:
		return exit.WithHint(exit.Errorf(exit.TryAgain, "no peer answered"),
			"their firewall may drop UDP port %d or ICMP from other nodes, or the tunnel does not reach them at all", knockPort)
	}
	return ctx.Err()
}
