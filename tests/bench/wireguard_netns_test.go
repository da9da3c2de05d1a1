//go:build netns

package bench

import (
	"path/filepath"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/node"
)

// BenchmarkWireGuard is BenchmarkTunnel for userspace WireGuard, which encrypts in a process: beside udp-tunnel, which only carries,
// VXLAN and the bare device.
func BenchmarkWireGuard(b *testing.B) {
	wire := newWire(b)
	bare := newLink(b, "bare", wire)
	bare.via[0], bare.via[1] = bare.outer(0), bare.outer(1)
	ours := wireguard(b, wire)
	measureAll(b, ours, []*link{bare, vxlan(b, wire), udpTunnel(b, wire), ours})
}

func wireguard(b *testing.B, wire *nstest.Namespace) *link {
	b.Helper()
	l := newLink(b, "wireguard", wire)
	program := node.Binary(b, "wireguard-setup")
	var dirs [2]state.Dir
	var flags [2][]string
	for i, end := range l.ends {
		dirs[i] = l.files(b, i, state.Backend{Type: "wireguard", Raw: []byte(`{"ListenPort":51820}`)}, "null")
		flags[i] = []string{"--implementation", "userspace", "--run-dir", string(dirs[i]), "--key-file", filepath.Join(b.TempDir(), "key")}
		end.Run(program, append([]string{"apply"}, flags[i]...)...)
	}
	for i, end := range l.ends {
		link, err := state.Load[state.Link](dirs[1-i].Link())
		if err != nil {
			b.Fatal(err)
		}
		peers := dirs[i].Peer([]string{"node1", "node0"}[i])
		peer, err := state.Load[state.Peer](peers)
		if err != nil {
			b.Fatal(err)
		}
		peer.Backend = link.Publish
		save(b, peers, peer)
		end.Run("ip", "route", "add", l.subnet(1-i).String(), "dev", "flannel-wg", "scope", "link")
		// Each node's control sockets are its own.
		own := `mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard && exec "$@"`
		l.program(b, i, append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", own, "sh", program, "watch"}, flags[i]...)...)
	}
	return l
}
