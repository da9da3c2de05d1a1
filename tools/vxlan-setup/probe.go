package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// How peers are asked. Every round is a datagram whose checksum the device is to fill in, and when that has its answer,
// or had time for one, a datagram whose checksum is complete. In this order, because a node answers few datagrams a
// second (net.ipv4.icmp_ratelimit: six, then one a second): where both kinds arrive, the offloaded one takes the answer
// that is to be had. The fault is only where no offloaded datagram of sixteen is answered and ten complete ones are:
// where seven of ten packets are lost on a healthy way, which is the worst rate for that, it looks so once in 40,000
// times; where two of ten are, once in 10^11.
const (
	knockPort   = 33434 // traceroute's first, on which nobody listens
	patience    = 600 * time.Millisecond
	shortRounds = 3 // enough where an offloaded datagram is answered, or none at all
	fullRounds  = 16
	enough      = 10 // complete ones answered, of fullRounds
	maxPeers    = 8  // asked at once
)

// peer is another node's end of a tunnel.
type peer struct {
	node string
	addr netip.Addr // the base of its subnet, an address of its VXLAN device
}

// count is how many datagrams of a kind were sent and answered.
type count struct{ sent, answered int }

func (c count) String() string {
	if c.sent == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", c.answered, c.sent)
}

// tally is what came of asking one peer.
type tally struct {
	node                string
	offloaded, complete count
	err                 error // why it was not asked to the end
}

func (t tally) verdict() string {
	switch {
	case t.offloaded.answered > 0:
		return fine
	case t.offloaded.sent >= fullRounds && t.complete.answered >= enough:
		return fault
	}
	return unknown
}

// judge is the verdict over several peers and what it stands on. One peer to which offloaded packets never come is
// enough: its pods are cut off, whatever the way to others is like.
func judge(tallies []tally) (verdict, seen string) {
	verdict = unknown
	for _, t := range tallies {
		text := fmt.Sprintf("%s: offloaded %s answered, complete %s", t.node, t.offloaded, t.complete)
		switch t.verdict() {
		case fault:
			return fault, text
		case fine:
			verdict, seen = fine, text
		}
	}
	return verdict, seen
}

// pick chooses some of the peers by chance and returns how to reach them over a device. Those that are not
// reached over it (routed directly, not yet known to route-sync) are left out. only, if not empty, is the nodes to take.
func pick(run state.Dir, f state.Family, device int, only []string) ([]peer, error) {
	nodes := only
	if len(nodes) == 0 {
		entries, err := os.ReadDir(run.Peers())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list %q: %w", run.Peers(), errors.Unwrap(err))
		}
		for _, e := range entries {
			if node, ok := state.NodeOfPeer(e.Name()); ok {
				nodes = append(nodes, node)
			}
		}
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	}
	sock, err := nl.OpenSocket()
	if err != nil {
		return nil, err
	}
	defer sock.Close() //nolint:errcheck // nothing was written
	var found []peer
	for _, node := range nodes {
		p, err := state.Load[state.Peer](run.Peer(node))
		switch {
		case err != nil && len(only) > 0:
			return nil, exit.WithHint(err, "the nodes known are those in %s", run.Peers())
		case err != nil || p.Backend.Type != backend || !p.Subnet.Has(f):
			continue // gone meanwhile, or route-sync says what is wrong with it
		}
		addr := p.Subnet.Of(f).Addr()
		paths, err := sock.Paths([]netip.Addr{addr})
		if err != nil {
			return nil, err
		}
		if paths[0].Link == device {
			found = append(found, peer{node, addr})
		}
		if len(found) == maxPeers {
			break
		}
	}
	return found, nil
}

// ask asks the peers, all at once. offloaded says which kinds: the complete ones are always sent.
func ask(ctx context.Context, from netip.Addr, peers []peer, offloaded bool) []tally {
	tallies := make([]tally, len(peers))
	var asking sync.WaitGroup
	for i, p := range peers {
		asking.Go(func() { tallies[i] = askOne(ctx, from, p, offloaded) })
	}
	asking.Wait()
	return tallies
}

func askOne(ctx context.Context, from netip.Addr, p peer, offloaded bool) (t tally) {
	t.node = p.node
	k, err := nl.OpenKnock(ctx, from, netip.AddrPortFrom(p.addr, knockPort))
	if err != nil {
		t.err = err
		return t
	}
	defer k.Close()                                      //nolint:errcheck // nothing is kept
	defer context.AfterFunc(ctx, func() { k.Close() })() //nolint:errcheck // so that waiting ends
	waiting := map[string]*count{}                       // datagrams without an answer
	knock := func(c *count, complete bool) error {
		text := fmt.Sprintf("towpath checksum probe: complete %t, %d", complete, c.sent+1)
		if err := k.Send([]byte(text), complete); err != nil {
			return err
		}
		c.sent++
		waiting[text] = c
		for until := time.Now().Add(patience); waiting[text] != nil; {
			about, ok, err := k.Answered(until)
			if !ok {
				return err
			}
			if c := waiting[string(about)]; c != nil { // of this datagram, or late of an earlier one
				c.answered++
				delete(waiting, string(about))
			}
		}
		return nil
	}
	for round := 1; round <= fullRounds; round++ {
		if t.err = ctx.Err(); t.err != nil {
			return t
		}
		if offloaded {
			if t.err = knock(&t.offloaded, false); t.err != nil {
				return t
			}
		}
		if t.err = knock(&t.complete, true); t.err != nil {
			return t
		}
		if answers := t.complete.answered; round >= shortRounds && (!offloaded || answers == 0 || t.offloaded.answered > 0) {
			return t
		}
	}
	return t
}
