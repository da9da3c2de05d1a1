package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sweep removes the temporary files in dir whose writers were killed before they could rename them. A
// missing directory is no error.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep %q: %w", dir, err)
	}
	for _, e := range entries {
		base, temporary := strings.CutSuffix(e.Name(), ".tmp")
		pid, perr := strconv.Atoi(strings.TrimPrefix(filepath.Ext(base), "."))
		if !temporary || !strings.HasPrefix(base, ".") || perr != nil || pid <= 0 || alive(pid) {
			continue
		}
		if _, rerr := Remove(filepath.Join(dir, e.Name())); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

func alive(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return !errors.Is(err, fs.ErrNotExist)
}
