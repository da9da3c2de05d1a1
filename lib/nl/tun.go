package nl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/plan"
)

// tunPath is the device that TUN devices are made and opened through.
const tunPath = "/dev/net/tun"

// AddTUN makes a TUN device that stays when nobody has it open.
func (c *Conn) AddTUN(name string) plan.Op {
	return plan.Func{Text: "ip tuntap add dev " + name + " mode tun vnet_hdr", Run: func(context.Context) error {
		f, err := OpenTUN(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := control(f, func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1) }); err != nil {
			return kernelError("keep TUN device "+name, err)
		}
		return nil
	}}
}

// OpenTUN opens the TUN device of that name, making it if there is none: what the kernel sends over it is read from
// the file, behind a struct virtio_net_hdr, and what is written there is received by the kernel. One process at a
// time has it open; of another's it is exit.TryAgain. A device made here goes with its file, unless AddTUN keeps it.
func OpenTUN(name string) (*os.File, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil, exit.WithHint(exit.Errorf(exit.Refused, "open %q: %w", tunPath, err),
			"modprobe tun; in a container, mount the host's %s into it", tunPath)
	}
	if err != nil {
		return nil, kernelError("open "+tunPath, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		if errors.Is(err, unix.EBUSY) {
			return nil, exit.WithHint(exit.Errorf(exit.TryAgain, "open TUN device %q: another process has it open", name),
				"grep -l '^iff:[[:space:]]%s$' /proc/*/fdinfo/* names the process", name)
		}
		return nil, kernelError("open TUN device "+name, err)
	}
	return os.NewFile(uintptr(fd), tunPath), nil
}

// TUNName is the name of the device that a file of OpenTUN is; an error once the device is deleted.
func TUNName(f *os.File) (string, error) {
	ifr, err := unix.NewIfreq("x")
	if err != nil {
		return "", err
	}
	if err := control(f, func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr) }); err != nil {
		return "", fmt.Errorf("name TUN device: %w", err)
	}
	return ifr.Name(), nil
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(failed, err)
}
