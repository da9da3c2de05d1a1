package main

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
)

// peer is another node.
type peer struct {
	node   string
	addr   uint32 // where its packets come from and go to
	subnet uint32
	bits   int
	away   bool  // of another back end: nothing is sent to it; but it may have come to this one and its new record be under way
	next   *peer // claims the same subnet, and does not have it: its name comes later
}

func newPeer(node string, subnet netip.Prefix, addr netip.Addr) *peer {
	return &peer{node: node, addr: number(addr), subnet: number(subnet.Masked().Addr()), bits: subnet.Bits()}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// table finds peers by address of a pod. The subnets of a network have one length, rarely a few: a look-up is one
// in a map for each length, whatever the number of peers, and so is a change. The packets' side holds the
// lock for a batch, not for a packet.
type table struct {
	mu     sync.RWMutex
	nodes  map[string]*peer
	byBits [33]map[uint32]*peer
	bits   []int          // lengths in use, longest first
	addrs  map[uint32]int // peers by address: several may share one behind NAT
}

func newTable() *table { return &table{nodes: map[string]*peer{}, addrs: map[uint32]int{}} }

// find returns the peer whose subnet an address is in, or nil. The caller holds mu.
func (t *table) find(ip uint32) *peer {
	for _, bits := range t.bits {
		if p := t.byBits[bits][ip&mask(bits)]; p != nil {
			return p
		}
	}
	return nil
}

func mask(bits int) uint32 { return ^uint32(0) << (32 - bits) }

// set makes p known, or what is known of its node forgotten where p is nil.
func (t *table) set(node string, p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.nodes[node]; old != nil {
		if p != nil && old.addr == p.addr && old.subnet == p.subnet && old.bits == p.bits && old.away == p.away {
			return
		}
		t.remove(old)
	}
	if p != nil {
		t.add(p)
	}
}

func (t *table) add(p *peer) {
	t.nodes[p.node] = p
	t.addrs[p.addr]++
	if t.byBits[p.bits] == nil {
		t.byBits[p.bits] = map[uint32]*peer{}
		t.bits = append(t.bits, p.bits)
		slices.SortFunc(t.bits, func(a, b int) int { return b - a })
	}
	at := t.byBits[p.bits]
	first := at[p.subnet]
	if first == nil || p.node < first.node {
		p.next = first
		at[p.subnet] = p
		return
	}
	for first.next != nil && first.next.node < p.node {
		first = first.next
	}
	p.next, first.next = first.next, p
}

func (t *table) remove(p *peer) {
	delete(t.nodes, p.node)
	if t.addrs[p.addr]--; t.addrs[p.addr] == 0 {
		delete(t.addrs, p.addr)
	}
	at := t.byBits[p.bits]
	switch first := at[p.subnet]; {
	case first != p:
		for first.next != p {
			first = first.next
		}
		first.next = p.next
	case p.next != nil:
		at[p.subnet] = p.next
	default:
		delete(at, p.subnet)
	}
	if len(at) == 0 {
		t.byBits[p.bits] = nil
		t.bits = slices.DeleteFunc(t.bits, func(bits int) bool { return bits == p.bits })
	}
}

// names are the nodes that are known.
func (t *table) names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make([]string, 0, len(t.nodes))
	for name := range t.nodes {
		names = append(names, name)
	}
	return names
}

// from says whether a packet that came from a node's address may have a pod's source address: one of that node's
// subnet, which holds the node's own end of the tunnel, or the very address of the node. The caller holds mu.
func (t *table) from(outer, inner uint32) verdict {
	if p := t.find(inner); p != nil && p.addr == outer {
		return accepted
	}
	switch {
	case t.addrs[outer] == 0:
		return stranger
	case inner == outer:
		return accepted
	}
	return forged
}
