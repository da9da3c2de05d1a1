package main

import (
	"fmt"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// silence knows which peers do not answer. WireGuard itself says nothing of a peer with another pre-shared key or a blocked
// port; that packets went out and no session came of it tells.
type silence struct {
	peers map[end]attempt
	told  map[string]string // node: what was said of it last
}

// end is a peer of a device.
type end struct {
	device string
	key    wgtypes.Key
}

// attempt is what a device said of a peer when its session was new, or when it was first seen.
type attempt struct {
	handshake time.Time
	sent      int64
	received  int64
	since     time.Time
}

// grace is how long a handshake may take: WireGuard tries again every 5 s.
const grace = 12 * time.Second

// look adds the nodes that do not answer to leftOut, and returns how long until one may have been silent for long enough; 0:
// nobody is expected to answer.
func (s *silence) look(now time.Time, want []tunnel, have observed, leftOut map[string]string) (wait time.Duration) {
	last := s.peers
	s.peers = map[end]attempt{}
	for _, w := range want {
		for key, p := range w.Peers {
			h, ok := have.Devices[w.Name].Peers[key]
			if !ok {
				continue
			}
			a, known := last[end{w.Name, key}]
			if !known || !a.handshake.Equal(h.Handshake) || now.Sub(h.Handshake) < rejectAfter {
				a = attempt{handshake: h.Handshake, sent: h.Sent, received: h.Received, since: now}
				if !known && h.Handshake.IsZero() {
					a.sent, a.received = 0, 0
				}
			}
			s.peers[end{w.Name, key}] = a
			switch waited := now.Sub(a.since); {
			case h.Sent == a.sent: // nothing was asked of it
			case waited < grace:
				if left := grace - waited; wait == 0 || left < wait {
					wait = left
				}
			case leftOut[p.Node] != "":
			case h.Received > a.received:
				leftOut[p.Node] = fmt.Sprintf("%s: no session, although %s is heard: is PSK the same on both nodes?", w.Name, p.Endpoint)
			default:
				leftOut[p.Node] = fmt.Sprintf("%s: no session: nothing valid comes from %s, UDP: the node is down, the port is closed, or its key or PSK is another", w.Name, p.Endpoint)
			}
		}
	}
	return wait
}
