package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocket is the longest path of a socket, bytes (sockaddr_un less the zero byte).
const maxSocket = 107

// notes is the socket that one process sends its sd_notify messages to. Each process has one of its
// own, open as long as it runs: a message of an earlier run cannot be taken for a later one's.
type notes struct {
	path  string
	conn  *net.UnixConn
	store *Store
	on    Callbacks
	done  chan struct{}
}

// maxRights is the most descriptors that the kernel lets come with one message (SCM_MAX_FD).
const maxRights = 253

func openNotes(path string, store *Store, on Callbacks) (*notes, error) {
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
	return &notes{path: path, conn: conn, store: store, on: on, done: make(chan struct{})}, nil
}

// read takes messages until the socket is closed and what was sent before is read.
func (n *notes) read() {
	defer close(n.done)
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return
	}
	in := newInbox()
	for {
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			failed = in.receive(int(fd))
			return !errors.Is(failed, syscall.EAGAIN)
		})
		if err != nil || failed != nil {
			return
		}
		n.handle(in)
	}
}

// drain reads what was sent last and closes the socket.
func (n *notes) drain() {
	if raw, err := n.conn.SyscallConn(); err == nil {
		in := newInbox()
		_ = raw.Control(func(fd uintptr) {
			for in.receive(int(fd)) == nil {
				n.handle(in)
			}
		})
	}
	n.close()
	<-n.done
}

// handle stores descriptors before anybody hears of the message: a process that ends next is started
// again with them.
func (n *notes) handle(in *inbox) {
	if err := n.store.take(Parse(in.text), in.fds); err != nil {
		n.on.Refused(err)
	}
	n.on.Notified(in.text)
}

// inbox is where a message is received.
type inbox struct {
	buf, rights []byte
	text        string
	fds         []int
}

func newInbox() *inbox {
	return &inbox{buf: make([]byte, 4096), rights: make([]byte, unix.CmsgSpace(maxRights*4))}
}

func (in *inbox) receive(fd int) error {
	size, control, _, _, err := unix.Recvmsg(fd, in.buf, in.rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	in.text, in.fds = string(in.buf[:size]), nil
	messages, err := unix.ParseSocketControlMessage(in.rights[:control])
	if err != nil {
		return nil //nolint:nilerr // not what the kernel sends: the text counts
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			in.fds = append(in.fds, fds...)
		}
	}
	return nil
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
	Store  bool   // the descriptors that came with it are to be stored
	Forget bool   // what is stored under Name is to be closed
	Name   string // of the descriptors; "stored" where the message gives none that can be used
}

// Parse reads a message; what it does not know is left out.
func Parse(text string) Message {
	m := Message{Name: "stored"}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch {
		case key == "READY" && value == "1":
			m.Ready = true
		case key == "STATUS":
			m.Status, m.HasIt = printable(value), true
		case key == "FDSTORE" && value == "1":
			m.Store = true
		case key == "FDSTOREREMOVE" && value == "1":
			m.Forget = true
		case key == "FDNAME" && isFDName(value):
			m.Name = value
		}
	}
	return m
}

// isFDName says whether a name may stand in $LISTEN_FDNAMES, which colons divide.
func isFDName(s string) bool {
	return 0 < len(s) && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' })
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
