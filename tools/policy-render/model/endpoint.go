package model

import (
	"net/netip"
	"slices"
	"strings"
)

// SetEndpoint adds or replaces an endpoint of this node.
func (c *Cluster) SetEndpoint(in Endpoint) {
	c.DeleteEndpoint(in.ID)
	in.IPs = canonicalAddrs(in.IPs)
	e := &endpoint{Endpoint: in}
	c.endpoints[in.ID] = e
	if in.Pod != (Key{}) {
		c.byPod[in.Pod] = append(c.byPod[in.Pod], e)
	}
	for _, a := range in.IPs {
		c.byEndpoint[a]++
	}
	c.localDirty = true
	c.attach(in.Pod, c.pod(in.Pod))
	// An address that an endpoint has is no other pod's, whatever that one's status still says.
	for _, a := range in.IPs {
		if first, more := c.owners(a); first != nil {
			for _, p := range append([]*pod{first}, more...) {
				c.readdress(p)
			}
		}
	}
}

// DeleteEndpoint removes an endpoint.
func (c *Cluster) DeleteEndpoint(id string) {
	e := c.endpoints[id]
	if e == nil {
		return
	}
	delete(c.endpoints, id)
	if i := slices.Index(c.byPod[e.Pod], e); i >= 0 {
		c.byPod[e.Pod] = slices.Delete(c.byPod[e.Pod], i, i+1)
		if len(c.byPod[e.Pod]) == 0 {
			delete(c.byPod, e.Pod)
		}
	}
	c.localDirty = true
	for _, a := range e.IPs {
		if c.byEndpoint[a]--; c.byEndpoint[a] == 0 {
			delete(c.byEndpoint, a)
		}
	}
	if e.pod != nil {
		c.readdress(e.pod)
	}
	for _, a := range e.IPs {
		for _, p := range slices.Clone(c.hidden[a]) {
			c.readdress(p)
		}
	}
}

// fits says whether the pod is the one that the endpoint was made for.
func (e *endpoint) fits(c *Cluster, p *pod) bool {
	switch {
	case p == nil || !p.eligible():
		return false
	case e.UID == "" || p.UID == "":
		return p.Node == "" || p.Node == c.node
	}
	return e.UID == p.UID
}

// attach joins a pod and its endpoints after either changed.
func (c *Cluster) attach(k Key, p *pod) {
	for _, e := range c.byPod[k] {
		c.localDirty = true
		if e.pod = nil; e.fits(c, p) {
			e.pod = p
		}
	}
	if p != nil {
		c.readdress(p)
	}
}

// readdress works out a pod's addresses again, and whether it is local.
func (c *Cluster) readdress(p *pod) {
	var addrs, hidden []netip.Addr
	local := false
	if p.eligible() {
		local = p.Node == c.node && c.node != ""
		own := false
		for _, e := range c.byPod[p.Key] {
			if e.pod == p {
				if own, local = true, true; addrs == nil {
					addrs = e.IPs
				} else {
					addrs = canonicalAddrs(slices.Concat(addrs, e.IPs))
				}
			}
		}
		if !own {
			addrs = p.IPs
			if slices.ContainsFunc(p.IPs, func(a netip.Addr) bool { return c.byEndpoint[a] > 0 }) {
				addrs = nil
				for _, a := range p.IPs {
					if c.byEndpoint[a] > 0 {
						hidden = append(hidden, a)
					} else {
						addrs = append(addrs, a)
					}
				}
			}
		}
	}
	for a, list := range c.hiddenOf(p) {
		if c.hidden[a] = slices.DeleteFunc(list, func(q *pod) bool { return q == p }); len(c.hidden[a]) == 0 {
			delete(c.hidden, a)
		}
	}
	for _, a := range hidden {
		c.hidden[a] = append(c.hidden[a], p)
	}
	c.note(p.Key, p)
	if !slices.Equal(p.addrs, addrs) {
		for _, a := range p.addrs {
			if !slices.Contains(addrs, a) {
				c.disown(a, p)
			}
		}
		for _, a := range addrs {
			if !slices.Contains(p.addrs, a) {
				c.own(a, p)
			}
		}
		p.addrs = addrs
	}
	if p.group != nil {
		c.list(p, len(addrs) > 0)
		c.setLocal(p, local)
	}
	if local {
		c.localDirty = true
	}
}

// hiddenOf is the entries of hidden that name the pod, by address.
func (c *Cluster) hiddenOf(p *pod) map[netip.Addr][]*pod {
	if len(c.hidden) == 0 {
		return nil
	}
	out := map[netip.Addr][]*pod{}
	for a, list := range c.hidden {
		if slices.Contains(list, p) {
			out[a] = list
		}
	}
	return out
}

// owners are the pods that have an address: the first by name, and the others.
func (c *Cluster) owners(a netip.Addr) (*pod, []*pod) {
	p := c.byAddr[a]
	if p == nil || len(c.twins) == 0 {
		return p, nil
	}
	return p, c.twins[a]
}

func (c *Cluster) noteOwner(a netip.Addr) {
	if !c.committed {
		return
	}
	if _, ok := c.owners0[a]; ok {
		return
	}
	var k Key
	if p := c.byAddr[a]; p != nil {
		k = p.Key
	}
	c.owners0[a] = k
}

func (c *Cluster) own(a netip.Addr, p *pod) {
	c.noteOwner(a)
	first := c.byAddr[a]
	if first == nil {
		c.byAddr[a] = p
		return
	}
	list := append([]*pod{first, p}, c.twins[a]...)
	c.setOwners(a, list)
}

func (c *Cluster) disown(a netip.Addr, p *pod) {
	c.noteOwner(a)
	list := append([]*pod{c.byAddr[a]}, c.twins[a]...)
	c.setOwners(a, slices.DeleteFunc(list, func(q *pod) bool { return q == p }))
}

func (c *Cluster) setOwners(a netip.Addr, list []*pod) {
	slices.SortFunc(list, func(x, y *pod) int { return compareKeys(x.Key, y.Key) })
	delete(c.byAddr, a)
	delete(c.twins, a)
	if len(list) > 0 {
		c.byAddr[a] = list[0]
	}
	if len(list) > 1 {
		c.twins[a] = list[1:]
	}
}

// pod finds a pod.
func (c *Cluster) pod(k Key) *pod {
	if n := c.namespaces[k.Namespace]; n != nil {
		return n.pods[k.Name]
	}
	return nil
}

// Pod is a pod, nil where there is none of that name. It is not to be changed.
func (c *Cluster) Pod(k Key) *Pod {
	if p := c.pod(k); p != nil {
		return &p.Pod
	}
	return nil
}

// Addrs are the addresses of a pod that are in force: its endpoints', else those of its status without any that
// an endpoint of another pod has. hostNetwork and finished pods have none. Not to be changed.
func (c *Cluster) Addrs(k Key) []netip.Addr {
	if p := c.pod(k); p != nil {
		return p.addrs
	}
	return nil
}

// PodByAddr is the pod that has an address, the first by name where several have it, nil where none has.
func (c *Cluster) PodByAddr(a netip.Addr) *Pod {
	if p, _ := c.owners(a); p != nil {
		return &p.Pod
	}
	return nil
}

// Pods are all pods, sorted.
func (c *Cluster) Pods() []*Pod {
	var out []*Pod
	for _, n := range c.namespaces {
		for _, p := range n.pods {
			out = append(out, &p.Pod)
		}
	}
	slices.SortFunc(out, func(a, b *Pod) int { return compareKeys(a.Key, b.Key) })
	return out
}

// Namespaces are the namespaces that have an object, a pod or a policy, sorted by name; their labels are not to be changed.
func (c *Cluster) Namespaces() []Namespace {
	var out []Namespace
	for _, n := range c.namespaces {
		if n.given || len(n.pods) > 0 || len(n.policies) > 0 {
			out = append(out, Namespace{n.name, n.labels})
		}
	}
	slices.SortFunc(out, func(a, b Namespace) int { return strings.Compare(a.Name, b.Name) })
	return out
}
