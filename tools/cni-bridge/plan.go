package main

import (
	"strings"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// envOf is the subnet.env of a node with this lease and link.
func envOf(lease state.Lease, link state.Link) subnetEnv {
	e := subnetEnv{MTU: link.MTU, IPMasq: lease.IPMasq, Subnet: lease.Subnet}
	for _, f := range state.Families {
		if lease.Subnet.Has(f) {
			e.Networks.Set(f, lease.Network.Of(f).String())
			e.Gateway.Set(f, lease.Subnet.Of(f).Addr().Next())
		}
	}
	return e
}

// confOps writes subnet.env to each path, clears the bridge of what the node no longer has, and writes
// the conflist last: it makes the node Ready.
func confOps(envs []string, env []byte, stale []plan.Op, conflist string, list []byte) []plan.Op {
	var ops []plan.Op
	for _, path := range envs {
		if op := state.WriteBytesOp(path, env); op != nil {
			ops = append(ops, op)
		}
	}
	ops = append(ops, stale...)
	if op := state.WriteBytesOp(conflist, list); op != nil {
		ops = append(ops, op)
	}
	return ops
}

// ours says whether a plugin's object is one that cni-bridge takes the place of, or is.
func ours(p map[string]any) bool {
	t, _ := p["type"].(string)
	return t == "flannel" || t == "cni-bridge"
}

// supported says whether the plugin speaks a version of the CNI specification.
func supported(v string) bool {
	for _, s := range specVersions.SupportedVersions() {
		if s == v {
			return true
		}
	}
	return false
}

func supportedText() string { return strings.Join(specVersions.SupportedVersions(), ", ") }
