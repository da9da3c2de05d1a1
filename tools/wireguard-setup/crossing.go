package main

import (
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// crossings begins handshakes again that crossed. Where two nodes begin one with each other in the same instant, as they do once
// both know of each other and have packets to send, the wireguard module may take both messages at once, and have a session whose
// packets it does not know (the kernel's WireGuard looks twice, and does not): it says nothing of that, and notices after 15 s. The
// only thing that tells is its log.
type crossings struct {
	mu    sync.Mutex
	own   string // as the other node's log names this one; "": not known yet
	peers map[*device.Peer]*handshake
}

type handshake struct {
	open  time.Time   // until when one that the peer begins has crossed this node's
	again *time.Timer // nil: not to begin again
}

const (
	unanswered = 200 * time.Millisecond // how long this node's may be under way
	justNow    = 20 * time.Millisecond  // how long an answer may take to be worked through

	// When the one node begins again, and the other where that one did not see the crossing: later than the 20 ms within which a node
	// takes no second one, and apart, lest these cross too.
	againFirst  = 40 * time.Millisecond
	againSecond = 200 * time.Millisecond
)

// The module's words.
const (
	saysBegin   = "%v - Sending handshake initiation"
	saysBegun   = "%v - Received handshake initiation"
	saysAnswer  = "%v - Received handshake response"
	saysStopped = "%v - Stopping"
)

// be says which key this node has.
func (c *crossings) be(own wgtypes.Key) {
	text := own.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = "peer(" + text[:4] + "…" + text[39:43] + ")" // as device.Peer's String
}

// hear is told of every line of the module's log. It must not call the module.
func (c *crossings) hear(now time.Time, format string, args []any) {
	switch format {
	case saysBegin, saysBegun, saysAnswer, saysStopped:
	default:
		return
	}
	p, ok := args[0].(*device.Peer)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.peers[p]
	if h == nil {
		if c.peers == nil {
			c.peers = map[*device.Peer]*handshake{}
		}
		h = &handshake{}
		c.peers[p] = h
	}
	if format != saysAnswer && h.again != nil { // the other node does, or nobody needs to any longer
		h.again.Stop()
		h.again = nil
	}
	switch {
	case format == saysStopped:
		delete(c.peers, p)
	case format == saysBegin:
		h.open = now.Add(unanswered)
	case format == saysAnswer:
		h.open = now.Add(justNow)
	case now.Before(h.open):
		h.open = time.Time{}
		wait := againSecond
		if c.own < p.String() {
			wait = againFirst
		}
		h.again = time.AfterFunc(wait, func() {
			p.ExpireCurrentKeypairs()
			p.SendKeepalive()
		})
	}
}
