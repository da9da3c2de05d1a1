//go:build netns

package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
)

// stream is a connection over which bytes go and come back all the time, each the one that it has to be.
type stream struct {
	t     *testing.T
	name  string
	bytes atomic.Int64 // that came back
	last  atomic.Int64 // when the last did, Unix nanoseconds
	wrong atomic.Value // the first that was another, or how it broke
}

// startStream opens one to an echo server. Byte i is i*i+i>>8, so that none lost or doubled goes unnoticed.
func startStream(t *testing.T, name string, from *nstest.Namespace, to netip.AddrPort) *stream {
	t.Helper()
	s := &stream{t: t, name: name}
	var conn net.Conn
	var err error
	from.Do(func() { conn, err = net.DialTimeout("tcp", to.String(), patient) })
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	nth := func(i int) byte { return byte(i*i + i>>8) }
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); conn.Close() })
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i += 10 {
			b := make([]byte, 10)
			for j := range b {
				b[j] = nth(i + j)
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	go func() {
		b := make([]byte, 1000)
		for i := 0; ; {
			n, err := conn.Read(b)
			for j := range n {
				if b[j] != nth(i+j) {
					s.wrong.CompareAndSwap(nil, fmt.Sprintf("byte %d is %d", i+j, b[j]))
				}
			}
			i += n
			s.bytes.Store(int64(i))
			s.last.Store(time.Now().UnixNano())
			if err != nil {
				s.wrong.CompareAndSwap(nil, err.Error())
				return
			}
		}
	}()
	s.flows()
	return s
}

// flows waits until more bytes come back.
func (s *stream) flows() {
	s.t.Helper()
	before := s.bytes.Load()
	for end := time.Now().Add(30 * time.Second); s.bytes.Load() < before+100; {
		if time.Now().After(end) {
			s.t.Fatalf("%s has stopped after %d bytes", s.name, before)
		}
		<-time.After(5 * time.Millisecond)
	}
	if w := s.wrong.Load(); w != nil {
		s.t.Fatalf("%s: %s", s.name, w)
	}
}

// stops waits until no byte has come back for a while, and returns when the last did.
func (s *stream) stops() time.Time {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		last := time.Unix(0, s.last.Load())
		if time.Since(last) > 700*time.Millisecond {
			return last
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s goes on", s.name)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// lineCount counts what is written in lines.
type lineCount struct{ n atomic.Int64 }

func (l *lineCount) Write(b []byte) (int, error) {
	l.n.Add(int64(strings.Count(string(b), "\n")))
	return len(b), nil
}

func (l *lineCount) grows(t *testing.T) {
	t.Helper()
	before := l.n.Load()
	for end := time.Now().Add(20 * time.Second); l.n.Load() < before+3; <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no answers to ping")
		}
	}
}

func (l *lineCount) stops(t *testing.T) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for before := int64(-1); l.n.Load() != before; <-time.After(700 * time.Millisecond) {
		if before = l.n.Load(); time.Now().After(end) {
			t.Fatal("ping is answered on and on")
		}
	}
}
