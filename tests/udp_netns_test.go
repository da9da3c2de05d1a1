//go:build netns

package tests

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/state"
)

// supervised is a node whose tunnel runs under a supervisor.
type supervised struct {
	*node
	stages     string
	supervisor *exec.Cmd
	end        netip.Addr // of the tunnel
}

func newSupervised(t *testing.T, name, address, netConf, store string) *supervised {
	t.Helper()
	s := &supervised{node: newNode(t, name, address, netConf, store), stages: t.TempDir()}
	for _, stage := range []string{"subnet-lease", "udp-tunnel", "route-sync"} {
		write(t, filepath.Join(s.stages, stage+".toml"), read(t, filepath.Join(root, "packaging", "stages.d", stage+".toml")))
	}
	t.Cleanup(func() {
		if s.supervisor != nil {
			_ = s.supervisor.Process.Signal(syscall.SIGTERM)
			_ = s.supervisor.Wait()
		}
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(s.stages, "log"))
			t.Logf("%s:\n%s", name, text)
		}
	})
	return s
}

func (s *supervised) supervise() {
	s.t.Helper()
	s.supervisor = s.Command(program(s.t, "towpath"), "supervise", "--run-dir", string(s.run), "--stages", s.stages)
	s.supervisor.Env = append(os.Environ(), "TOWPATH_NET_CONF="+s.netConf, "TOWPATH_STORE=file:"+s.store, "TOWPATH_NODE="+s.name, "TOWPATH_IFACE=eth0")
	log, err := os.OpenFile(filepath.Join(s.stages, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) // a file: the stages outlive a pipe's reader
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.supervisor.Stderr = log
	if err := s.supervisor.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// stands waits until the tunnel has a route and returns the number of its process.
func (s *supervised) stands() int {
	s.t.Helper()
	pid := 0
	s.Eventually(time.Minute, func() string {
		stage, err := state.Load[state.Stage](s.run.Stage("udp-tunnel"))
		if err != nil || stage.State != "ready" {
			return fmt.Sprintf("%v %v", stage, err)
		}
		pid = stage.PID
		if out := s.Run("ip", "route", "show", "proto", "116"); !strings.Contains(out, "dev flannel0") {
			return "no route: " + out
		}
		return ""
	})
	lease, err := state.Load[state.Lease](s.run.Lease())
	if err != nil {
		s.t.Fatal(err)
	}
	s.end = lease.Subnet.IPv4.Addr()
	return pid
}

// again kills the tunnel's process and waits for the next.
func (s *supervised) again() {
	s.t.Helper()
	before := s.stands()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.Eventually(time.Minute, func() string {
		stage, err := state.Load[state.Stage](s.run.Stage("udp-tunnel"))
		if err != nil || stage.State != "ready" || stage.PID == before {
			return fmt.Sprintf("%v %v", stage, err)
		}
		return ""
	})
}

// TestTunnelRestarts: the tunnel's process is killed on both nodes, and the supervisor, under a ping at 100 a second and a TCP
// stream. Not one packet is lost, and the stream holds.
func TestTunnelRestarts(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	conf := `{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}`
	a, z := newSupervised(t, "a", "192.168.7.1/24", conf, store), newSupervised(t, "z", "192.168.7.2/24", conf, store)
	join(a.node, z.node)
	a.supervise()
	z.supervise()
	a.stands()
	z.stands()
	a.Eventually(20*time.Second, func() string {
		out, err := a.Try("ping", "-c1", "-W1", z.end.String())
		if err != nil {
			return out
		}
		return ""
	})

	stream := newStream(t, a, z)
	begun := time.Now()
	pinged := a.Pinging(z.end.String())
	device := a.Run("ip", "-o", "link", "show", "dev", "flannel0")
	a.again()
	z.again()
	a.again()
	a.supervisor.Process.Kill()
	a.supervisor.Wait()
	<-time.After(200 * time.Millisecond)
	a.supervise()
	adopted := a.stands()
	a.Eventually(time.Minute, func() string {
		text := read(t, filepath.Join(a.stages, "log"))
		if strings.Count(text, "took over running stage") < 3 {
			return text
		}
		return ""
	})
	a.Eventually(time.Minute, func() string {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", a.supervisor.Process.Pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "/dev/net/tun" {
				return ""
			}
		}
		return "the next supervisor does not have what the tunnel stores"
	})
	if pid := a.stands(); pid != adopted {
		t.Error("the next supervisor restarted the tunnel")
	}
	a.again()
	<-time.After(max(300*time.Millisecond, time.Until(begun.Add(4*time.Second)))) // a quick machine has it all behind it in one
	sent, lost := pinged()
	t.Logf("%d of %d packets lost", lost, sent)
	if sent < 100 || lost != 0 { // less than none: one came twice
		t.Errorf("%d of %d packets lost", lost, sent)
	}
	if now := a.Run("ip", "-o", "link", "show", "dev", "flannel0"); now != device {
		t.Errorf("another device:\n%s%s", device, now)
	}
	stream.finish()
}

// stream is a TCP connection with something on its way every few milliseconds.
type stream struct {
	t      *testing.T
	client net.Conn
	sent   chan int64
	got    chan int64
	stop   chan struct{}
}

func newStream(t *testing.T, a, z *supervised) *stream {
	t.Helper()
	s := &stream{t: t, sent: make(chan int64, 1), got: make(chan int64, 1), stop: make(chan struct{})}
	var l net.Listener
	var err error
	z.Do(func() { l, err = net.Listen("tcp4", z.end.String()+":0") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a.Do(func() { s.client, err = net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close(); server.Close() })
	go func() {
		n, _ := io.Copy(io.Discard, server)
		s.got <- n
	}()
	go func() {
		var n int64
		for tick := time.Tick(2 * time.Millisecond); ; {
			select {
			case <-tick:
			case <-s.stop:
				s.sent <- n
				return
			}
			k, err := s.client.Write(make([]byte, 8<<10))
			n += int64(k)
			if err != nil {
				s.sent <- -1
				return
			}
		}
	}()
	return s
}

// finish demands that all that was sent arrived.
func (s *stream) finish() {
	s.t.Helper()
	close(s.stop)
	sent := <-s.sent
	s.client.(*net.TCPConn).CloseWrite()
	select {
	case got := <-s.got:
		s.t.Logf("%d bytes of the stream", got)
		if sent <= 0 || got != sent {
			s.t.Errorf("the stream broke: %d bytes of %d arrived", got, sent)
		}
	case <-time.After(time.Minute):
		s.t.Error("the stream stalls")
	}
}
