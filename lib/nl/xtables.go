package nl

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// Protocol says which half of the legacy (pre-nftables) iptables is meant.
type Protocol int

// The legacy tables, of iptables-legacy and of ip6tables-legacy.
const (
	XTables4 Protocol = iota
	XTables6
)

// The layout of linux/netfilter_ipv4/ip_tables.h and linux/netfilter_ipv6/ip6_tables.h on 64-bit
// machines: the socket to ask, and where an entry holds what changes without a change of the rules.
var xtables = [...]struct {
	names         string
	domain, level int
	address       int // size of struct ipt_ip, ip6t_ip6 with its padding
}{
	{"/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 84},
	{"/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 136},
}

// getsockopt numbers: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, the same for IPv6.
const (
	soGetInfo    = 64
	soGetEntries = 65
)

// LegacyTable returns a mark of the rules and policies of a legacy iptables table in the network
// namespace of the calling thread: equal marks mean unchanged rules, whatever the counters say. ok is
// false when the table does not exist. It runs no program, and does not make the kernel create a
// table, which asking for one that is not there would do.
func LegacyTable(p Protocol, table string) (mark uint64, ok bool, err error) {
	names, err := os.ReadFile(xtables[p].names)
	if errors.Is(err, fs.ErrNotExist) { // a kernel without legacy iptables
		return 0, false, nil
	}
	if err != nil {
		return 0, false, kernelError("list legacy iptables tables", err)
	}
	if !slices.Contains(strings.Fields(string(names)), table) {
		return 0, false, nil
	}
	entries, err := legacyEntries(p, table)
	if err != nil {
		return 0, false, kernelError("read legacy iptables table "+table, err)
	}
	return legacyMark(entries, xtables[p].address), true, nil
}

// legacyEntries reads a table's rules as the kernel keeps them.
func legacyEntries(p Protocol, table string) ([]byte, error) {
	fd, err := unix.Socket(xtables[p].domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	for range 10 {       // the table may grow between the two questions
		// struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size
		info := make([]byte, 32+13*4)
		copy(info[:31], table)
		if err := getsockopt(fd, xtables[p].level, soGetInfo, info); err != nil {
			return nil, err
		}
		size := binary.NativeEndian.Uint32(info[80:])
		// struct ipt_get_entries: name[32], size, the entries aligned to 8
		entries := make([]byte, 40+int(size))
		copy(entries[:31], table)
		binary.NativeEndian.PutUint32(entries[32:], size)
		err := getsockopt(fd, xtables[p].level, soGetEntries, entries)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// The policies of the built-in chains are rules among the entries, so the entries are all.
		return entries[40:], nil
	}
	return nil, exit.Errorf(exit.TryAgain, "changed ten times while it was read")
}

// legacyMark hashes entries without their counters and the kernel's scratch field.
func legacyMark(entries []byte, address int) uint64 {
	// struct ipt_entry: ipt_ip, nfcache u32, target_offset u16, next_offset u16, comefrom u32,
	// counters 2 × u64 aligned to 8, then matches and target.
	next := address + 6
	comefrom := address + 8
	counters := (comefrom + 4 + 7) &^ 7
	h := fnv.New64a()
	for len(entries) >= counters+16 {
		size := int(binary.NativeEndian.Uint16(entries[next:]))
		if size < counters+16 || size > len(entries) {
			break
		}
		h.Write(entries[:comefrom])
		h.Write(entries[counters+16 : size])
		entries = entries[size:]
	}
	h.Write(entries)
	return h.Sum64()
}

func getsockopt(fd, level, name int, value []byte) error {
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	runtime.KeepAlive(value)
	if errno != 0 {
		return errno
	}
	return nil
}
