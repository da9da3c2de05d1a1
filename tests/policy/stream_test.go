//go:build netns

package policy

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/tests/node"
)

// stream is an established TCP connection on which a server sends without end what the client compares
// byte by byte.
type stream struct {
	t      *testing.T
	name   string
	client net.Conn
	server net.Conn
	ended  chan struct{}

	mu    sync.Mutex
	last  time.Time // when a byte arrived last
	bytes int
	wrong string
}

// open connects two pods; the server listens at the port in the family.
func open(t *testing.T, client, server *node.Pod, family int, port uint16) *stream {
	t.Helper()
	s := &stream{t: t, name: fmt.Sprintf("%s to %s port %d", client.IPs[family], server.IPs[family], port), ended: make(chan struct{})}
	at := netip.AddrPortFrom(server.IPs[family], port)
	var l net.Listener
	var err error
	server.Do(func() { l, err = net.Listen("tcp", at.String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client.Do(func() { s.client, err = net.DialTimeout("tcp", at.String(), 10*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	if s.server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	go s.send()
	go s.receive()
	t.Cleanup(s.close)
	s.moves(10 * time.Second)
	return s
}

// block is the n-th of the blocks that are sent.
func block(n int) []byte {
	return fmt.Appendf(nil, "%07d %s\n", n%10_000_000, bytes.Repeat([]byte{byte('a' + n%26)}, 200))
}

func (s *stream) send() {
	for n := 0; ; n++ {
		if _, err := s.server.Write(block(n)); err != nil {
			return
		}
		select {
		case <-s.ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *stream) receive() {
	buf := make([]byte, len(block(0)))
	for n := 0; ; n++ {
		want := block(n)
		for at := 0; at < len(want); {
			m, err := s.client.Read(buf[:len(want)-at])
			if err != nil {
				return
			}
			s.mu.Lock()
			s.last, s.bytes = time.Now(), s.bytes+m
			if s.wrong == "" && !bytes.Equal(buf[:m], want[at:at+m]) {
				s.wrong = fmt.Sprintf("block %d: %q instead of %q", n, buf[:m], want[at:at+m])
			}
			s.mu.Unlock()
			at += m
		}
	}
}

func (s *stream) close() {
	select {
	case <-s.ended:
		return
	default:
	}
	close(s.ended)
	s.client.Close()
	s.server.Close()
}

func (s *stream) now() (last time.Time, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != "" {
		s.t.Errorf("%s: %s", s.name, s.wrong)
	}
	return s.last, s.bytes
}

// moves waits until something new has arrived.
func (s *stream) moves(limit time.Duration) {
	s.t.Helper()
	_, before := s.now()
	for deadline := time.Now().Add(limit); ; {
		if _, bytes := s.now(); bytes > before {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: nothing arrives any more", s.name)
		}
		<-time.After(time.Millisecond)
	}
}

// moved looks at the stream for a while and wants it to go on, or to stay still, all along.
func (s *stream) moved(t *testing.T, how time.Duration, want bool) {
	t.Helper()
	for end := time.Now().Add(how); time.Now().Before(end); {
		_, before := s.now()
		<-time.After(250 * time.Millisecond)
		if want {
			s.moves(10 * time.Second)
		} else if _, bytes := s.now(); bytes > before {
			t.Errorf("%s: goes on", s.name)
			return
		}
	}
}

// stops waits until nothing has arrived for a second, and returns how long after an instant the last byte came.
func (s *stream) stops(since time.Time, limit time.Duration) time.Duration {
	s.t.Helper()
	for {
		last, _ := s.now()
		if time.Since(last) > time.Second {
			return max(0, last.Sub(since))
		}
		if time.Since(since) > limit {
			s.t.Fatalf("%s: it goes on, %s after the change", s.name, limit)
		}
		<-time.After(5 * time.Millisecond)
	}
}
