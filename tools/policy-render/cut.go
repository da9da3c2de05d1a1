package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/tools/policy-render/flows"
	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/render"
)

var cutVerb = tool.Verb{
	Name: "cut", Usage: "cut the established flows of local pods that are no longer allowed, once, and let those go on that are again",
	Run: runCut,
	Flags: []tool.Flag{
		{Name: "dry-run", Usage: "print what would be done, do nothing", Default: false},
		{Name: "clear", Usage: "take the mark off every flow: nothing is cut any longer", Default: false},
	},
}

func runCut(ctx context.Context, env *tool.Env) error {
	o, err := optionsOf(env)
	if err != nil {
		return err
	}
	if o.render.CutMark == 0 {
		return exit.WithHint(exit.Errorf(exit.Usage, "cut with --cut=false"), "leave --cut away, or set TOWPATH_CUT to true")
	}
	table, err := nl.OpenConntrack()
	if err != nil {
		return err
	}
	defer table.Close() //nolint:errcheck // nothing is lost
	var marks []nl.FlowMark
	if env.Bool("clear") {
		marks, err = flows.Cleared(table, o.render.CutMark)
	} else {
		marks, err = cutMarks(ctx, env, o, table)
	}
	if err != nil {
		return err
	}
	ops := flows.Ops(table, marks)
	printed := func(op plan.Op) { fmt.Fprintln(env.Stdout, op) }
	if !env.Bool("dry-run") {
		return plan.Do(ctx, ops, printed)
	}
	for _, op := range ops {
		printed(op)
	}
	return nil
}

// cutMarks judges the flows of all local pods.
func cutMarks(ctx context.Context, env *tool.Env, o options, table flows.Table) ([]nl.FlowMark, error) {
	_, err := os.Stat(env.RunDir.Lease()) // with --node it works beside other networks too
	w, err := readWorld(ctx, o, env.RunDir, err == nil)
	if err != nil {
		return nil, err
	}
	w.cluster.Commit()
	node, err := flowsNode(subnetsOf(w.config), !w.config.PoliceNode)
	if err != nil {
		return nil, err
	}
	found, err := flows.Read(table, flows.Addrs(w.cluster.LocalPods()))
	if err != nil {
		return nil, err
	}
	return flows.Diff(w.cluster, node, found, o.render.CutMark), nil
}

// flowsNode is what a judgement depends on beside the model.
func flowsNode(subnets []netip.Prefix, egressAllowed bool) (flows.Node, error) {
	n := flows.Node{Subnets: subnets, EgressAllowed: egressAllowed}
	conn, err := nl.Open()
	if err != nil {
		return n, err
	}
	defer conn.Close()
	addrs, err := conn.Addrs(0)
	for _, a := range addrs {
		n.Addrs = append(n.Addrs, a.Prefix.Addr())
	}
	return n, err
}

// subnetsOf are the pod subnets of the node that rules are rendered for.
func subnetsOf(c render.Config) (out []netip.Prefix) {
	for _, f := range state.Families {
		if c.Subnet.Has(f) {
			out = append(out, c.Subnet.Of(f))
		}
	}
	return out
}

// cutting is the cutter of a watch: flows are listed on a goroutine of their own, which may take a while, and judged on
// the watcher's, which has the cluster.
type cutting struct {
	step   *step
	cutter *flows.Cutter
	table  *nl.Conntrack
	calls  chan func(context.Context, *model.Cluster)
	config render.Config // with the last lease
}

// startCutting opens what a watch needs; it ends with ctx.
func startCutting(ctx context.Context, s *step) (cutter, error) {
	lists, err := nl.OpenConntrack()
	if err != nil {
		return nil, err
	}
	table, err := nl.OpenConntrack()
	if err != nil {
		lists.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	failed := func(err error) { s.env.Log.Warn("cannot list flows", "err", err) }
	c := &cutting{
		step: s, cutter: flows.NewCutter(ctx, lists, failed), table: table,
		calls: make(chan func(context.Context, *model.Cluster)), config: s.options.render,
	}
	go c.run(ctx)
	return c, nil
}

func (c *cutting) after(affected []netip.Addr) { c.cutter.Request(affected) }

func (c *cutting) work() <-chan func(context.Context, *model.Cluster) { return c.calls }

func (c *cutting) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case found := <-c.cutter.Found():
			select {
			case c.calls <- func(ctx context.Context, cluster *model.Cluster) { c.judge(ctx, cluster, found) }:
			case <-ctx.Done():
				return
			}
		}
	}
}

// logMax is how many flows are logged one by one.
const logMax = 20

// judge cuts what is no longer allowed, and lets go on what is again.
func (c *cutting) judge(ctx context.Context, cluster *model.Cluster, found []flows.Found) {
	log := c.step.env.Log
	if lease, err := state.Load[state.Lease](c.step.dir.Lease()); err == nil { // else the last one stays in force
		c.config = withLease(c.step.options.render, &lease)
	}
	node, err := flowsNode(subnetsOf(c.config), !c.config.PoliceNode)
	if err != nil { // without them what a node sends to its pods would be cut
		log.Warn("cannot list the node's addresses", "err", err)
		return
	}
	done := 0
	err = plan.Do(ctx, flows.Ops(c.table, flows.Diff(cluster, node, found, c.config.CutMark)), func(op plan.Op) {
		if done++; done <= logMax {
			log.Info("done", "op", op.String())
		}
	})
	if done > logMax {
		log.Info("done, and more of the kind", "flows", done-logMax)
	}
	if err != nil {
		log.Warn("cannot mark flows", "err", err)
	}
}
