package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// listed is one line of list, and one object of its JSON.
type listed struct {
	Record
	State string `json:"state"` // leased, reserved, expired, unreadable, or no subnet (a Node without podCIDR)
	Error string `json:"error,omitempty"`
}

func list(ctx context.Context, env *tool.Env) error {
	output := env.String("output")
	if output != "json" && output != "text" {
		return exit.Errorf(exit.Usage, "--output %q: use text or json", output)
	}
	store, err := openStore(env, "")
	if err != nil {
		return err
	}
	all, err := store.List(ctx)
	if err != nil {
		return err
	}
	if all.Unused {
		return exit.WithHint(exit.Errorf(exit.Unavailable, "list %s: there is no store there", store.URL()),
			"give --store as the nodes have it; apply makes a store")
	}
	if s, ok := store.(*etcdStore); ok {
		if err := s.Expiries(ctx, all); err != nil {
			return err
		}
	}
	now := time.Now()
	lines := make([]listed, 0, len(all.Entries))
	for node, e := range all.Entries {
		lines = append(lines, lineOf(node, e, now))
	}
	slices.SortFunc(lines, func(a, b listed) int {
		return cmp.Or(a.Subnet.IPv4.Addr().Compare(b.Subnet.IPv4.Addr()), a.Subnet.IPv6.Addr().Compare(b.Subnet.IPv6.Addr()), cmp.Compare(a.Node, b.Node))
	})
	if output == "json" {
		enc := json.NewEncoder(env.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(lines)
	}
	return table(env, lines, now)
}

func lineOf(node string, e Entry, now time.Time) listed {
	if e.Record == nil {
		return listed{Record: Record{Node: node}, State: "unreadable", Error: e.Err.Error()}
	}
	line := listed{Record: *e.Record, State: "leased"}
	switch {
	case e.Record.Subnet == state.Pair[netip.Prefix]{}:
		line.State = "no subnet"
	case e.Record.Expired(now):
		line.State = "expired"
	case e.Record.Reserved():
		line.State = "reserved"
	}
	return line
}

func table(env *tool.Env, lines []listed, now time.Time) error {
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSUBNET\tPUBLIC IP\tBACK END\tSTATE\tEXPIRES IN")
	for _, l := range lines {
		expires := "-"
		if l.State == "leased" {
			expires = l.Expires.Sub(now).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Node, dash(pairText(l.Subnet)), dash(pairText(l.PublicIP)), dash(l.Backend.Type), l.State, expires)
		if l.Error != "" {
			env.Log.Warn("cannot read record", "node", l.Node, "err", l.Error)
		}
	}
	return w.Flush()
}

func dash(text string) string { return cmp.Or(text, "-") }

func release(ctx context.Context, env *tool.Env) error {
	node, err := nodeName(ctx, env)
	if err != nil {
		return err
	}
	store, err := openStore(env, node)
	if err != nil {
		return err
	}
	e, err := store.Get(ctx, node)
	if err != nil {
		return err
	}
	if e.gone() {
		fmt.Fprintf(env.Stderr, "node %s has no lease in %s\n", node, store.URL())
		return nil
	}
	_, assigned := store.(*kubeStore)
	if assigned && e.Record != nil && !e.Record.Announced() {
		return nil
	}
	if e.Record != nil && e.Record.Reserved() && !env.Bool("reservation") && !assigned {
		if !e.Record.Announced() {
			return nil
		}
		r, err := store.Publish(ctx, node, state.Pair[netip.Addr]{}, state.Published{})
		if err == nil {
			fmt.Fprintf(env.Stdout, "release %s of %s, and keep it reserved\n", pairText(r.Subnet), node)
		}
		return err
	}
	if err := store.Release(ctx, node); err != nil {
		return err
	}
	what := "unreadable record"
	if e.Record != nil {
		what = pairText(e.Record.Subnet)
	}
	fmt.Fprintf(env.Stdout, "release %s of %s\n", what, node)
	return nil
}

func reserve(ctx context.Context, env *tool.Env) error {
	node, err := nodeName(ctx, env)
	if err != nil {
		return err
	}
	store, err := openStore(env, node)
	if err != nil {
		return err
	}
	if _, ok := store.(*kubeStore); ok {
		_, err := store.Acquire(ctx, node, nil) // says why not
		return err
	}
	s := step{env: env, netConf: netConfOf(env)}
	s.etcd, _ = store.(*etcdStore)
	if err := s.checkSource(); err != nil {
		return err
	}
	conf, _, err := s.loadConf(ctx)
	if err != nil {
		return err
	}
	subnets, err := subnetsOf(env.Strings("subnet"), conf)
	if err != nil {
		return err
	}
	// Looked at first, so that a reservation that stands is not written again.
	all, err := store.List(ctx)
	if err != nil {
		return err
	}
	want, err := reservation(time.Now(), node, subnets, all)
	if err != nil {
		return err
	}
	if have := all.Entries[node].Record; have != nil && have.Subnet == want.Subnet && have.Reserved() {
		return nil
	}
	r, err := store.Acquire(ctx, node, func(all Listing) (Record, error) { return reservation(time.Now(), node, subnets, all) })
	if err == nil {
		fmt.Fprintf(env.Stdout, "reserve %s for %s\n", pairText(r.Subnet), node)
	}
	return err
}

// subnetsOf reads the subnets of a reservation, one for each family at most.
func subnetsOf(texts []string, conf netconf.Config) (state.Pair[netip.Prefix], error) {
	var subnets state.Pair[netip.Prefix]
	if len(texts) == 0 {
		return subnets, exit.Errorf(exit.Usage, "--subnet is missing")
	}
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return subnets, exit.Errorf(exit.Usage, "--subnet %q: no subnet", text)
		}
		f := state.FamilyOf(p.Addr())
		why := ""
		switch {
		case subnets.Has(f):
			why = "is the second of its family"
		case !conf.Network.Has(f):
			why = fmt.Sprintf("is of a family (%s) that is not enabled", name(f))
		default:
			why = unfit(conf, f, p, true)
		}
		if why != "" {
			return subnets, exit.Errorf(exit.Usage, "--subnet %s: it %s", p, why)
		}
		subnets.Set(f, p)
	}
	return subnets, nil
}

func explain(ctx context.Context, env *tool.Env) error {
	selection, err := selectionOf(env)
	if err != nil {
		return err
	}
	e, err := explanationOf(ctx, env)
	if err != nil {
		return err
	}
	conf := e.conf
	selection = selection.with(e.given)
	uplinks, err := nl.ReadUplinks(selection.CanReach)
	if err != nil {
		return err
	}
	choice, err := selection.Choose(uplinks, conf.Enabled(), state.Interface{})
	if err = selection.confirm(uplinkOf(uplinks, choice.Interface.Name), err); err != nil {
		return err
	}
	i := choice.Interface
	fmt.Fprintf(env.Stdout, "%s, MTU %d, address %s, publishes %s, because of %s\n", i.Name, i.MTU, pairText(i.IP), pairText(choice.PublicIP), choice.Why)
	fmt.Fprintf(env.Stdout, "all: %s\n", inventory(uplinks))
	return e.print(ctx, env, choice)
}

func hintText(err error) string { return strings.Join(exit.Hints(err), "; ") }
