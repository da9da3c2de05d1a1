package objects

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// A file that is rewritten in place is cut off for as long as that takes, and the beginning of a policy, or of a file
// of policies, is often a good one that allows more. So nothing is taken of a file that somebody has open for
// writing, nor of one that was rewritten in place a moment ago, since a writer may open it again and again. A finished
// file that was renamed into place is taken at once: it is another inode.
const (
	quietFor = 300 * time.Millisecond
	// lookAgain is how soon a file that is held is looked at again: the kernel tells of writing, not of closing.
	lookAgain = 25 * time.Millisecond
	// openTooLong is when a file that stays open for writing is a fault to be told.
	openTooLong = 5 * time.Second
)

// hold is why and since when a changed file is not read.
type hold struct {
	on      bool // until it is read
	since   time.Time
	changed time.Time // when it was seen in another state last
	seen    identity
}

// holds says whether the file, now of this identity, may still be being written. What it held stays as long.
func (f *file) holds(name string, now identity) bool {
	h := &f.hold
	if !h.on {
		*h = hold{on: true, since: time.Now(), changed: time.Now(), seen: now}
	} else if h.seen != now {
		h.seen, h.changed = now, time.Now()
	}
	if !openForWriting(name) {
		return f.inPlace(now) && !h.quiet()
	}
	if time.Since(h.since) > openTooLong {
		f.fault = exit.WithHint(exit.Errorf(exit.BadInput, "read %q: a program has it open for writing, what it held stays in force", name),
			"end that program (fuser -v shows it); replace files by renaming a finished one over them")
	}
	return true
}

// holding says whether files are held: they are to be looked at again soon.
func (t *tracker) holding() bool {
	for _, f := range t.files {
		if f.hold.on {
			return true
		}
	}
	return false
}

// release says whether a file that is held can be read now, or became a fault.
func (t *tracker) release() bool {
	for name, f := range t.files {
		fault := f.fault
		if f.hold.on && (!f.holds(name, identify(name)) || f.fault != nil && fault == nil) {
			return true
		}
	}
	return false
}

// inPlace says whether the inode that was read last was written since.
func (f *file) inPlace(now identity) bool {
	return f.identity.ino == now.ino && f.identity.dev == now.dev && f.identity != now && now != identity{}
}

// quiet goes by the file's own time, and where that is ahead of the clock by how long it was seen unchanged.
func (h *hold) quiet() bool {
	return time.Since(time.Unix(h.seen.mtime.Unix())) >= quietFor && time.Since(time.Unix(h.seen.ctime.Unix())) >= quietFor ||
		time.Since(h.changed) >= quietFor
}

// openForWriting asks for a lease that the kernel grants only while nobody has the file open for writing, and gives it
// back. Where the file system or missing rights allow no lease, the answer is no.
func openForWriting(name string) bool {
	if st, err := os.Stat(name); err != nil || !st.Mode().IsRegular() {
		return false
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err == nil {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}
