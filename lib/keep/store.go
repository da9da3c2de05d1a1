package keep

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstFD is the number of the first descriptor that a process is given (SD_LISTEN_FDS_START).
const firstFD = 3

// store is what this process was given by an earlier run of the program, and what it leaves for the next.
var store struct {
	sync.Mutex
	taken  bool
	given  []given
	left   []left
	known  []string // names that the supervisor holds something under
	socket socket   // of the supervisor that has what is left
}

type socket struct {
	dev, ino uint64
	made     unix.Timespec
}

type given struct {
	name string
	fd   int
}

type left struct {
	name string
	conn syscall.Conn
}

// Stored returns what an earlier run of this program left under a name, or nil. It is the caller's then: what cannot be
// used any longer is closed, and replaced or forgotten. Both `towpath supervise` and systemd (with FileDescriptorStoreMax=)
// keep it over the end of a process, however that ends; what waits in the socket or queue meanwhile is not lost.
func Stored(name string) *os.File {
	store.Lock()
	defer store.Unlock()
	take()
	for i, g := range store.given {
		if g.name == name {
			store.given = slices.Delete(store.given, i, i+1)
			return os.NewFile(uintptr(g.fd), name)
		}
	}
	return nil
}

// Take reads what the process was given, so that no program that it starts takes it for its own.
func Take() {
	store.Lock()
	defer store.Unlock()
	take()
}

// take believes in the variables where LISTEN_PID names this process, as systemd has it, or where there is no LISTEN_PID and
// this is the first process of a stage: towpath supervise does not know the number before the process runs, and makes it
// the leader of a group instead.
func take() {
	if store.taken {
		return
	}
	store.taken = true
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v) //nolint:errcheck // its name is right
	}
	self := os.Getpid()
	if pid != strconv.Itoa(self) && (pid != "" || os.Getenv("TOWPATH_STAGE") == "" || unix.Getpgrp() != self) {
		return
	}
	count, err := strconv.Atoi(fds)
	if err != nil || count != len(names) {
		return
	}
	for i, name := range names {
		if _, err := unix.FcntlInt(uintptr(firstFD+i), unix.F_SETFD, unix.FD_CLOEXEC); err == nil {
			store.given = append(store.given, given{name, firstFD + i})
			store.known = append(store.known, name)
		}
	}
}

// Store leaves a copy of a descriptor with the supervisor, for the next run of the program to find under the name, in the place of
// what was there. conn must stay open as long as it counts: it is handed over again to a supervisor that takes this one's place.
// Without a supervisor nothing happens.
func Store(name string, conn syscall.Conn) error {
	store.Lock()
	defer store.Unlock()
	take()
	if slices.Contains(store.known, name) { // systemd would keep both
		send("FDSTOREREMOVE=1\nFDNAME="+name, patience)
	} else {
		store.known = append(store.known, name)
	}
	store.left = append(slices.DeleteFunc(store.left, func(l left) bool { return l.name == name }), left{name, conn})
	now := socketNow()
	err := hand(name, conn, patience)
	if err == nil {
		store.socket = now // else the next message tries again
	}
	return err
}

// Forget closes the copies that the supervisor holds under a name.
func Forget(name string) {
	store.Lock()
	defer store.Unlock()
	take()
	store.left = slices.DeleteFunc(store.left, func(l left) bool { return l.name == name })
	store.known = slices.DeleteFunc(store.known, func(k string) bool { return k == name })
	send("FDSTOREREMOVE=1\nFDNAME="+name, patience)
}

// Supervisor is the files that tell by a change that another supervisor has taken the place of the one before. A program that
// stores something watches them: the next message to the new one hands everything over again.
func Supervisor() []string {
	if path := os.Getenv("NOTIFY_SOCKET"); strings.HasPrefix(path, "/") {
		return []string{path}
	}
	return nil
}

// handAgain hands everything over to a supervisor that has not had it yet; false: it does not read. One that is not there yet is tried
// with the next message.
func handAgain(limit time.Duration) bool {
	store.Lock()
	defer store.Unlock()
	now := socketNow()
	if len(store.left) == 0 || now == store.socket {
		return true
	}
	for _, l := range store.left {
		if err := hand(l.name, l.conn, limit); err != nil {
			return !errors.Is(err, unix.EAGAIN)
		}
	}
	store.socket = now
	return true
}

// socketNow tells one supervisor's socket from the next one's.
func socketNow() socket {
	var st unix.Stat_t
	if path := os.Getenv("NOTIFY_SOCKET"); strings.HasPrefix(path, "/") && unix.Stat(path, &st) == nil {
		return socket{uint64(st.Dev), st.Ino, st.Ctim}
	}
	return socket{}
}

// hand sends a copy of a descriptor; EAGAIN: the supervisor does not read. That there is nobody to have it is no error.
func hand(name string, conn syscall.Conn, limit time.Duration) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("store descriptor %q: %w", name, err)
	}
	to, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // net's would not write rights to where it is connected
	if err != nil {
		return fmt.Errorf("store descriptor %q: %w", name, err)
	}
	defer unix.Close(to) //nolint:errcheck // what was sent is sent
	wait := unix.NsecToTimeval(limit.Nanoseconds())
	if err := unix.SetsockoptTimeval(to, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
		return fmt.Errorf("store descriptor %q: %w", name, err)
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = unix.Sendmsg(to, []byte("FDSTORE=1\nFDNAME="+name), unix.UnixRights(int(fd)), &unix.SockaddrUnix{Name: path}, 0)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("store descriptor %q: %w", name, err)
	}
	return nil
}
