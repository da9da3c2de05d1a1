package watch

import (
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// scarce is how often to look while there is no inotify instance.
const scarce = time.Second

// entriesMax is how many entries a directory may have to be looked at one by one. In a larger one those that come, go or are
// renamed over are seen, by the directory's own times; what is written in place is seen once a period.
const entriesMax = 256

// stamp tells one state of a path from another.
type stamp struct {
	inode   uint64
	size    int64
	changed int64 // ns
}

// moved says whether anything watched is not as it was the last time, or may not be: two changes within one tick of the
// kernel's clock have one time.
func (w *watcher) moved(now time.Time) bool {
	seen := map[string]stamp{}
	recent := false
	look := func(path string) {
		info, err := os.Stat(path)
		if err != nil {
			return
		}
		sys := info.Sys().(*syscall.Stat_t)
		seen[path] = stamp{sys.Ino, sys.Size, sys.Ctim.Nano()}
		recent = recent || sys.Ctim.Nano() > now.Add(-2*scarce).UnixNano()
	}
	for _, files := range w.files {
		for _, path := range files {
			look(path)
		}
	}
	for dir := range w.dirs {
		look(dir)
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(entriesMax + 1)
		f.Close()
		if len(names) > entriesMax {
			continue
		}
		for _, name := range names {
			look(filepath.Join(dir, name))
		}
	}
	same := w.seen != nil && maps.Equal(seen, w.seen)
	w.seen = seen
	return recent || !same
}
