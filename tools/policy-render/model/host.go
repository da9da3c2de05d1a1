package model

import (
	"net/netip"
	"slices"
)

// hostAddr is an address of a node.
type hostAddr struct {
	node string
	addr netip.Addr
}

// countHost counts what the pod tells of its node's addresses: status.hostIPs, and of a hostNetwork pod its own. A finished pod
// tells nothing, since its status no longer follows the node.
func (c *Cluster) countHost(p *pod, by int) {
	if p.Node == "" || p.Finished {
		return
	}
	add := func(addrs []netip.Addr) {
		for _, a := range addrs {
			k := hostAddr{p.Node, a}
			if c.hostAddrs[k] += by; c.hostAddrs[k] == 0 {
				delete(c.hostAddrs, k)
			}
		}
	}
	add(p.HostIPs)
	if p.HostNetwork {
		add(p.IPs)
	}
}

// isNodeOf says whether the address is one of the node that the pod runs on: that one always reaches its pods. An address
// that a pod has is that pod's, whatever another's status says.
func (c *Cluster) isNodeOf(k Key, a netip.Addr) bool {
	p := c.pod(k)
	if p == nil {
		return false
	}
	return slices.Contains(p.HostIPs, a) || p.local && c.nodeAddrs[a] ||
		c.hostAddrs[hostAddr{p.Node, a}] > 0 && c.byAddr[a] == nil
}
