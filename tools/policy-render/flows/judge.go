// Package flows decides which established flows are to be cut, and which that were cut may go on. It
// reads the flows of the pods that a change concerns from conntrack and judges each with the compiled
// model, as the rules would judge its first packet today. A flow that is no longer allowed gets a bit in
// its mark, on which the rules drop; its entry stays, since a deleted one would be made anew by the next
// answer. Rules alone cannot do it: they let everything pass that is established.
package flows

import (
	"net/netip"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Judge is what is needed of a *model.Cluster.
type Judge interface {
	LocalPods() []*model.LocalPod
	Judge(dir model.Direction, subject model.Key, subjectAddr, peer netip.Addr, proto model.Protocol, port uint16) model.Verdict
}

// Node is what a judgement depends on beside the model.
type Node struct {
	// Subnets are the pod subnets of this node. An address in there that no local pod has is closed.
	Subnets []netip.Prefix
	// Addrs are the node's own addresses. What comes from there always passes.
	Addrs []netip.Addr
	// EgressAllowed: a pod may send to its own node whatever its policies say (--node-egress allow).
	EgressAllowed bool
}

// Found is a flow, with the one it is judged by: its master where it was expected by another (FTP data),
// else itself.
type Found struct {
	nl.Flow
	As nl.Flow
}

// rules is a Node ready for many questions.
type rules struct {
	judge Judge
	node  Node
	pods  map[netip.Addr]model.Key
	own   map[netip.Addr]struct{}
}

func newRules(judge Judge, node Node) *rules {
	r := &rules{judge: judge, node: node, pods: map[netip.Addr]model.Key{}, own: map[netip.Addr]struct{}{}}
	for _, p := range judge.LocalPods() {
		for _, a := range p.IPs {
			r.pods[a] = p.Key
		}
	}
	for _, a := range node.Addrs {
		r.own[a] = struct{}{}
	}
	return r
}

// allowed judges a flow by where it came from and where it goes after DNAT. ours is false where neither
// end is an address that rules of this node are about.
func (r *rules) allowed(f nl.Flow) (allowed, ours bool) {
	from, to := f.Orig.Src.Unmap(), f.Reply.Src.Unmap()
	// The port that the destination listens on. ICMP has none, and matches only rules without ports.
	proto, port := model.Protocol(f.Orig.Protocol), f.Reply.SrcPort
	if _, own := r.own[from]; own || from.IsLoopback() {
		_, ours = r.pods[to]
		return true, ours || r.closed(to)
	}
	source, fromPod := r.pods[from]
	dest, toPod := r.pods[to]
	if !fromPod && !toPod {
		_, own := r.own[to]
		closed := r.closed(from) || r.closed(to) && !own
		return !closed, closed
	}
	if from == to {
		return true, true
	}
	if _, own := r.own[to]; fromPod && own {
		return r.node.EgressAllowed || r.judge.Judge(model.Egress, source, from, to, proto, port).Allowed, true
	}
	switch {
	case !fromPod && r.closed(from), !toPod && r.closed(to):
		return false, true
	case fromPod && !r.judge.Judge(model.Egress, source, from, to, proto, port).Allowed:
		return false, true
	}
	return !toPod || r.judge.Judge(model.Ingress, dest, to, from, proto, port).Allowed, true
}

// closed: nothing passes to or from an address of this node's subnets that no pod is known to have.
func (r *rules) closed(a netip.Addr) bool {
	if _, pod := r.pods[a]; pod {
		return false
	}
	for _, p := range r.node.Subnets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Diff returns what has to change in the marks of the flows so that exactly those have all of bits that
// are not allowed. Flows that no local pod is an end of are left as they are.
func Diff(judge Judge, node Node, found []Found, bits uint32) []nl.FlowMark {
	r := newRules(judge, node)
	var marks []nl.FlowMark
	for _, f := range found {
		allowed, ours := r.allowed(f.As)
		cut := f.Mark&bits == bits
		switch {
		case !ours || cut != allowed:
		case cut:
			marks = append(marks, nl.FlowMark{Flow: f.Flow, Mask: bits})
		default:
			marks = append(marks, nl.FlowMark{Flow: f.Flow, Bits: bits, Mask: bits})
		}
	}
	return marks
}
