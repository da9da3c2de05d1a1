// Package lock is an advisory lock on a file, released by the kernel when its holder ends, however
// it ends. The file holds the holder's process id and what it does, for people to read.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// Lock is a held lock.
type Lock struct{ f *os.File }

// HeldError says that another process holds the lock.
type HeldError struct {
	Path   string
	Holder string // what the holder wrote: "PID WHAT"; empty if it wrote nothing yet
}

func (e *HeldError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "unknown"
	}
	return fmt.Sprintf("lock %q: held by process %s", e.Path, holder)
}

// ExitCode is exit.TryAgain: the holder may end.
func (e *HeldError) ExitCode() exit.Code { return exit.TryAgain }

// soon is longer than Held takes the lock for.
const soon = 50 * time.Millisecond

// Try takes the lock at path (made with mode 0600 if missing, its directory 0755) or returns a
// *HeldError within a twentieth of a second.
func Try(path, what string) (*Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	return Wait(ctx, path, what)
}

// Wait takes the lock at path, waiting for its holder until ctx ends.
func Wait(ctx context.Context, path, what string) (*Lock, error) {
	delay := time.Millisecond
	for {
		l, err := take(path, what)
		var held *HeldError
		if err == nil || !errors.As(err, &held) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(delay):
		}
		delay = min(2*delay, 20*time.Millisecond)
	}
}

func take(path, what string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		f.Close()
		return nil, &HeldError{Path: path, Holder: strings.TrimSpace(string(holder))}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), what)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	return &Lock{f: f}, nil
}

// Release gives the lock back. The file stays: removing it would let two processes hold two files.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	err := l.f.Truncate(0)
	return errors.Join(err, l.f.Close())
}
