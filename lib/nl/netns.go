package nl

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
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
	return onThread(func() error { return kernelError("enter network namespace", unix.Setns(n.Fd(), unix.CLONE_NEWNET)) }, f)
}

// onThread runs enter and f on a thread of their own, which ends with them: never unlocked, it goes with its goroutine.
func onThread(enter, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := enter(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// PeerIn says whether the other end of a veth is in a namespace. Neither is entered, so that no right to do that is needed.
func PeerIn(veth string, n *Netns) (bool, error) {
	l, err := dump("read link "+veth, func() (netlink.Link, error) { return netlink.LinkByName(veth) })
	if err != nil {
		return false, err
	}
	id, err := dump("read id of network namespace", func() (int, error) { return netlink.GetNetNsIdByFd(n.Fd()) })
	return err == nil && id >= 0 && id == l.Attrs().NetNsID, err
}
