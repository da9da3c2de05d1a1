package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// maxSocket is the longest path of a socket, bytes (sockaddr_un less the zero byte).
const maxSocket = 107

// notes is the socket that one process sends its sd_notify messages to. Each process has one of its
// own, open as long as it runs: a message of an earlier run cannot be taken for a later one's.
type notes struct {
	path string
	conn *net.UnixConn
	done chan struct{}
}

func listen(path string) (*notes, error) {
	if len(path) > maxSocket {
		return nil, fmt.Errorf("listen on %q: longer than the %d bytes of a socket's name: use a shorter --run-dir", path, maxSocket)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %q: %w", path, errors.Unwrap(err))
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", path, errors.Unwrap(err))
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %q: %w", path, errors.Unwrap(err))
	}
	return &notes{path: path, conn: conn, done: make(chan struct{})}, nil
}

// read hands over messages until the socket is closed and what was sent before is read.
func (n *notes) read(notified func(string)) {
	defer close(n.done)
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 4096)
	for {
		size := 0
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			size, _, failed = syscall.Recvfrom(int(fd), buf, syscall.MSG_DONTWAIT)
			return !errors.Is(failed, syscall.EAGAIN)
		})
		if err != nil || failed != nil {
			return
		}
		notified(string(buf[:size]))
	}
}

// drain reads what was sent last and closes the socket.
func (n *notes) drain(notified func(string)) {
	if raw, err := n.conn.SyscallConn(); err == nil {
		buf := make([]byte, 4096)
		_ = raw.Control(func(fd uintptr) {
			for {
				size, _, err := syscall.Recvfrom(int(fd), buf, syscall.MSG_DONTWAIT)
				if err != nil {
					return
				}
				notified(string(buf[:size]))
			}
		})
	}
	n.close()
	<-n.done
}

func (n *notes) close() {
	_ = n.conn.Close()
	os.Remove(n.path)
}

// Message is what an sd_notify message says to the supervisor.
type Message struct {
	Ready  bool
	Status string // of at most 200 letters, none of them a control character
	HasIt  bool   // Status was in the message
}

// Parse reads a message; what it does not know is left out.
func Parse(text string) Message {
	var m Message
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch {
		case key == "READY" && value == "1":
			m.Ready = true
		case key == "STATUS":
			m.Status, m.HasIt = printable(value), true
		}
	}
	return m
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:199]) + "…"
	}
	return strings.TrimSpace(s)
}
