package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contents gives files a digest of their bytes. A file whose inode, size and times are those of the
// last look is not read again, so that looking at everything every period costs a few system calls.
type contents struct {
	known map[string]digest
}

type digest struct {
	stamp stamp
	taken time.Time
	sum   string
}

type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// tick is how far apart two writes must be for the file's times to tell them apart: the kernel stamps
// files with a clock that moves once a jiffy, 10 ms at the slowest.
const tick = 50 * time.Millisecond

// sums returns the digest of each file by path; a path that ends in a slash is a directory, whose
// digest covers its entries, not what is below them. A missing file has the digest "".
func (c *contents) sums(paths []string) map[string]string {
	out := make(map[string]string, len(paths))
	for _, path := range paths {
		if strings.HasSuffix(path, "/") {
			out[path] = c.directory(path)
		} else {
			out[path] = c.file(path)
		}
	}
	return out
}

func (c *contents) directory(path string) string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return ""
	}
	h := sha256.New()
	for _, e := range entries {
		if name := e.Name(); !temporary(name) {
			fmt.Fprintf(h, "%q %s\n", name, c.file(filepath.Join(path, name)))
		}
	}
	maps.DeleteFunc(c.known, func(known string, _ digest) bool {
		_, found := slices.BinarySearchFunc(entries, filepath.Base(known), func(e fs.DirEntry, name string) int {
			return strings.Compare(e.Name(), name)
		})
		return filepath.Dir(known) == filepath.Clean(path) && !found
	})
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// temporary says whether a name is that of a file still being written.
func temporary(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp")
}

func (c *contents) file(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		delete(c.known, path)
		return ""
	}
	if !info.Mode().IsRegular() { // never opened: reading a pipe or a device has effects
		return info.Mode().Type().String()
	}
	s := stampOf(info)
	if d, ok := c.known[path]; ok && d.stamp == s && d.taken.Sub(info.ModTime()) > tick {
		return d.sum
	}
	now := time.Now()
	sum, err := read(path)
	if err != nil {
		delete(c.known, path)
		return "unreadable: " + err.Error()
	}
	if c.known == nil {
		c.known = map[string]digest{}
	}
	c.known[path] = digest{stamp: s, taken: now, sum: sum}
	return sum
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.mtime, s.ctime = st.Dev, st.Ino, st.Mtim, st.Ctim
	}
	return s
}

func read(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// changed is the names of the files whose digests differ.
func changed(before, now map[string]string) []string {
	var out []string
	for path, sum := range now {
		if before[path] != sum {
			out = append(out, filepath.Base(path))
		}
	}
	slices.Sort(out)
	return out
}

// fold is one digest of many.
func fold(sums map[string]string) string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(h, "%q %s\n", path, sums[path])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Digest is a digest of what files of a stage hold; a missing one counts too.
func Digest(runDir string, names []string) string {
	c := contents{known: map[string]digest{}}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = pathOf(runDir, name)
	}
	h := sha256.New()
	sums := c.sums(paths)
	for _, path := range paths {
		fmt.Fprintf(h, "%q %s\n", path, sums[path])
	}
	return hex.EncodeToString(h.Sum(nil))
}
