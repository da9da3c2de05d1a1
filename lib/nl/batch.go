package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Verb is what a Change does with an entry.
type Verb uint8

// The verbs, named as ip(8) names them.
const (
	Add     Verb = iota // fails where there is one
	Replace             // makes it, or takes the place of the one there
	Delete              // no error where there is none
)

func (v Verb) String() string { return [...]string{"add", "replace", "del"}[v] }

func (v Verb) flags() uint16 {
	return [...]uint16{
		unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL,
		unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_REPLACE,
		unix.NLM_F_ACK,
	}[v]
}

// Change is one netlink request that changes an entry: RouteChange, NeighChange or FDBChange. String
// is the command an administrator would make the same change with.
type Change interface {
	String() string
	encode(b []byte, seq uint32) []byte
	done(errno unix.Errno) bool // the kernel's refusal says that it is so already
}

// batchSize is how many requests go into one write. Each is answered by a message of its own, and
// all the answers to one write must fit into the socket's receive buffer.
const batchSize = 128

// Socket is a raw route netlink socket: many requests in one write, lists without an intermediate
// form. It is safe for one goroutine at a time.
type Socket struct {
	fd  int
	seq uint32
	out []byte
	in  []byte
}

// OpenSocket opens a socket in the network namespace of the calling thread.
func OpenSocket() (*Socket, error) {
	fd, err := openRoute(0, 2<<20)
	if err != nil {
		return nil, err
	}
	timeout := unix.NsecToTimeval(int64(10 * time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	// Without these the kernel's reasons are missing and lists are longer: no reason to fail.
	for _, option := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	return &Socket{fd: fd, seq: 1, in: make([]byte, 64<<10)}, nil
}

func openRoute(groups uint32, buffer int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("open netlink socket: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // the default is worse, not wrong
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		return -1, fmt.Errorf("bind netlink socket: %w", err)
	}
	return fd, nil
}

// Close closes the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Apply makes the changes in order, many in one write, and returns the error of each (nil where it
// worked). One that fails stops no other. after, if not nil, is called after every write with how
// many are done: the place to take the kernel's events in before they overflow.
func (s *Socket) Apply(changes []Change, after func(done int)) []error {
	errs := make([]error, len(changes))
	answered := make([]bool, len(changes))
	err := s.exchange(len(changes), func(b []byte, i int, seq uint32) []byte {
		return changes[i].encode(b, seq)
	}, nil, func(i int, errno unix.Errno, why string) {
		answered[i] = true
		if errno == 0 || changes[i].done(errno) {
			return
		}
		cause := error(errno)
		if why != "" {
			cause = fmt.Errorf("%w (%s)", errno, why)
		}
		errs[i] = refused(cause)
	}, after)
	if err == nil {
		return errs
	}
	for i := range errs {
		if !answered[i] {
			errs[i] = refused(err)
		}
	}
	return errs
}

// exchange sends n requests in writes of batchSize and reads the answers. ack gets each request's
// end, with the kernel's reason; data each other message. An error means that some have no answer.
func (s *Socket) exchange(n int, encode func(b []byte, i int, seq uint32) []byte, data func(i int, h header, b []byte),
	ack func(i int, errno unix.Errno, why string), after func(done int),
) error {
	for from := 0; from < n; from += batchSize {
		to := min(from+batchSize, n)
		first := s.seq
		s.seq += uint32(to - from)
		s.out = s.out[:0]
		for i := from; i < to; i++ {
			s.out = encode(s.out, i, first+uint32(i-from))
		}
		if err := s.send(s.out); err != nil {
			return err
		}
		for left := to - from; left > 0; {
			err := s.receive(func(h header, b []byte) bool {
				i := from + int(h.seq-first)
				switch {
				case h.seq-first >= uint32(to-from): // of an earlier request that timed out
				case h.kind == unix.NLMSG_ERROR:
					left--
					errno, why := parseError(h, b)
					ack(i, errno, why)
				case data != nil:
					data(i, h, b)
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		if after != nil {
			after(to)
		}
	}
	return nil
}

// dump lists; an interrupted one is repeated, so f may see an entry twice.
func (s *Socket) dump(what string, kind uint16, body []byte, f func(h header, b []byte) error) error {
	var err error
	for range 10 {
		if err = s.dumpOnce(kind, body, f); !errors.Is(err, errInterrupted) {
			break
		}
	}
	return kernelError(what, err)
}

var errInterrupted = errors.New("what is listed keeps changing")

func (s *Socket) dumpOnce(kind uint16, body []byte, f func(h header, b []byte) error) error {
	seq := s.seq
	s.seq++
	b, start := begin(s.out[:0], kind, unix.NLM_F_DUMP, seq)
	s.out = finish(append(b, body...), start)
	if err := s.send(s.out); err != nil {
		return err
	}
	var failed error
	done, interrupted := false, false
	for !done {
		err := s.receive(func(h header, b []byte) bool {
			if h.seq != seq {
				return true
			}
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			switch h.kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				done = true
				if errno, why := parseError(h, b); errno != 0 {
					failed = errno
					if why != "" {
						failed = fmt.Errorf("%w (%s)", errno, why)
					}
				}
			default:
				if err := f(h, b); err != nil && failed == nil {
					failed = err
				}
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if failed == nil && interrupted {
		return errInterrupted
	}
	return failed
}

func (s *Socket) send(b []byte) error {
	return unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (s *Socket) receive(f func(h header, b []byte) bool) error {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		return messages(s.in[:n], f)
	}
}

// parseError reads the payload of NLMSG_ERROR (or NLMSG_DONE) with its reason, if the kernel gave one.
func parseError(h header, b []byte) (errno unix.Errno, why string) {
	if len(b) < 4 {
		return 0, ""
	}
	errno = unix.Errno(-int32(binary.NativeEndian.Uint32(b)))
	skip := 4
	if h.kind == unix.NLMSG_ERROR {
		skip += unix.SizeofNlMsghdr // the request's header, alone because of NETLINK_CAP_ACK
	}
	if h.flags&unix.NLM_F_ACK_TLVS == 0 || len(b) < skip {
		return errno, ""
	}
	_ = attrs(b[skip:], func(attr uint16, v []byte) { // a broken reason is no reason
		if attr == nlmsgerrAttrMsg {
			why = unix.ByteSliceToString(v)
		}
	})
	return errno, why
}

const nlmsgerrAttrMsg = 1
