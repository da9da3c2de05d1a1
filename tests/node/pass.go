package node

import (
	"net"
	"net/netip"
	"time"

	"github.com/towpath/towpath/tests/probe"
)

// grace is how long a packet that should not arrive is waited for. A packet that passes is at the far end before
// the call that sends it returns, but for a processor that is too busy for that.
const grace = 15 * time.Millisecond

// Place is where a packet is sent or looked for: a Pod, or what is behind the uplink.
type Place interface {
	At() *probe.Wire
	// Hop is the MAC address of the next hop for packets to an address, and our own.
	Hop(to netip.Addr) (next, own net.HardwareAddr)
}

// World is the place behind the uplink.
type World struct{ *Node }

func (w World) At() *probe.Wire { return w.Wire }

func (w World) Hop(netip.Addr) (next, own net.HardwareAddr) {
	return mac(w.T, w.Namespace, "eth0"), mac(w.T, w.World, "eth0")
}

func (p *Pod) At() *probe.Wire { return p.Wire }

func (p *Pod) Hop(to netip.Addr) (next, own net.HardwareAddr) {
	for _, other := range p.n.pods {
		if to == other.Addr(to) {
			return other.MAC, p.MAC
		}
	}
	return mac(p.n.T, p.n.Namespace, "cni0"), p.MAC
}

// Next gives a packet an ID and a source port of its own.
func (n *Node) Next(p probe.Packet) probe.Packet {
	n.id++
	p.ID, p.SourcePort = n.id, uint16(20_000+n.id%40_000)
	return p
}

// Send sends a packet from a place.
func (n *Node) Send(from Place, p probe.Packet) {
	n.T.Helper()
	next, own := from.Hop(p.To)
	ethertype := uint16(probe.IPv4)
	if p.From.Is6() {
		ethertype = probe.IPv6
	}
	if err := from.At().Send(probe.Frame(next, own, ethertype, p.Bytes())); err != nil {
		n.T.Fatalf("send %s: %v", p, err)
	}
}

// Passes sends a packet from one place and says whether it arrives at the other. expected decides how long it is waited
// for, not the answer.
func (n *Node) Passes(from, to Place, p probe.Packet, expected bool) bool {
	n.T.Helper()
	limit := grace
	if expected {
		limit = 3 * time.Second // the node may have to ask for the neighbour first
	}
	for n.arrived(to, 0, 0) { // what is left of others
	}
	p = n.Next(p)
	n.Send(from, p)
	return n.Arrives(to, p, limit)
}

// Arrives waits for a packet, told by its ID.
func (n *Node) Arrives(to Place, p probe.Packet, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if n.arrived(to, p.ID, 5) {
			return true
		}
	}
	return false
}

// arrived reads one frame and says whether it is the packet; for ID 0, whether there was any.
func (n *Node) arrived(at Place, id uint32, milliseconds int) bool {
	frame := at.At().Receive(milliseconds)
	if id == 0 || frame == nil {
		return frame != nil
	}
	_, payload := probe.Payload(frame)
	got, ok := probe.Parse(payload)
	return ok && got.ID == id
}
