// Package nl is towpath's only way to the kernel's network configuration: no other package imports
// netlink. It gives values that compare with ==, reads that survive interrupted dumps, and operations
// whose text is iproute2's.
package nl

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// Conn is a set of sockets in one network namespace. It is safe for one goroutine at a time.
type Conn struct{ h *netlink.Handle }

// Open connects to the network namespace of the calling thread.
func Open() (*Conn, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	_ = h.SetSocketTimeout(10 * time.Second)
	return &Conn{h: h}, nil
}

// OpenAt connects to the network namespace at a path such as /run/netns/NAME or /proc/PID/ns/net.
// The calling thread stays where it is.
func OpenAt(path string) (*Conn, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket in %q: %w", path, err)
	}
	_ = h.SetSocketTimeout(10 * time.Second)
	return &Conn{h: h}, nil
}

// Close closes the sockets.
func (c *Conn) Close() error {
	c.h.Close()
	return nil
}

// dump repeats a read that the kernel interrupted because what it lists changed meanwhile.
func dump[T any](what string, read func() (T, error)) (T, error) {
	var v T
	var err error
	for range 10 {
		if v, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return v, kernelError(what, err)
	}
	return v, nil
}

// kernelError gives a kernel's refusal its exit status and, for a missing right, a hint.
func kernelError(what string, err error) error {
	if err == nil {
		return nil
	}
	return refused(fmt.Errorf("%s: %w", what, err))
}

func refused(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return exit.WithHint(&exit.Error{Code: exit.NoPermission, Err: err}, "run as root, or with CAP_NET_ADMIN")
	}
	return &exit.Error{Code: exit.Refused, Err: err}
}
