package main

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// status says whether an ADD could be served: not while the node has no subnet.
func status(c *call) error {
	unavailable := func(format string, args ...any) error {
		return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf(format, args...), "see towpath status")
	}
	env, err := c.subnet()
	if err != nil {
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), hints(err))
	}
	dir := state.Dir(c.conf.RunDir)
	if c.conf.SubnetFile == dir.SubnetEnv() && !exists(dir.Lease()) {
		return unavailable("%s is missing: subnet-lease has not run on this node", dir.Lease())
	}
	if c.conf.Policy && !exists(dir.PolicyLoaded()) {
		return unavailable("%s is missing: policy-load has given the kernel no policy on this node, and pods wait for theirs", dir.PolicyLoaded())
	}
	if !c.conf.native() {
		return delegateStatus(c, env)
	}
	if _, err := spanSets(env, c.conf.ipam.Ranges); err != nil {
		return unavailable("%v", err)
	}
	return nil
}

// hints is what to do about an error.
func hints(err error) string {
	if h := exit.Hints(err); len(h) > 0 {
		return strings.Join(h, "; ")
	}
	return "see towpath status"
}
