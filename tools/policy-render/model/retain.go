package model

import (
	"maps"
	"slices"
)

// RetainNamespaces deletes the namespaces that keep does not name.
func (c *Cluster) RetainNamespaces(keep func(name string) bool) {
	for name, n := range c.namespaces {
		if n.given && !keep(name) {
			c.DeleteNamespace(name)
		}
	}
}

// RetainPods deletes the pods that keep does not name.
func (c *Cluster) RetainPods(keep func(Key) bool) {
	for _, n := range c.namespaces {
		for _, p := range n.pods {
			if !keep(p.Key) {
				c.DeletePod(p.Key)
			}
		}
	}
}

// RetainPolicies deletes the policies that keep does not name, those that no Commit brought into force yet too.
func (c *Cluster) RetainPolicies(keep func(Key) bool) {
	for k, now := range c.pending {
		if now != nil && !keep(k) {
			c.pending[k] = nil
		}
	}
	for _, n := range c.namespaces {
		for name := range n.policies {
			k := Key{n.name, name}
			if now, set := c.pending[k]; !keep(k) && (!set || now != nil) {
				c.pending[k] = nil
			}
		}
	}
}

// equal says whether nothing that counts differs.
func (p *Pod) equal(q *Pod) bool {
	return p.UID == q.UID && p.Node == q.Node && p.HostNetwork == q.HostNetwork && p.Finished == q.Finished &&
		slices.Equal(p.IPs, q.IPs) && slices.Equal(p.HostIPs, q.HostIPs) && slices.Equal(p.Ports, q.Ports) && maps.Equal(p.Labels, q.Labels)
}
