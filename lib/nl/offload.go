package nl

import (
	"context"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/plan"
)

// Driver is the name of a device's driver: vmxnet3, virtio_net, veth. Like what follows it is what the program ethtool
// does, in the network namespace of the calling thread, and by ioctl, since every kernel has that (generic netlink came
// with Linux 5.6, where it is compiled in).
func Driver(name string) (driver string, err error) {
	err = withInet(func(fd int) error {
		info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
		if err == nil {
			driver = unix.ByteSliceToString(info.Driver[:])
		}
		return err
	})
	return driver, kernelError("read driver of "+name, err)
}

// TxChecksum says whether a device takes packets with a checksum that is still to be filled in. The kernel tells of a
// change as of any other of the link.
func TxChecksum(name string) (on bool, err error) {
	v := ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM}
	err = withInet(func(fd int) error { return ethtool(fd, name, &v) })
	return v.data != 0, kernelError("read checksum offload of "+name, err)
}

// SetTxChecksum turns that on or off. The kernel's request covers all of tx-checksum-*; a tunnel has ip-generic only.
func SetTxChecksum(name string, on bool) plan.Op {
	return plan.Func{
		Text: fmt.Sprintf("ethtool -K %s tx-checksum-ip-generic %s", name, onOff(on)),
		Run: func(context.Context) error {
			v := ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}
			if on {
				v.data = 1
			}
			if err := withInet(func(fd int) error { return ethtool(fd, name, &v) }); err != nil {
				return refused(err)
			}
			return nil
		},
	}
}

// withInet calls f with a socket that requests about devices can be made on.
func withInet(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	return f(fd)
}

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

// ifreq is struct ifreq of linux/if.h with a pointer in it: 40 bytes on 64 bits, less on others.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24]byte
}

func ethtoolRequest(name string, v *ethtoolValue) ifreq {
	r := ifreq{data: unsafe.Pointer(v)}
	copy(r.name[:], name)
	return r
}

func ethtool(fd int, name string, v *ethtoolValue) error {
	if len(name) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	r := ethtoolRequest(name, v)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}
