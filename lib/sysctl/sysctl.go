// Package sysctl reads and sets kernel parameters of the network namespace that the process is in.
//
// In a container that is not privileged /proc/sys is read-only. The parameters of a network namespace are those of the
// process that opens the file, whatever mount it goes through, so a host's /proc/sys/net that is mounted
// elsewhere in the container serves a pod that is in the host's network; Root says where.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// Default is where the kernel's parameters are mounted.
const Default = "/proc/sys"

// Root is the directory in use. A program sets it once, from its flag --sysctl-root, before anything else.
var Root = Default

// FlagUsage says what the flag that sets Root is for.
const FlagUsage = "directory that has the kernel's net/ parameters, writable: in a container /proc/sys is not"

// Get returns the value of a parameter named by its path below /proc/sys, such as
// "net/ipv4/ip_forward", without the newline. A missing parameter is fs.ErrNotExist.
func Get(name string) (string, error) {
	fd, err := unix.Open(filepath.Join(Root, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// ReadOnly says that a parameter is on a file system that nobody can write to, as a container's /proc/sys is.
func ReadOnly(name string) bool {
	return errors.Is(unix.Access(filepath.Join(Root, name), unix.W_OK), unix.EROFS)
}

// Set writes a parameter.
func Set(name, value string) error {
	if err := write(filepath.Join(Root, name), value); err != nil {
		return exit.WithHint(fmt.Errorf("set sysctl %s=%s: %w", name, value, err),
			"in a container %s may be read-only: set it on the host, or mount the host's /proc/sys/net elsewhere and name that place with --sysctl-root", Root)
	}
	return nil
}

// write goes without package os, which would enter the file into its poller and wake a thread for it:
// half of the time of the CNI plugin's five parameters.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	return errors.Join(err, unix.Close(fd))
}

// Want returns the operation that makes the parameter have the value, or nil when it has it.
// Its text is that of sysctl(8): "sysctl -w net/ipv4/ip_forward=1" (slashes, since names of
// interfaces hold dots).
func Want(name, value string) (plan.Op, error) {
	have, err := Get(name)
	if err != nil {
		return nil, err
	}
	if have == value {
		return nil, nil //nolint:nilnil // no operation is the answer "nothing to do"
	}
	return plan.Func{
		Text: fmt.Sprintf("sysctl -w %s=%s", name, value),
		Run:  func(context.Context) error { return Set(name, value) },
	}, nil
}
