//go:build netns

package policy

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/probe"
)

// traffic is packets, each the first of a flow, of which some are allowed and the others denied.
type traffic struct {
	sent, arrived, leaked int
	end, done             chan struct{}
	count                 atomic.Int64 // of sent, while it goes on
}

// traffic sends, in both families and some thousand a second, from prod/client to dev/web: to port 80, which isolated
// allows, and to 81, which it denies.
func (s *scene) traffic(t *testing.T) *traffic {
	t.Helper()
	client, web := s.pods["prod/client"], s.pods["dev/web"]
	out, in := s.wire(t, client), s.wire(t, web)
	f := &traffic{end: make(chan struct{}), done: make(chan struct{})}
	t.Cleanup(f.stop)
	send := func() {
		for family := range 2 {
			for _, port := range []uint16{80, 81} {
				s.flows++ // no flow is ever another's: conntrack remembers
				id := 1<<24 + s.flows
				p := probe.Packet{From: client.IPs[family], To: web.IPs[family], Protocol: probe.TCP, Port: port, ID: id, SourcePort: uint16(1024 + id%60_000)}
				if port == 80 {
					f.sent++
					f.count.Add(1)
				}
				if err := out.Send(probe.Frame(web.MAC, client.MAC, []uint16{probe.IPv4, probe.IPv6}[family], p.Bytes())); err != nil {
					t.Error(err)
				}
			}
		}
	}
	receive := func() {
		for frame := in.Receive(0); frame != nil; frame = in.Receive(0) {
			_, payload := probe.Payload(frame)
			switch p, ok := probe.Parse(payload); {
			case !ok || p.ID <= 1<<24:
			case p.Port == 80:
				f.arrived++
			default:
				f.leaked++
			}
		}
	}
	go func() {
		defer close(f.done)
		defer in.Close()
		defer out.Close()
		for {
			select {
			case <-f.end:
				for deadline := time.Now().Add(5 * time.Second); f.arrived < f.sent && time.Now().Before(deadline); {
					receive()
				}
				return
			case <-time.After(500 * time.Microsecond):
				send()
				receive()
			}
		}
	}()
	return f
}

func (s *scene) wire(t *testing.T, p *node.Pod) *probe.Wire {
	t.Helper()
	var w *probe.Wire
	var err error
	p.Do(func() { w, err = probe.Open("eth0") })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (f *traffic) stop() {
	select {
	case <-f.end:
	default:
		close(f.end)
	}
	<-f.done
}

// check ends the traffic and wants all that is allowed, and only that, to have arrived.
func (f *traffic) check(t *testing.T, what string) {
	t.Helper()
	for f.count.Load() < 400 { // also where the processors are busy with something else
		<-time.After(time.Millisecond)
	}
	f.stop()
	t.Logf("%s: %d of %d allowed packets arrived, %d denied ones", what, f.arrived, f.sent, f.leaked)
	if f.arrived != f.sent || f.leaked > 0 {
		t.Errorf("%s: not as it must be", what)
	}
}
