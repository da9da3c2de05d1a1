package process

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxStored is how many descriptors a stage may store.
const MaxStored = 16

// firstFD is the number of the first descriptor that a process is given (SD_LISTEN_FDS_START).
const firstFD = 3

// Store is the descriptors that the processes of one stage left for their next run, by systemd's
// protocol (sd_pid_notify_with_fds): what waits in a socket or a TUN queue is not lost meanwhile. Of a
// name there is one; the newer takes the older's place. They are bare numbers: an os.File would be
// polled by the runtime, which would wake the supervisor for every packet.
type Store struct {
	mu   sync.Mutex
	kept []stored
}

type stored struct {
	name string
	fd   int
}

// take does what a message says of the descriptors that came with it, and closes those that are not kept.
func (s *Store) take(m Message, fds []int) error {
	if s == nil { // nobody keeps them
		closeAll(fds)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Forget {
		s.remove(m.Name)
	}
	if !m.Store {
		closeAll(fds)
		return nil
	}
	if len(fds) > 0 {
		s.remove(m.Name)
	}
	for i, fd := range fds {
		if len(s.kept) == MaxStored {
			closeAll(fds[i:])
			return fmt.Errorf("store descriptor %q: %d are stored already", m.Name, MaxStored)
		}
		s.kept = append(s.kept, stored{m.Name, fd})
	}
	return nil
}

func (s *Store) remove(name string) {
	var rest []stored
	for _, k := range s.kept {
		if k.name == name {
			unix.Close(k.fd) //nolint:errcheck // nothing was written to it here
			continue
		}
		rest = append(rest, k)
	}
	s.kept = rest
}

// Clear closes what is stored.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		unix.Close(k.fd) //nolint:errcheck // nothing was written to it here
	}
	s.kept = nil
}

// hand gives copies of what is stored for a process to start with, and the variables that tell it of
// them. LISTEN_PID is missing, since the number is not known before the process runs: see lib/keep.
func (s *Store) hand() (files []*os.File, env []string, err error) {
	if s == nil {
		return nil, nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, k := range s.kept {
		fd, err := unix.FcntlInt(uintptr(k.fd), unix.F_DUPFD_CLOEXEC, firstFD)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, nil, fmt.Errorf("hand over descriptor %q: %w", k.name, err)
		}
		files, names = append(files, os.NewFile(uintptr(fd), k.name)), append(names, k.name)
	}
	if len(files) == 0 {
		return nil, nil, nil
	}
	return files, []string{fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd) //nolint:errcheck // nothing was written to it here
	}
}
