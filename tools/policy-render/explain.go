package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/tools/policy-render/explain"
	"github.com/towpath/towpath/tools/policy-render/model"
	"github.com/towpath/towpath/tools/policy-render/objects"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// questionFlags are those of the verbs that only answer.
var questionFlags = append(append([]tool.Flag{}, objectFlags...),
	tool.Flag{Name: "node-egress", Usage: "what pods send to their own node: police (as egress) or allow", Default: "police"},
)

var explainVerb = tool.Verb{
	Name: "explain", Usage: "print allow or deny, then why", OwnOnly: true, Run: runExplain,
	Flags: append(append([]tool.Flag{}, questionFlags...),
		tool.Flag{Name: "from", Usage: "source: NAMESPACE/POD, an address, or external", Default: ""},
		tool.Flag{Name: "to", Usage: "destination: NAMESPACE/POD, an address, or external", Default: ""},
		tool.Flag{Name: "port", Usage: "port of the destination: 80/TCP, a port's name, or icmp", Default: ""},
		tool.Flag{Name: "output", Usage: "text or json", Default: "text"},
	),
}

func runExplain(ctx context.Context, env *tool.Env) error {
	for _, flag := range []string{"from", "to", "port"} {
		if env.String(flag) == "" {
			return exit.WithHint(exit.Errorf(exit.Usage, "--%s is missing", flag), "policy-render explain --from dev/a --to prod/b --port 80/TCP")
		}
	}
	from, err := explain.ParseEnd(env.String("from"))
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	to, err := explain.ParseEnd(env.String("to"))
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	port, err := explain.ParsePort(env.String("port"))
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	asJSON, err := oneOf(env, "output", "text", "json")
	if err != nil {
		return err
	}
	s, err := settingOf(ctx, env, originOf(env))
	if err != nil {
		return err
	}
	a, err := s.Explain(from, to, port)
	switch {
	case err != nil:
		return err
	case asJSON == "json":
		return printJSON(env.Stdout, a)
	}
	_, err = io.WriteString(env.Stdout, a.Text())
	return err
}

// oneOf is the value of a flag that takes one of some words.
func oneOf(env *tool.Env, flag string, words ...string) (string, error) {
	v := env.String(flag)
	for _, w := range words {
		if v == w {
			return v, nil
		}
	}
	return "", exit.Errorf(exit.Usage, "--%s %q is not one of %q", flag, v, words)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// settingOf reads objects to answer questions about, and, where there is a run directory, which node this is and
// which addresses its pods really have. Nothing of it is needed: a question about objects can be asked anywhere.
func settingOf(ctx context.Context, env *tool.Env, source origin) (*explain.Setting, error) {
	s := &explain.Setting{Node: env.String("node")}
	egress, err := oneOf(env, "node-egress", "police", "allow")
	if err != nil {
		return nil, err
	}
	s.EgressAllowed = egress == "allow"
	here := true // the run directory is about the node in question
	lease, err := state.Load[state.Lease](env.RunDir.Lease())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if here = s.Node == "" || s.Node == lease.Node; here {
			s.Node = lease.Node
			s.NodeAddrs, s.Subnets = leaseAddrs(&lease)
			c := withLease(render.Config{}, &lease)
			s.TunnelPort = c.TunnelPort
			for _, f := range state.Families {
				if c.Network.Has(f) {
					s.Network = append(s.Network, c.Network.Of(f))
				}
			}
		}
	}
	s.Cluster = model.New(s.Node)
	if source.live() {
		s.Cluster.RequireNamespaces()
	}
	s.Cluster.SetNodeAddrs(s.NodeAddrs)
	ends := map[string]model.Key{}
	if here {
		if err := readEndpoints(env.RunDir, s.Cluster, ends); err != nil {
			return nil, err
		}
	}
	list, err := source.read(ctx)
	if err != nil {
		return nil, err
	}
	var pods []*model.Pod
	for i := range list {
		if list[i].Pod != nil {
			pods = append(pods, list[i].Pod)
		}
	}
	s.Placed = explain.Place(pods, slices.Collect(maps.Values(ends)))
	if err := objects.Load(s.Cluster, list); err != nil {
		return nil, err
	}
	s.Waiting = map[model.Key]bool{}
	for _, id := range s.Cluster.Commit().Waiting {
		s.Waiting[ends[id]] = true
	}
	return s, nil
}

func leaseAddrs(l *state.Lease) (node []netip.Addr, subnets []netip.Prefix) {
	for _, f := range state.Families {
		for _, a := range []netip.Addr{l.PublicIP.Of(f), l.Interface.IP.Of(f)} {
			if a.IsValid() {
				node = append(node, a.Unmap())
			}
		}
		if l.Subnet.Has(f) {
			subnets = append(subnets, l.Subnet.Of(f))
			node = append(node, l.Subnet.Of(f).Addr().Next()) // the bridge's
		}
	}
	return node, subnets
}

// readEndpoints puts the endpoints of this node into the cluster, and their pods by ID into ends.
func readEndpoints(dir state.Dir, c *model.Cluster, ends map[string]model.Key) error {
	paths, err := endpointFiles(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		e, err := readEndpoint(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the pod ended meanwhile
		}
		if err != nil {
			return err
		}
		c.SetEndpoint(e)
		ends[e.ID] = e.Pod
	}
	return nil
}

// objectOptions reads objects with standard input and the log of a call.
func objectOptions(env *tool.Env) objects.Options {
	return objects.Options{
		Stdin: env.Stdin,
		Skipped: func(p objects.Place, version, kind string) {
			env.Log.Debug("skipped", "object", p.String(), "apiVersion", version, "kind", kind)
		},
		Warn: objects.Once(func(p objects.Place, err error) {
			env.Log.Warn("left out", "object", p.String(), "err", err, "hint", strings.Join(exit.Hints(err), "; "))
		}),
	}
}
