//go:build peer

package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"
)

// ping sends a few packets that may not be fragmented, of a size, IP header included; 0: the usual one.
func (p *pod) ping(to netip.Addr, size int) error {
	args := []string{"-n", "-c", "5", "-i", "0.2", "-W", "5"}
	if size > 0 {
		header := 20 + 8
		if to.Is6() {
			header = 40 + 8
		}
		args = append(args, "-M", "do", "-s", strconv.Itoa(size-header))
	}
	if out, err := p.Try("ping", append(args, to.String())...); err != nil {
		return fmt.Errorf("%w: %s", err, tail(out, 6))
	}
	return nil
}

// stream sends n bytes, the same for the same seed, over one TCP connection to one of the other's addresses, and compares what arrives.
func (p *pod) stream(to *pod, address, port, n int) error {
	s, err := p.open(to, to.ips[address], port)
	if err != nil {
		return err
	}
	defer s.close()
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(port)}).Read(data) //nolint:errcheck // never fails
	errs := make(chan error, 1)
	go func() {
		_, err := s.client.Write(data)
		errs <- err
	}()
	got := make([]byte, n)
	if err := s.server.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.server, got); err != nil {
		return err
	}
	if !bytes.Equal(data, got) {
		return errors.New("what arrived is not what was sent")
	}
	return <-errs
}

// connection is a TCP connection between pods.
type connection struct{ client, server net.Conn }

func (c connection) close() {
	c.client.Close() //nolint:errcheck // the bytes that arrived are what counts
	c.server.Close() //nolint:errcheck // as above
}

func (p *pod) open(to *pod, ip netip.Addr, port int) (c connection, err error) {
	address := net.JoinHostPort(ip.String(), strconv.Itoa(port))
	var l net.Listener
	to.Do(func() { l, err = net.Listen("tcp", address) })
	if err != nil {
		return c, err
	}
	defer l.Close() //nolint:errcheck // nobody else connects
	accepted := make(chan error, 1)
	go func() {
		var err error
		c.server, err = l.Accept()
		accepted <- err
	}()
	// The socket belongs to the namespace of the thread that makes it: no time-out, which would dial on another.
	p.Do(func() { c.client, err = net.Dial("tcp", address) })
	if err != nil {
		return c, err
	}
	return c, <-accepted
}

// flow is a TCP connection over which numbers go one way until it is stopped, 64 KiB about every 5 ms.
type flow struct {
	connection
	name     string
	quit     chan struct{}
	wait     sync.WaitGroup
	sent     hash.Hash
	received hash.Hash
	bytes    int
	longest  time.Duration // between two reads
	err      error
}

func (p *pod) flow(t testing.TB, to *pod, port int) *flow {
	t.Helper()
	c, err := p.open(to, to.ips[0], port)
	if err != nil {
		t.Fatal(err)
	}
	f := &flow{connection: c, name: p.Name + " to " + to.Name, quit: make(chan struct{}), sent: sha256.New(), received: sha256.New()}
	t.Cleanup(c.close)
	f.wait.Go(func() {
		defer c.client.Close() //nolint:errcheck // as in close
		block := make([]byte, 64<<10)
		for n := uint64(0); ; n++ {
			select {
			case <-f.quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			for i := 0; i < len(block); i += 8 {
				binary.BigEndian.PutUint64(block[i:], n<<16|uint64(i))
			}
			f.sent.Write(block)
			if _, err := c.client.Write(block); err != nil {
				f.err = err
				return
			}
		}
	})
	f.wait.Go(func() {
		block := make([]byte, 64<<10)
		for last := time.Now(); ; {
			n, err := c.server.Read(block)
			f.longest, last = max(f.longest, time.Since(last)), time.Now()
			f.received.Write(block[:n])
			f.bytes += n
			if err != nil {
				return
			}
		}
	})
	return f
}

// stop ends the flow and says what arrived; what was sent and did not arrive fails the test.
func (f *flow) stop(t testing.TB) {
	t.Helper()
	close(f.quit)
	f.wait.Wait()
	same := bytes.Equal(f.sent.Sum(nil), f.received.Sum(nil))
	t.Logf("TCP %s: %d MiB over one connection, byte for byte: %t, longest silence %s", f.name, f.bytes>>20, same, f.longest.Round(time.Millisecond))
	if f.err != nil || !same {
		t.Errorf("TCP %s: %v, byte for byte: %t", f.name, f.err, same)
	}
}

// pinging sends 100 packets a second until it is stopped, and says how many there were and how many had no answer.
func (p *pod) pinging(to *pod) (stop func() (sent, lost int)) { return p.Pinging(to.ips[0].String()) }
