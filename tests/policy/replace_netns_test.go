//go:build netns

package policy

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/probe"
)

// TestReplace loads the whole ruleset in the place of itself again and again while packets of an established flow go
// through as fast as they can: none may be lost. (Look-ups in sets miss for an instant meanwhile, so the first packet of a
// new flow may be.)
func TestReplace(t *testing.T) {
	s := &scene{Node: node.New(t), t: t, pods: map[string]*node.Pod{}}
	s.Namespaces("dev env=dev", "prod env=prod team=a")
	s.Set("policies", policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{protocol: UDP, port: 80}]}]}"))
	render, load := s.Policies()
	s.people()
	render.Kill()
	load.Kill()
	client, web := s.pods["prod/client"], s.pods["dev/web"]
	for family, ethertype := range []uint16{probe.IPv4, probe.IPv6} {
		p := s.Next(probe.Packet{From: client.IPs[family], To: web.IPs[family], Protocol: probe.UDP, Port: 80})
		back := p
		back.From, back.To, back.SourcePort, back.Port = p.To, p.From, p.Port, p.SourcePort
		if s.Send(client, p); !s.Arrives(web, p, 3*time.Second) {
			t.Fatalf("%s does not arrive", p)
		}
		if s.Send(web, back); !s.Arrives(client, back, 3*time.Second) {
			t.Fatalf("%s does not arrive", back)
		}
		out, in := s.wire(t, client), s.wire(t, web)
		sent, arrived := 0, 0
		count := func() {
			for frame := in.Receive(0); frame != nil; frame = in.Receive(0) {
				_, payload := probe.Payload(frame)
				if got, ok := probe.Parse(payload); ok && got.ID > 1<<24 {
					arrived++
				}
			}
		}
		end, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-end:
					for deadline := time.Now().Add(5 * time.Second); arrived < sent && time.Now().Before(deadline); {
						count()
					}
					return
				default:
				}
				for end := time.Now().Add(time.Second); sent-arrived >= 400 && time.Now().Before(end); { // the kernel's queues take 1,000, of all tests
					count()
				}
				sent++
				p.ID = 1<<24 + uint32(sent)
				if err := out.Send(probe.Frame(web.MAC, client.MAC, ethertype, p.Bytes())); err != nil {
					t.Error(err)
				}
				count()
			}
		}()
		const replaces = 30
		for range replaces {
			s.Namespace.Run("nft", "-f", filepath.Join(string(s.Run), "policy.nft"))
		}
		close(end)
		<-done
		in.Close()
		out.Close()
		t.Logf("%s: %d of %d packets arrived, while the rules were replaced %d times", p, arrived, sent, replaces)
		if arrived != sent {
			t.Errorf("%d packets of an established flow are lost", sent-arrived)
		}
	}
}
