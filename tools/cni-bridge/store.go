package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// store is the addresses in use of one network, in host-local's directory and format, so that a node
// can change between it and cni-bridge with its pods running:
//
//	DATADIR/NET/lock                 flock, held for each change
//	DATADIR/NET/10.244.1.5           "CONTAINER\r\nIFNAME", there while the address is taken
//	DATADIR/NET/last_reserved_ip.N   where the search of range N goes on
//
// host-local reads every one of these files for each ADD and DEL. The store keeps an index beside
// them instead, in a directory whose name no network can have (see index.go):
//
//	DATADIR/.towpath/NET/CONTAINER:IFNAME   which addresses, of which boot
//	DATADIR/.towpath/NET/.stamp             its mtime is that of DATADIR/NET when we last left it
//
// Nothing is synced to disk: what is lost in a power failure belongs to pods that are lost with it,
// and a torn file is recognised (an address file without content is nobody's).
type store struct {
	dir    string
	index  string
	bootID string
}

// holder is who has an address. An empty interface is the format of host-local before 0.7.
type holder struct{ Container, Interface string }

func (h holder) content() string {
	if h.Interface == "" {
		return h.Container
	}
	return h.Container + "\r\n" + h.Interface
}

// file is the name of the holder's index file. A container's name has no colon.
func (h holder) file() string { return h.Container + ":" + h.Interface }

func holderOfFile(name string) (holder, bool) {
	id, ifname, ok := strings.Cut(name, ":")
	return holder{id, ifname}, ok && id != ""
}

func holderOfContent(content string) holder {
	id, ifname, _ := strings.Cut(strings.TrimSpace(content), "\r\n")
	return holder{id, ifname}
}

func openStore(dataDir, network string) (*store, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	s := &store{
		dir: filepath.Join(dataDir, network), index: filepath.Join(dataDir, ".towpath", network),
		bootID: strings.TrimSpace(string(id)),
	}
	return s, nil
}

// locked runs f while no other process, nor host-local, changes the directory, with the index up to
// date before and after.
func (s *store) locked(f func() error) error {
	lock, err := s.openLock()
	if err != nil {
		return fmt.Errorf("lock %q: %w", s.dir, err)
	}
	defer lock.Close()
	if err := flock(lock, unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %q: %w", s.dir, err)
	}
	if err := s.catchUp(); err != nil {
		return err
	}
	err = f()
	return errors.Join(err, s.stamp())
}

func (s *store) openLock() (*os.File, error) {
	const flags = os.O_RDONLY | os.O_CREATE
	path := filepath.Join(s.dir, "lock")
	f, err := os.OpenFile(path, flags, 0o640)
	if errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(s.dir, 0o755), os.MkdirAll(s.index, 0o700)); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0o640)
	}
	return f, err
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *store) path(a netip.Addr) string { return filepath.Join(s.dir, a.String()) }

// holds says whether the address is taken by h. Call it locked.
func (s *store) holds(h holder, a netip.Addr) bool {
	data, err := os.ReadFile(s.path(a))
	return err == nil && strings.TrimSpace(string(data)) == h.content()
}

// free says whether the address can be taken. An address file without content is left of a process
// that died between making and filling it: while the lock is held, nobody is in between.
func (s *store) free(a netip.Addr) bool {
	var st unix.Stat_t
	if err := unix.Lstat(s.path(a), &st); err != nil {
		return errors.Is(err, unix.ENOENT)
	}
	return st.Size == 0
}

// take writes the address file. Call it locked, after the index names the address.
func (s *store) take(h holder, a netip.Addr) error {
	f, err := os.OpenFile(s.path(a), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reserve %s: %w", a, err)
	}
	_, err = f.WriteString(h.content())
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(s.path(a))
		return fmt.Errorf("reserve %s: %w", a, err)
	}
	return nil
}

// release frees the addresses of those given that h holds, or that nobody does. Call it locked.
func (s *store) release(h holder, addrs []netip.Addr) error {
	var failed error
	for _, a := range addrs {
		if !s.holds(h, a) && !s.free(a) {
			continue
		}
		if err := os.Remove(s.path(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, fmt.Errorf("release %s: %w", a, err))
		}
	}
	return failed
}

func (s *store) lastPath(set int) string {
	return filepath.Join(s.dir, fmt.Sprintf("last_reserved_ip.%d", set))
}

// last is the address that the set's search begins after; invalid: at its start.
func (s *store) last(set int) netip.Addr {
	data, err := os.ReadFile(s.lastPath(set))
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(string(data))
	return a.Unmap()
}

// setLast notes where the next search begins. The search is right without it, so that a failure
// is none.
func (s *store) setLast(set int, a netip.Addr) {
	_ = os.WriteFile(s.lastPath(set), []byte(a.String()), 0o600)
}

// find chooses a free address of the set: the first after the last one given, so that an address is
// not given again at once and a search does not begin in the crowd. Each address in use is passed
// once in a whole turn around the set, whatever the order in which pods come and go.
func (s *store) find(set spanSet, n int) (netip.Addr, error) {
	var found netip.Addr
	used := 0
	set.next(s.last(n), func(a netip.Addr, _ span) bool {
		if s.free(a) {
			found = a
			return false
		}
		used++
		return true
	})
	if !found.IsValid() {
		return found, &exhaustedError{set: set, used: used}
	}
	return found, nil
}

// exhaustedError says that every address of a set is in use.
type exhaustedError struct {
	set  spanSet
	used int
}

func (e *exhaustedError) Error() string {
	return fmt.Sprintf("no free address in %s: all %d are in use", e.set, e.used)
}

// ExitCode is exit.TryAgain: pods end.
func (e *exhaustedError) ExitCode() exit.Code { return exit.TryAgain }
