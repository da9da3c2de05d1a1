package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// explanation is what explain needs beside the interfaces.
type explanation struct {
	conf  netconf.Config
	own   *kube.Node // nil: the store is not the API
	etcd  *etcdStore // nil: the store is another
	node  string
	given state.Pair[netip.Addr] // by annotations of the node
}

func explanationOf(ctx context.Context, env *tool.Env) (e explanation, err error) {
	s := step{env: env, netConf: netConfOf(env)}
	if err := s.checkSource(); err != nil {
		return e, err
	}
	if inEtcd(env) {
		if e.node, err = nodeName(ctx, env); err != nil {
			return e, err
		}
		store, err := openStore(env, e.node)
		if err != nil {
			return e, err
		}
		e.etcd = store.(*etcdStore)
		s.etcd = e.etcd
	}
	if strings.HasPrefix(s.netConf, state.ConfigMap) {
		client, err := openKube(env)
		if err != nil {
			return e, err
		}
		if s.confMap, err = openConfigMap(client, s.netConf); err != nil {
			return e, err
		}
	}
	if e.conf, _, err = s.loadConf(ctx); err != nil || env.String("store") != state.Kube {
		return e, err
	}
	node, err := nodeName(ctx, env)
	if err != nil {
		return e, err
	}
	store, err := openStore(env, node)
	if err != nil {
		return e, err
	}
	if _, err := store.Get(ctx, node); err != nil {
		return e, err
	}
	own, err := store.(*kubeStore).Own()
	if err != nil {
		return e, err
	}
	e.own = &own
	e.given, err = given(own)
	return e, err
}

// print says what the store has to do with the lease.
func (e explanation) print(ctx context.Context, env *tool.Env, choice Choice) error {
	switch {
	case e.etcd != nil:
		return e.printKey(ctx, env, choice)
	case e.own == nil:
		return nil
	}
	q := Request{Node: e.own.Name, Conf: e.conf, Path: env.String("net-conf"), PublicIP: choice.PublicIP, Backend: state.Published{Type: e.conf.Backend.Type}}
	have, want, err := q.Adopt(*e.own)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "node %s: subnet %s, inside the network %s; it publishes %s\n", q.Node, pairText(have.Subnet), pairText(e.conf.Network),
		dash(strings.TrimSpace(pairText(have.PublicIP)+" "+have.Backend.Type)))
	for _, f := range state.Families {
		if a, err := addressIn(*e.own, overwriteKeys[f], f); err == nil && a.IsValid() && want.Subnet.Has(f) {
			fmt.Fprintf(env.Stdout, "the annotation %s has it publish %s instead of %s\n", overwriteKeys[f], a, choice.PublicIP.Of(f))
		}
	}
	return nil
}

// printKey says which key of etcd's is this node's.
func (e explanation) printKey(ctx context.Context, env *tool.Env, choice Choice) error {
	var before *state.Lease
	if l, err := state.Load[state.Lease](env.RunDir.Lease()); err == nil {
		before = &l
	}
	e.etcd.Identify(choice.PublicIP, before)
	own, err := e.etcd.Get(ctx, e.node)
	switch r := own.Record; {
	case err != nil:
		return err
	case own.Err != nil:
		return own.Err
	case r == nil:
		fmt.Fprintf(env.Stdout, "node %s: no key in %s tells its address %s\n", e.node, e.etcd.URL(), addressName(choice.PublicIP))
	default:
		ends := "for good"
		if !r.Reserved() {
			ends = "until " + r.Expires.Format(time.RFC3339)
		}
		fmt.Fprintf(env.Stdout, "node %s: the key %s of %s is its own, %s; it publishes %s\n", e.node, keyOf(r.Subnet), e.etcd.URL(), ends,
			dash(strings.TrimSpace(pairText(r.PublicIP)+" "+r.Backend.Type)))
	}
	return nil
}
