//go:build netns

package change

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// flow is a packet a millisecond from one pod to another.
type flow struct {
	t        *testing.T
	from, to *pod
	out      *net.UDPConn
	in       *net.UDPConn
	end      chan struct{}
	sending  sync.WaitGroup
	reading  sync.WaitGroup

	mu   sync.Mutex
	sent []time.Time // by number
	got  map[uint64]bool
}

// loss is what a flow lost.
type loss struct {
	sent, lost int
	gap        time.Duration // longest time between two packets that arrived, of what was sent
	where      []string      // each gap
}

func (l loss) String() string {
	return fmt.Sprintf("%d of %d lost, longest gap %.1f ms", l.lost, l.sent, float64(l.gap.Microseconds())/1000)
}

// start sends from one pod to another until stop.
func start(t *testing.T, from, to *pod) *flow {
	t.Helper()
	f := &flow{t: t, from: from, to: to, end: make(chan struct{}), got: map[uint64]bool{}}
	var err error
	to.Do(func() {
		f.in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.ip, 0)))
	})
	if err == nil {
		err = roomy(f.in)
	}
	if err != nil {
		t.Fatal(err)
	}
	from.Do(func() { f.out, err = net.DialUDP("udp", nil, f.in.LocalAddr().(*net.UDPAddr)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.in.Close(); f.out.Close() })
	f.sending.Go(f.send)
	f.reading.Go(f.receive)
	return f
}

// roomy lets packets wait while the machine has no time for their reader.
func roomy(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) })
	return errors.Join(err, failed)
}

func (f *flow) send() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-f.end:
			return
		case <-tick.C:
		}
		f.mu.Lock()
		f.sent = append(f.sent, time.Now())
		f.mu.Unlock()
		b := binary.BigEndian.AppendUint64(nil, n)
		if _, err := f.out.Write(b); err != nil { // the error of an earlier packet: this one was not sent
			f.out.Write(b) // else it is lost
		}
	}
}

func (f *flow) receive() {
	b := make([]byte, 64)
	for {
		n, err := f.in.Read(b)
		if err != nil {
			return
		}
		if n == 8 {
			f.mu.Lock()
			f.got[binary.BigEndian.Uint64(b)] = true
			f.mu.Unlock()
		}
	}
}

// through waits until so many more packets have arrived.
func (f *flow) through(n int) {
	f.t.Helper()
	f.mu.Lock()
	want := len(f.got) + n
	f.mu.Unlock()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		f.mu.Lock()
		got := len(f.got)
		f.mu.Unlock()
		if got >= want {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s to %s: %d packets more have not arrived after %s", f.from.node.name, f.to.node.name, want-got, patience)
		}
	}
}

// stop ends the flow and says what was lost.
func (f *flow) stop() loss {
	f.t.Helper()
	close(f.end)
	f.sending.Wait()
	f.in.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // for what is on the way
	f.reading.Wait()
	l := loss{sent: len(f.sent)}
	last := 0
	for n, at := range f.sent {
		if !f.got[uint64(n)] {
			l.lost++
			continue
		}
		if n > last+1 { // something is missing between
			l.gap = max(l.gap, at.Sub(f.sent[last]))
			l.where = append(l.where, fmt.Sprintf("%s to %s: %d packets from %s on", f.from.node.name, f.to.node.name, n-last-1, f.sent[last+1].UTC().Format("15:04:05.000")))
		}
		last = n
	}
	if len(f.got) == 0 {
		f.t.Fatalf("%s to %s: nothing arrived", f.from.node.name, f.to.node.name)
	}
	if !f.got[uint64(len(f.sent)-1)] {
		l.gap = max(l.gap, f.sent[len(f.sent)-1].Sub(f.sent[last]))
	}
	return l
}

// flows is a flow between the first node's pod and each other node's, both ways.
func (s *site) flows() (through func(int), stop func() loss) {
	s.t.Helper()
	var all []*flow
	first := s.nodes[0].pods[0]
	for _, m := range s.nodes[1:] {
		all = append(all, start(s.t, first, m.pods[0]), start(s.t, m.pods[0], first))
	}
	through = func(n int) {
		for _, f := range all {
			f.through(n)
		}
	}
	through(20)
	return through, func() loss {
		var sum loss
		for _, f := range all {
			l := f.stop()
			sum.sent, sum.lost, sum.gap, sum.where = sum.sent+l.sent, sum.lost+l.lost, max(sum.gap, l.gap), append(sum.where, l.where...)
		}
		return sum
	}
}
