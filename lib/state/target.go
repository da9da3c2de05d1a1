package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/towpath/towpath/lib/exit"
)

// holds says whether path is a regular file of these bytes, which nobody else may read where mode says so. Others
// are not read: that would wait for a FIFO's writer.
func holds(path string, data []byte, mode fs.FileMode) bool {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(data)) || isPrivate(mode) && !isPrivate(st.Mode()) {
		return false
	}
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, data)
}

// isPrivate says that nobody but the owner has any right to a file.
func isPrivate(mode fs.FileMode) bool { return mode.Perm()&0o077 == 0 }

// maxLinks is how many symbolic links the kernel follows.
const maxLinks = 40

// targetOf is the file to replace where path is to be written: path, or what its symbolic links lead to, which
// need not be there.
func targetOf(path string) (string, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return "", exit.WithHint(exit.Errorf(exit.BadInput, "it is %s, not a regular file", kindOf(st.Mode())), "name a file; what is there stays as it is")
	}
	for range maxLinks {
		to, err := os.Readlink(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) { // not there, or no link
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path)) // ".." counts from there
			if err != nil {
				return "", err
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", fmt.Errorf("more than %d symbolic links", maxLinks)
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeDevice != 0:
		return "a device"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}
