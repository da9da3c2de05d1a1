package model

import (
	"reflect"
	"slices"
	"strings"
)

// Commit brings what was set and deleted into force and says what it changed; the first says everything.
func (c *Cluster) Commit() Delta {
	c.commit++
	c.applyPolicies()
	c.applyGroups()
	var d Delta
	d.Policies = c.changedPolicies()
	d.Moved = c.markSets()
	d.Sets = c.changedSets()
	if c.localDirty {
		d.Pods = c.rebuildLocals()
	}
	d.Names = c.changedNames()
	d.Waiting = c.waiting()
	for _, s := range c.loose {
		if s.holders == 0 && c.sets[setID{s.kind, s.key}] == s {
			delete(c.sets, setID{s.kind, s.key})
			delete(c.hashes, setHash{s.kind, s.hash})
		}
	}
	c.loose, c.committed, c.localDirty = nil, true, false
	clear(c.before)
	clear(c.owners0)
	return d
}

func (c *Cluster) applyPolicies() {
	for k, now := range c.pending {
		n := c.namespace(k.Namespace)
		p := n.policies[k.Name]
		switch {
		case now == nil && p == nil:
			c.drop(n)
			continue
		case now == nil:
			c.touch(p, true)
			for g := range n.live {
				c.isolate(g, p, [2]bool{})
			}
			c.hold(p, -1)
			delete(n.policies, k.Name)
			c.drop(n)
			continue
		case p == nil:
			p = &policy{compiled: *now}
			n.policies[k.Name] = p
			c.hold(p, 1)
		case reflect.DeepEqual(p.Policy, now.Policy) && reflect.DeepEqual(p.subjects, now.subjects):
			continue
		default:
			c.touch(p, true)
			old := &policy{compiled: p.compiled}
			p.compiled = *now
			c.hold(p, 1)
			if p.groups > 0 {
				c.use(p, 1)
				c.use(old, -1)
			}
			c.hold(old, -1)
		}
		for g := range n.live {
			c.isolate(g, p, p.isolates(g))
		}
	}
	clear(c.pending)
}

// isolates says in which directions the policy isolates the group's pods.
func (p *policy) isolates(g *group) [2]bool {
	if p.Isolates == [2]bool{} || !p.subjects.matches(g.labels) {
		return [2]bool{}
	}
	return p.Isolates
}

// isolate puts a policy into the lists of a live group, or takes it out.
func (c *Cluster) isolate(g *group, p *policy, in [2]bool) {
	for dir := range in {
		list := g.isolating[dir]
		i, found := slices.BinarySearchFunc(list, p.Key, func(q *Policy, k Key) int { return compareKeys(q.Key, k) })
		switch {
		case in[dir] && !found:
			g.isolating[dir] = slices.Insert(slices.Clone(list), i, &p.Policy)
			c.count(p, 1)
		case !in[dir] && found:
			g.isolating[dir] = slices.Delete(slices.Clone(list), i, i+1)
			c.count(p, -1)
		default:
			continue
		}
		c.localDirty = true
	}
}

// applyGroups makes the groups live that got their first local pod, and the others not.
func (c *Cluster) applyGroups() {
	for g := range c.groups {
		_, live := g.ns.live[g]
		switch {
		case g.locals > 0 && !live:
			g.ns.live[g], c.live[g] = struct{}{}, struct{}{}
			g.isolating = c.isolatingGroup(g)
			c.countAll(g, 1)
		case g.locals == 0 && live:
			delete(g.ns.live, g)
			delete(c.live, g)
			c.countAll(g, -1)
			g.isolating = [2][]*Policy{}
		}
	}
	clear(c.groups)
}

// isolatingGroup looks at every policy of the namespace.
func (c *Cluster) isolatingGroup(g *group) (out [2][]*Policy) {
	for _, p := range g.ns.policies {
		for dir, in := range p.isolates(g) {
			if in {
				out[dir] = append(out[dir], &p.Policy)
			}
		}
	}
	for dir := range out {
		slices.SortFunc(out[dir], func(a, b *Policy) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

func (c *Cluster) countAll(g *group, by int) {
	for _, list := range g.isolating {
		for _, p := range list {
			c.count(g.ns.policies[p.Name], by)
		}
	}
}

// count keeps how many lists of live groups a policy is in.
func (c *Cluster) count(p *policy, by int) {
	was := p.groups > 0
	c.touch(p, false)
	p.groups += by
	switch is := p.groups > 0; {
	case is && !was:
		c.relevant[p] = struct{}{}
		c.use(p, 1)
	case was && !is:
		delete(c.relevant, p)
		c.use(p, -1)
	}
}
