package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Held says whether somebody holds the lock at path, and what the holder wrote. It takes the lock
// shared for an instant, which Try outlasts.
func Held(path string) (holder string, held bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("lock %q: %w", path, errors.Unwrap(err))
	}
	defer f.Close()
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return "", false, nil
	case !errors.Is(err, unix.EWOULDBLOCK):
		return "", false, fmt.Errorf("lock %q: %w", path, err)
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), true, err
}

// Say replaces what the lock's file says the holder does.
func (l *Lock) Say(what string) error {
	text := fmt.Sprintf("%d %s\n", os.Getpid(), what)
	_, err := l.f.WriteAt([]byte(text), 0)
	return errors.Join(err, l.f.Truncate(int64(len(text))))
}
