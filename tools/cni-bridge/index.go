package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// record is the content of an index file: what one attachment (a container's interface) has. The
// index file is made before anything else of an attachment and removed after all of it, so that a
// process killed at any step leaves nothing that a retry or GC does not find.
type record struct {
	BootID string       `json:"bootID"`          // of the boot in which it was made
	Netns  string       `json:"netns,omitempty"` // path; empty where host-local made the reservation
	IPs    []netip.Addr `json:"ips"`             // reserved, or about to be: each address file has the last word
}

// attachment is an open index file. Its flock is held from the first to the last step of an ADD, DEL
// or clean-up of the attachment, so that two of them never work on one at once; its content is read
// and written only while the store is locked.
type attachment struct {
	holder
	store *store
	file  *os.File
}

// attach opens the index file, made if it is missing, and waits for whoever works on the attachment.
func (s *store) attach(h holder) (*attachment, error) {
	a, err := s.openEntry(h, os.O_RDWR|os.O_CREATE, unix.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(s.index, 0o700); err != nil {
			return nil, err
		}
		a, err = s.openEntry(h, os.O_RDWR|os.O_CREATE, unix.LOCK_EX)
	}
	return a, err
}

// lookUp opens the index file of an attachment, also one that another host-local made; nil when there
// is none. With how LOCK_EX|LOCK_NB an attachment that is being worked on is unix.EWOULDBLOCK.
func (s *store) lookUp(h holder, how int) (*attachment, error) {
	for try := range 2 {
		for _, key := range []holder{h, {Container: h.Container}} {
			a, err := s.openEntry(key, os.O_RDWR, how)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return a, err
			}
		}
		if _, err := os.Stat(s.dir); try > 0 || s.current() || errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := s.locked(func() error { return nil }); err != nil {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // nothing is known of the attachment: an answer, no error
}

func (s *store) openEntry(h holder, flags, how int) (*attachment, error) {
	path := filepath.Join(s.index, h.file())
	for {
		f, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f, how); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		// Whoever held it may have removed the file.
		mine, err := f.Stat()
		there, gone := os.Stat(path)
		if err == nil && gone == nil && os.SameFile(mine, there) {
			return &attachment{holder: h, store: s, file: f}, nil
		}
		f.Close()
	}
}

func (a *attachment) close() { a.file.Close() }

// remove forgets the attachment. Its addresses must have been released.
func (a *attachment) remove() error {
	return os.Remove(filepath.Join(a.store.index, a.holder.file()))
}

// read is the record; the zero record for a file that is new or torn. Call it locked.
func (a *attachment) read() record {
	var r record
	data, err := io.ReadAll(io.NewSectionReader(a.file, 0, 1<<16))
	if err != nil || json.Unmarshal(data, &r) != nil {
		return record{}
	}
	return r
}

// write replaces the record in place: a rename would leave the lock on the old file. Call it locked.
func (a *attachment) write(r record) error {
	data, err := json.Marshal(r)
	if err == nil {
		_, err = a.file.WriteAt(data, 0)
	}
	if err == nil {
		err = a.file.Truncate(int64(len(data)))
	}
	if err != nil {
		return fmt.Errorf("write index of %s: %w", a.holder.file(), err)
	}
	return nil
}

// addresses are those the attachment really holds. Call it locked.
func (a *attachment) addresses() []netip.Addr {
	return slices.DeleteFunc(a.read().IPs, func(ip netip.Addr) bool { return !a.store.holds(a.holder, ip) })
}

// releaseAll frees what the attachment holds and forgets it.
func (a *attachment) releaseAll() error {
	return a.store.locked(func() error {
		if err := a.store.release(a.holder, a.read().IPs); err != nil {
			return err
		}
		return a.remove()
	})
}

func (s *store) stampPath() string { return filepath.Join(s.index, ".stamp") }

// current says whether the directory is as we left it. Every file made or removed there changes its
// mtime. (A change by another program within the same tick of a coarse clock is missed; the
// reservation is then found at the next change, or by GC.)
func (s *store) current() bool {
	var dir, stamp unix.Stat_t
	return unix.Stat(s.dir, &dir) == nil && unix.Stat(s.stampPath(), &stamp) == nil && dir.Mtim == stamp.Mtim
}

// stamp notes that the index is up to date. Call it locked.
func (s *store) stamp() error {
	var dir unix.Stat_t
	if err := unix.Stat(s.dir, &dir); err != nil {
		return fmt.Errorf("stamp index of %q: %w", s.dir, err)
	}
	times := []unix.Timespec{dir.Mtim, dir.Mtim}
	err := unix.UtimesNanoAt(unix.AT_FDCWD, s.stampPath(), times, 0)
	if errors.Is(err, unix.ENOENT) {
		if err = errors.Join(os.MkdirAll(s.index, 0o700), os.WriteFile(s.stampPath(), nil, 0o600)); err == nil {
			err = unix.UtimesNanoAt(unix.AT_FDCWD, s.stampPath(), times, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("stamp index of %q: %w", s.dir, err)
	}
	return nil
}

// catchUp enters what another program reserved since we left, or all of it the first time. Call it
// locked. Entries for addresses that were released meanwhile do no harm.
func (s *store) catchUp() error {
	if s.current() {
		return nil
	}
	held := map[holder][]netip.Addr{}
	err := s.reservations(func(ip netip.Addr, h holder) { held[h] = append(held[h], ip) })
	for h, ips := range held {
		err = errors.Join(err, s.enter(h, ips))
	}
	return err
}

// enter adds addresses to the index. An attachment that is being worked on keeps its lock: its record
// belongs to who has the store locked, and that is us.
func (s *store) enter(h holder, ips []netip.Addr) error {
	if err := os.MkdirAll(s.index, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.index, h.file()), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("index %s: %w", h.file(), err)
	}
	defer f.Close()
	a := &attachment{holder: h, store: s, file: f}
	r := a.read()
	missing := slices.DeleteFunc(ips, func(ip netip.Addr) bool { return slices.Contains(r.IPs, ip) })
	if len(missing) == 0 {
		return nil
	}
	if r.BootID == "" {
		r.BootID = s.bootID
	}
	r.IPs = append(r.IPs, missing...)
	return a.write(r)
}

// reservations calls f for every address in use. Files without content are passed over.
func (s *store) reservations(f func(netip.Addr, holder)) error {
	names, err := readNames(s.dir)
	for _, name := range names {
		ip, notIP := netip.ParseAddr(name)
		if notIP != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			continue // released by hand meanwhile
		}
		if h := holderOfContent(string(data)); h.Container != "" && filepath.Base(h.file()) == h.file() {
			f(ip, h)
		}
	}
	return err
}

// attachments lists everything that has an index file.
func (s *store) attachments() ([]holder, error) {
	names, err := readNames(s.index)
	var all []holder
	for _, name := range names {
		if h, ok := holderOfFile(name); ok {
			all = append(all, h)
		}
	}
	return all, err
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", dir, err)
	}
	return names, nil
}
