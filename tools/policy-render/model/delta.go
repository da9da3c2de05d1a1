package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

func (c *Cluster) touch(p *policy, content bool) {
	t, ok := c.touched[p]
	if !ok {
		t.wasRelevant = p.groups > 0
	}
	t.content = t.content || content
	c.touched[p] = t
}

// hold counts the policies that name a set, relevant or not.
func (c *Cluster) hold(p *policy, by int) {
	for _, list := range [...][]*Set{p.used, p.inner} {
		for _, s := range list {
			if s.holders += by; s.holders == 0 {
				c.loose = append(c.loose, s)
			}
		}
	}
}

// use counts the uses of a policy's sets by the rules that are in force on this node.
func (c *Cluster) use(p *policy, by int) {
	for _, s := range p.used {
		if _, ok := c.wasUsed[s]; !ok {
			c.wasUsed[s] = s.uses > 0
		}
		home := s.home()
		switch s.uses += by; {
		case s.uses == 0:
			delete(c.active[home], s)
			if len(c.active[home]) == 0 {
				delete(c.active, home)
			}
		case by > 0:
			if c.active[home] == nil {
				c.active[home] = map[*Set]struct{}{}
			}
			c.active[home][s] = struct{}{}
		}
	}
}

func (c *Cluster) changedPolicies() []Key {
	var out []Key
	for p, t := range c.touched {
		if is := p.groups > 0; is != t.wasRelevant || is && t.content {
			out = append(out, p.Key)
		}
	}
	clear(c.touched)
	slices.SortFunc(out, compareKeys)
	return slices.Compact(out)
}

// markSets finds the sets in use whose members the changes of pods and namespaces altered.
func (c *Cluster) markSets() []netip.Addr {
	var moved []netip.Addr
	if c.committed {
		for k, w := range c.before {
			now := c.pod(k)
			if now == nil {
				now = &pod{}
			}
			if w.group == now.group && slices.Equal(w.addrs, now.addrs) && (w.group == nil || w.group.ns.old == nil) {
				continue
			}
			home, any := c.markIn(k.Namespace, w, now), c.markIn("", w, now)
			if home || any {
				moved = append(append(moved, w.addrs...), now.addrs...)
			}
		}
	}
	for n := range c.dirty {
		if n.old != nil && c.committed {
			for s := range c.active[""] {
				if s.feels(n) {
					moved = s.movedBy(n, moved)
				}
			}
		}
	}
	for n := range c.dirty {
		n.old = nil
		c.drop(n)
	}
	clear(c.dirty)
	slices.SortFunc(moved, netip.Addr.Compare)
	return slices.Compact(moved)
}

// markIn marks the sets that hold other members for a pod than they did, and says whether there is one.
func (c *Cluster) markIn(home string, w was, now *pod) bool {
	any := false
	for s := range c.active[home] {
		if (!s.changed || !any) && s.moved(w, now) {
			s.changed, any = true, true
		}
	}
	return any
}

// feels says whether the change of a namespace's labels matters to the set at all.
func (s *Set) feels(n *namespace) bool {
	switch s.kind {
	case SelectorSet:
		return s.takesNamespace(n, n.old) != s.takesNamespace(n, n.labels)
	case PortSet:
		return slices.ContainsFunc(s.over, func(o *Set) bool { return o.feels(n) })
	}
	return false
}

// movedBy marks the set if a change of a namespace's labels changes it, by the pods that have not changed themselves. It
// adds the addresses of these to moved.
func (s *Set) movedBy(n *namespace, moved []netip.Addr) []netip.Addr {
	for _, g := range n.groups {
		for _, p := range g.pods {
			if s.moved(was{g, p.addrs}, p) {
				s.changed = true
				moved = append(moved, p.addrs...)
			}
		}
	}
	return moved
}

// moved says whether the set holds other members for a pod than it did.
func (s *Set) moved(w was, now *pod) bool {
	in := func(g *group, addrs []netip.Addr, a netip.Addr, old bool) bool {
		if g == nil || !slices.Contains(addrs, a) {
			return false
		}
		labels := g.ns.labels
		if old && g.ns.old != nil {
			labels = g.ns.old
		}
		return s.takes(g, labels, a)
	}
	for _, a := range w.addrs {
		before, after := in(w.group, w.addrs, a, true), in(now.group, now.addrs, a, false)
		if before != after {
			return true
		}
		if after && s.kind == PortSet && w.group != now.group && !slices.Equal(w.group.ports, now.group.ports) {
			return true
		}
	}
	for _, a := range now.addrs {
		if !slices.Contains(w.addrs, a) && in(now.group, now.addrs, a, false) {
			return true
		}
	}
	return false
}

func (c *Cluster) changedSets() []*Set {
	var out []*Set
	for s, used := range c.wasUsed {
		if used != (s.uses > 0) {
			out = append(out, s)
		} else if s.changed {
			out = append(out, s)
		}
		s.changed = false
	}
	clear(c.wasUsed)
	for _, sets := range c.active {
		for s := range sets {
			if s.changed {
				out = append(out, s)
				s.changed = false
			}
		}
	}
	sortSets(out)
	return out
}

func (c *Cluster) changedNames() []netip.Addr {
	var out []netip.Addr
	if c.commit == 1 {
		for a := range c.byAddr {
			out = append(out, a)
		}
	}
	for a, old := range c.owners0 {
		var now Key
		if p := c.byAddr[a]; p != nil {
			now = p.Key
		}
		if now != old {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// waiting are the endpoints whose pod is not known. One whose pod is finished waits for nothing.
func (c *Cluster) waiting() []string {
	var out []string
	for id, e := range c.endpoints {
		if e.Pod == (Key{}) || e.pod != nil {
			continue
		}
		if p := c.pod(e.Pod); p == nil || p.eligible() || p.UID != e.UID && p.UID != "" && e.UID != "" {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// rebuildLocals works out every local pod again; there are few. Those that stay as they were keep their value.
func (c *Cluster) rebuildLocals() []*LocalPod {
	var now []*LocalPod
	for _, e := range c.endpoints {
		switch {
		case e.pod != nil:
			now = append(now, &LocalPod{Key: e.pod.Key, IPs: e.IPs, Endpoint: &e.Endpoint, Policies: e.pod.group.isolating})
		case e.Pod == (Key{}):
			now = append(now, &LocalPod{IPs: e.IPs, Endpoint: &e.Endpoint})
		}
	}
	for g := range c.live {
		for _, p := range g.pods {
			if p.local && !slices.ContainsFunc(c.byPod[p.Key], func(e *endpoint) bool { return e.pod == p }) {
				now = append(now, &LocalPod{Key: p.Key, IPs: p.addrs, Policies: g.isolating})
			}
		}
	}
	shareOut(now)
	slices.SortFunc(now, compareLocals)
	changed := []*LocalPod{}
	old := c.locals
	for i, l := range now {
		for len(old) > 0 && compareLocals(old[0], l) < 0 {
			changed, old = append(changed, gone(old[0])), old[1:]
		}
		if len(old) == 0 || compareLocals(old[0], l) != 0 {
			changed = append(changed, l)
			continue
		}
		if old[0].equal(l) {
			now[i] = old[0]
		} else {
			changed = append(changed, l)
		}
		old = old[1:]
	}
	for _, l := range old {
		changed = append(changed, gone(l))
	}
	c.locals = now
	return changed
}

func gone(l *LocalPod) *LocalPod {
	out := *l
	out.Gone = true
	return &out
}

func (l *LocalPod) endpointID() string {
	if l.Endpoint == nil {
		return ""
	}
	return l.Endpoint.ID
}

func compareLocals(a, b *LocalPod) int {
	return cmp.Or(compareKeys(a.Key, b.Key), strings.Compare(a.endpointID(), b.endpointID()))
}

func (l *LocalPod) equal(m *LocalPod) bool {
	if (l.Endpoint == nil) != (m.Endpoint == nil) || l.Endpoint != nil && !l.Endpoint.equal(m.Endpoint) {
		return false
	}
	return slices.Equal(l.IPs, m.IPs) && slices.Equal(l.Policies[0], m.Policies[0]) && slices.Equal(l.Policies[1], m.Policies[1])
}

func (e *Endpoint) equal(o *Endpoint) bool {
	return e.ID == o.ID && e.Pod == o.Pod && e.UID == o.UID && slices.Equal(e.IPs, o.IPs) &&
		e.Veth == o.Veth && e.MAC == o.MAC && e.Bridge == o.Bridge
}

// shareOut leaves every address to one local pod, since one address can have one verdict: to that with an endpoint
// and a pod first, then to the one that more policies isolate, so that doubt closes.
func shareOut(locals []*LocalPod) {
	rank := func(l *LocalPod) int {
		n := 0
		if l.Endpoint != nil && l.Key != (Key{}) {
			n += 4
		}
		for _, list := range l.Policies {
			if len(list) > 0 {
				n++
			}
		}
		return n
	}
	slices.SortFunc(locals, func(a, b *LocalPod) int { return cmp.Or(cmp.Compare(rank(b), rank(a)), compareLocals(a, b)) })
	taken := map[netip.Addr]bool{}
	for _, l := range locals {
		if slices.ContainsFunc(l.IPs, func(a netip.Addr) bool { return taken[a] }) {
			l.IPs = slices.DeleteFunc(slices.Clone(l.IPs), func(a netip.Addr) bool { return taken[a] })
		}
		for _, a := range l.IPs {
			taken[a] = true
		}
	}
}

// LocalPods are the pods of this node that have an address, and the endpoints without a pod, sorted; no two have the
// same address. Not to be changed.
func (c *Cluster) LocalPods() []*LocalPod { return c.locals }

// Relevant are the policies that isolate a pod of this node, sorted.
func (c *Cluster) Relevant() []*Policy {
	out := make([]*Policy, 0, len(c.relevant))
	for p := range c.relevant {
		out = append(out, &p.Policy)
	}
	slices.SortFunc(out, func(a, b *Policy) int { return compareKeys(a.Key, b.Key) })
	return out
}

// Policies are all policies, sorted.
func (c *Cluster) Policies() []*Policy {
	var out []*Policy
	for _, n := range c.namespaces {
		for _, p := range n.policies {
			out = append(out, &p.Policy)
		}
	}
	slices.SortFunc(out, func(a, b *Policy) int { return compareKeys(a.Key, b.Key) })
	return out
}

// Policy is a policy, nil where there is none of that name.
func (c *Cluster) Policy(k Key) *Policy {
	if n := c.namespaces[k.Namespace]; n != nil && n.policies[k.Name] != nil {
		return &n.policies[k.Name].Policy
	}
	return nil
}

// Sets are those that relevant policies use, sorted by kind and key.
func (c *Cluster) Sets() []*Set {
	var out []*Set
	for _, sets := range c.active {
		for s := range sets {
			out = append(out, s)
		}
	}
	sortSets(out)
	return out
}
