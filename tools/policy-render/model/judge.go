package model

import "net/netip"

// Isolating are the policies that isolate a pod of the cluster, sorted; hostNetwork and finished pods have none.
func (c *Cluster) Isolating(dir Direction, k Key) []*Policy {
	p := c.pod(k)
	if p == nil || !p.eligible() {
		return nil
	}
	g := p.group
	if _, live := g.ns.live[g]; live {
		return g.isolating[dir]
	}
	have := g.cache.Load()
	if have == nil || have.commit != c.commit {
		have = &isolation{c.commit, c.isolatingGroup(g)}
		g.cache.Store(have)
	}
	return have.policies[dir]
}

// Judge says whether a pod may receive (Ingress) or send (Egress) a packet, and by which rule. port is the one of
// the destination, which for Ingress is subjectAddr and for Egress is peer.
func (c *Cluster) Judge(dir Direction, subject Key, subjectAddr, peer netip.Addr, proto Protocol, port uint16) Verdict {
	v := Verdict{Isolating: c.Isolating(dir, subject)}
	if len(v.Isolating) == 0 || peer == subjectAddr || dir == Ingress && c.isNodeOf(subject, peer) {
		v.Allowed = true
		return v
	}
	for _, p := range v.Isolating {
		for i := range p.Rules[dir] {
			if r := &p.Rules[dir][i]; r.Matches(dir, subjectAddr, peer, proto, port) {
				v.Allowed, v.Policy, v.Rule = true, p, r
				return v
			}
		}
	}
	return v
}

// Matches says whether the rule allows the packet.
func (r *Rule) Matches(dir Direction, subjectAddr, peer netip.Addr, proto Protocol, port uint16) bool {
	if (r.AnyPort || r.matchesPort(proto, port)) && r.MatchesPeer(peer) {
		return true
	}
	dst := subjectAddr
	if dir == Egress {
		dst = peer
	}
	for _, n := range r.Named {
		if n.Protocol == proto && n.Set.ContainsPort(dst, port) {
			return dir == Egress || r.MatchesPeer(peer)
		}
	}
	return false
}

func (r *Rule) matchesPort(proto Protocol, port uint16) bool {
	for _, p := range r.Ports {
		if p.Protocol == proto && p.From <= port && port <= p.To {
			return true
		}
	}
	return false
}

// MatchesPeer says whether the rule names the peer.
func (r *Rule) MatchesPeer(peer netip.Addr) bool {
	if r.AnyPeer {
		return true
	}
	for _, s := range r.Peers {
		if s.Contains(peer) {
			return true
		}
	}
	return false
}
