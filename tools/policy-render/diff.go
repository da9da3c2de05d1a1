package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/tools/policy-render/explain"
	"github.com/towpath/towpath/tools/policy-render/flows"
	"github.com/towpath/towpath/tools/policy-render/model"
)

var diffVerb = tool.Verb{
	Name: "diff", Usage: "print what a change of objects newly allows and denies", Args: "OLD NEW", OwnOnly: true, Run: runDiff,
	Flags: append(append([]tool.Flag{}, questionFlags[1:]...), // without --objects
		tool.Flag{Name: "live", Usage: "print also which connections of this node NEW would cut", Default: false},
		tool.Flag{Name: "output", Usage: "text or json", Default: "text"},
	),
}

// difference is what diff prints.
type difference struct {
	*explain.Difference
	Live []liveFlow `json:"live,omitempty"`
}

// liveFlow is a connection that OLD allows and NEW does not. To is what it is to after DNAT.
type liveFlow struct {
	Protocol string `json:"protocol"`
	From     string `json:"from"` // ADDRESS:PORT, or an address where there are no ports
	To       string `json:"to"`
	FromPod  string `json:"fromPod,omitempty"`
	ToPod    string `json:"toPod,omitempty"`
}

func runDiff(ctx context.Context, env *tool.Env) error {
	for _, a := range env.Args {
		if strings.HasPrefix(a, "-") && a != "-" {
			return exit.WithHint(exit.Errorf(exit.Usage, "diff: %q stands after an argument: options go before the two arguments, OLD and NEW", a),
				"write policy-render diff %s ... OLD NEW; a file of that name is ./%s", a, a)
		}
	}
	if len(env.Args) != 2 {
		return exit.WithHint(exit.Errorf(exit.Usage, "diff takes two arguments, OLD and NEW, not %q", env.Args),
			"options go before them: policy-render diff --output json old/ new.yaml")
	}
	format, err := oneOf(env, "output", "text", "json")
	if err != nil {
		return err
	}
	if env.Args[0] == "-" && env.Args[1] == "-" {
		return exit.Errorf(exit.Usage, "OLD and NEW cannot both be standard input")
	}
	old, err := settingOf(ctx, env, originOfArg(env, 0))
	if err != nil {
		return err
	}
	now, err := settingOf(ctx, env, originOfArg(env, 1))
	if err != nil {
		return err
	}
	d := difference{Difference: explain.Diff(old, now)}
	if env.Bool("live") {
		if d.Live, err = liveDiff(old, now); err != nil {
			return err
		}
	}
	if format == "json" {
		return printJSON(env.Stdout, d)
	}
	text := d.Text()
	if len(d.Live) > 0 {
		text += fmt.Sprintf("would cut %d connections of this node:\n", len(d.Live))
		for _, f := range d.Live {
			text += "  " + f.String() + "\n"
		}
	}
	_, err = io.WriteString(env.Stdout, text)
	return err
}

func (f liveFlow) String() string {
	end := func(addr, pod string) string {
		if pod == "" {
			return addr
		}
		return addr + " (" + pod + ")"
	}
	return fmt.Sprintf("%s %s -> %s", f.Protocol, end(f.From, f.FromPod), end(f.To, f.ToPod))
}

// liveDiff judges the flows of this node's pods by both.
func liveDiff(old, now *explain.Setting) ([]liveFlow, error) {
	if now.Node == "" {
		return nil, errNoNode
	}
	table, err := nl.OpenConntrack()
	if err != nil {
		return nil, err
	}
	defer table.Close() //nolint:errcheck // only read from
	found, err := flows.Read(table, flows.Addrs(now.Cluster.LocalPods()))
	if err != nil {
		return nil, err
	}
	const bit = 1 // any: what is marked now does not matter
	for i := range found {
		found[i].Mark = 0
	}
	denied := func(s *explain.Setting) ([]nl.FlowMark, error) {
		node, err := flowsNode(s.Subnets, s.EgressAllowed)
		return flows.Diff(s.Cluster, node, found, bit), err
	}
	before, err := denied(old)
	if err != nil {
		return nil, err
	}
	after, err := denied(now)
	if err != nil {
		return nil, err
	}
	var out []liveFlow
	for _, m := range after {
		if !slices.Contains(before, m) {
			out = append(out, liveFlowOf(now.Cluster, m.Flow))
		}
	}
	return out, nil
}

func liveFlowOf(c *model.Cluster, f nl.Flow) liveFlow {
	pod := func(a netip.Addr) string {
		if p := c.PodByAddr(a.Unmap()); p != nil {
			return p.String()
		}
		return ""
	}
	end := func(a netip.Addr, port uint16) string {
		if port == 0 {
			return a.String()
		}
		return netip.AddrPortFrom(a, port).String()
	}
	return liveFlow{
		Protocol: strings.TrimSuffix(model.Protocol(f.Orig.Protocol).String(), "v6"),
		From:     end(f.Orig.Src, f.Orig.SrcPort), To: end(f.Reply.Src, f.Reply.SrcPort), FromPod: pod(f.Orig.Src), ToPod: pod(f.Reply.Src),
	}
}
