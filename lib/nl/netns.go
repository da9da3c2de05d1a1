package nl

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Netns is an open network namespace.
type Netns struct {
	f        *os.File
	dev, ino uint64
}

// ErrNoNetns says that a path exists and is no network namespace: what is left of one that is gone.
var ErrNoNetns = errors.New("no network namespace is there")

// OpenNetns opens the network namespace at a path such as /run/netns/NAME or /proc/PID/ns/net. A
// path that does not exist is fs.ErrNotExist; one that is no namespace is an error too.
func OpenNetns(path string) (*Netns, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", path, errors.Unwrap(err))
	}
	n := &Netns{f: f}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err = unix.Fstatfs(n.Fd(), &fs); err == nil {
		err = unix.Fstat(n.Fd(), &st)
	}
	if err == nil && fs.Type != unix.NSFS_MAGIC {
		err = ErrNoNetns
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open network namespace %q: %w", path, err)
	}
	n.dev, n.ino = st.Dev, st.Ino
	return n, nil
}

// OwnNetns opens the network namespace of the calling thread.
func OwnNetns() (*Netns, error) { return OpenNetns("/proc/thread-self/ns/net") }

// Fd is the descriptor of the namespace; it stays n's.
func (n *Netns) Fd() int { return int(n.f.Fd()) }

// Close closes the descriptor. The namespace lives on while something else holds it.
func (n *Netns) Close() error { return n.f.Close() }

// Same says whether both are one namespace.
func (n *Netns) Same(o *Netns) bool { return n.dev == o.dev && n.ino == o.ino }

// Do runs f on a thread inside the namespace. The thread is never used again, so that nothing else
// can run in there by mistake; f must not start goroutines that count on the namespace.
func (n *Netns) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
			done <- kernelError("enter network namespace", err)
			return
		}
		done <- f()
	}()
	return <-done
}
