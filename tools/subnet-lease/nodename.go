package main

import (
	"context"
	"os"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// nodeName is --node; else, with --store kube, what flannel's manifests tell: NODE_NAME, or the node of the pod that POD_NAME and
// POD_NAMESPACE name; else the host's name.
func nodeName(ctx context.Context, env *tool.Env) (string, error) {
	node, from := env.String("node"), "--node"
	if verb := env.Verb(); inEtcd(env) && (verb == "reserve" || verb == "release") {
		return nameInEtcd(env)
	}
	if node == "" && env.String("store") == state.Kube {
		var err error
		if node, from, err = nodeOfPod(ctx, env); err != nil {
			return "", err
		}
	}
	if node == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", err
		}
		node, from = strings.ToLower(host), "--node"
	}
	if err := state.CheckNodeName(node); err != nil {
		return "", exit.WithHint(exit.Errorf(exit.Usage, "%s: %w", from, err), "give the name of the Kubernetes Node")
	}
	return node, nil
}

// nameInEtcd is the name of a node where nodes have no other than their address: --node, or this node's last address.
func nameInEtcd(env *tool.Env) (string, error) {
	node := env.String("node")
	if addr, ok := addressOfName(node); ok {
		return addressName(addr), nil
	}
	const hint = "in etcd nodes have no other name than their address, as `subnet-lease list` prints it: give it with --node"
	if node != "" {
		return node, exit.WithHint(state.CheckNodeName(node), hint)
	}
	lease, err := state.Load[state.Lease](env.RunDir.Lease())
	if err != nil {
		return "", exit.WithHint(exit.Errorf(exit.Usage, "which node: %w", err), hint)
	}
	return addressName(lease.PublicIP), nil
}

// nodeOfPod is empty where the variables say nothing. The API server is asked once: what it answered is in lease.json as long
// as this pod's files are there, and serves where it is away.
func nodeOfPod(ctx context.Context, env *tool.Env) (node, from string, err error) {
	if node := os.Getenv("NODE_NAME"); node != "" {
		return node, "NODE_NAME", nil
	}
	pod, namespace := os.Getenv("POD_NAME"), os.Getenv("POD_NAMESPACE")
	if pod == "" || namespace == "" {
		return "", "", nil
	}
	from = "POD_NAME " + pod
	if leaving(env) {
		return lastNode(env), from, nil
	}
	client, err := openKube(env)
	if err != nil {
		return "", "", err
	}
	node, err = kube.NodeOfPod(ctx, client, namespace, pod)
	if last := lastNode(env); exit.Of(err) == exit.Unavailable && last != "" {
		return last, from, nil
	}
	if err == nil && node == "" {
		err = exit.Errorf(exit.TryAgain, "pod %s/%s is on no node", namespace, pod)
	}
	return node, from, exit.WithHint(err, "give --node (TOWPATH_NODE) the name of this node, and POD_NAME is not asked for")
}

// lastNode is the node's name in lease.json, if there is one.
func lastNode(env *tool.Env) string {
	lease, err := state.Load[state.Lease](env.RunDir.Lease())
	if err != nil {
		return ""
	}
	return lease.Node
}

// leaving says that files are to be removed, for which nobody is asked: the way to the API server may be gone before.
func leaving(env *tool.Env) bool {
	return env.Verb() == "down" || env.Verb() == "plan" && env.Bool("down")
}
