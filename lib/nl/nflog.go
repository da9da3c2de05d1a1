package nl

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// LoggedPacket is a packet that a rule with `log group N` has logged.
type LoggedPacket struct {
	Time   time.Time // of its arrival here where the kernel does not say
	Family string    // of the table: ip or ip6 for an inet one, bridge, …
	Prefix string    // of the rule
	Hook   byte      // 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting
	// Protocol is the ether type of Payload: 0x0800, 0x86dd, 0x0806.
	Protocol uint16
	// In and Out are device indexes, 0 where there is none: for a bridged packet those of the bridge, and
	// PhysIn and PhysOut those of its ports.
	In, Out, PhysIn, PhysOut int
	// Source is the sender's Ethernet address, where there is one.
	Source MAC
	// Payload begins with the header of Protocol, cut at the length that was asked for.
	Payload []byte
	// Lost says that packets before this one were not delivered; then nothing else is set.
	Lost bool
}

// Attributes and commands of linux/netfilter/nfnetlink_log.h.
const (
	logMsgPacket = 0
	logMsgConfig = 1

	logCfgCmd, logCfgMode, logCfgQThresh = 1, 2, 5
	logCmdBind                           = 1
	logCopyPacket                        = 2

	logPacketHdr, logTimestamp, logInDev, logOutDev, logPhysIn, logPhysOut = 1, 3, 4, 5, 6, 7
	logHWAddr, logPayload, logPrefix                                       = 8, 9, 10
)

// WatchLog receives the packets that are logged to a group in the network namespace of the calling thread,
// at most snap bytes of each, until ctx ends. The channel is never closed. A group has one receiver: where there is one, the error
// (exit.TryAgain) says which process that is.
func WatchLog(ctx context.Context, group uint16, snap uint32) (<-chan LoggedPacket, error) {
	what := fmt.Sprintf("receive log group %d", group)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, kernelError(what, err)
	}
	if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err == nil {
		err = bindLog(fd, group, snap)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // the first error counts
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) {
			if holder, held := logHolder(group); held {
				return nil, exit.WithHint(exit.Errorf(exit.TryAgain, "%s: process %d has it, and a group has one receiver", what, holder),
					"end that process, or read its output; another group needs rules that log to it")
			}
		}
		return nil, kernelError(what, err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	out := make(chan LoggedPacket)
	err = receive(ctx, fd, func(datagram []byte, lost bool) {
		packets := []LoggedPacket{{Lost: true}}
		if !lost {
			packets = parseLog(datagram)
		}
		for _, p := range packets {
			if p.Time.IsZero() {
				p.Time = time.Now()
			}
			select {
			case out <- p:
			case <-ctx.Done():
			}
		}
	})
	if err != nil {
		return nil, kernelError(what, err)
	}
	return out, nil
}

// bindLog asks for a group's packets, each as it comes.
func bindLog(fd int, group uint16, snap uint32) error {
	mode := append(binary.BigEndian.AppendUint32(nil, snap), logCopyPacket, 0) // struct nfulnl_msg_config_mode
	for seq, attr := range []struct {
		kind  uint16
		value []byte
	}{
		{logCfgCmd, []byte{logCmdBind}}, {logCfgMode, mode}, {logCfgQThresh, binary.BigEndian.AppendUint32(nil, 1)},
	} {
		b, start := begin(nil, unix.NFNL_SUBSYS_ULOG<<8|logMsgConfig, unix.NLM_F_ACK, uint32(seq+1))
		b = append(b, unix.AF_UNSPEC, unix.NFNETLINK_V0)
		b = binary.BigEndian.AppendUint16(b, group)
		b = finish(appendAttr(b, attr.kind, attr.value), start)
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		if err := logAnswer(fd, uint32(seq+1)); err != nil {
			return err
		}
	}
	return nil
}

// logAnswer reads up to the answer to a request; packets that come before it are not missed by anybody.
func logAnswer(fd int, seq uint32) error {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		answered, errno := false, int32(0)
		err = messages(buf[:max(n, 0)], func(h header, payload []byte) bool {
			if answered = h.kind == unix.NLMSG_ERROR && h.seq == seq && len(payload) >= 4; answered {
				errno = -int32(binary.NativeEndian.Uint32(payload))
			}
			return !answered
		})
		switch {
		case err != nil:
			return err
		case answered && errno != 0:
			return unix.Errno(errno)
		case answered:
			return nil
		}
	}
}

// logHolder finds the netlink port of a group's receiver, which is its process id as a rule.
func logHolder(group uint16) (port int, held bool) {
	f, err := os.Open("/proc/thread-self/net/netfilter/nfnetlink_log")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != strconv.Itoa(int(group)) {
			continue
		}
		port, err := strconv.Atoi(fields[1])
		return port, err == nil
	}
	return 0, false
}

// parseLog reads the packets of a datagram. Their payload is a copy.
func parseLog(datagram []byte) []LoggedPacket {
	var all []LoggedPacket
	_ = messages(datagram, func(h header, b []byte) bool { // what is cut off is left out
		if h.kind != unix.NFNL_SUBSYS_ULOG<<8|logMsgPacket || len(b) < 4 {
			return true
		}
		p := LoggedPacket{Family: nftFamilyName(b[0])}
		if attrs(b[4:], p.attribute) == nil {
			all = append(all, p)
		}
		return true
	})
	return all
}

func (p *LoggedPacket) attribute(kind uint16, v []byte) {
	index := func() int {
		if len(v) != 4 {
			return 0
		}
		return int(binary.BigEndian.Uint32(v))
	}
	switch kind {
	case logPacketHdr:
		if len(v) >= 3 {
			p.Protocol, p.Hook = binary.BigEndian.Uint16(v), v[2]
		}
	case logTimestamp:
		if len(v) == 16 {
			p.Time = time.Unix(int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))*1000)
		}
	case logInDev:
		p.In = index()
	case logOutDev:
		p.Out = index()
	case logPhysIn:
		p.PhysIn = index()
	case logPhysOut:
		p.PhysOut = index()
	case logHWAddr:
		if len(v) >= 10 && binary.BigEndian.Uint16(v) == 6 {
			p.Source = MAC(v[4:10])
		}
	case logPayload:
		p.Payload = append([]byte(nil), v...)
	case logPrefix:
		p.Prefix = unix.ByteSliceToString(v)
	}
}

// DeviceName is the name of the device with an index in the network namespace of the calling thread; "" when
// there is none any more.
func DeviceName(index int) string {
	if index == 0 {
		return ""
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	return i.Name
}
