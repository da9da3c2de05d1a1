package main

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// epoch is the time of every file and of the image: the build's own would make each image another one.
var epoch = time.Unix(0, 0).UTC()

// tree is the files of a layer by path, without a leading slash. Directories follow from them.
type tree map[string]file

type file struct {
	mode fs.FileMode
	data []byte
	link string // of a symbolic link
}

func (t tree) add(name string, mode fs.FileMode, data []byte) { t[name] = file{mode: mode, data: data} }

func (t tree) link(name, to string) { t[name] = file{mode: 0o777, link: to} }

func (t tree) size() (bytes int) {
	for _, f := range t {
		bytes += len(f.data)
	}
	return bytes
}

// tar is the layer: sorted, everything root's, no times.
func (t tree) tar() ([]byte, error) {
	dirs := map[string]bool{}
	for name := range t {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(union(t, dirs))) {
		h := &tar.Header{Name: name, ModTime: epoch, Format: tar.FormatPAX}
		f, ok := t[name]
		switch {
		case !ok:
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, name+"/"
		case f.link != "":
			h.Typeflag, h.Mode, h.Linkname = tar.TypeSymlink, 0o777, f.link
		default:
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, int64(f.mode.Perm()), int64(len(f.data))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // it pads the last file, and says that the end is the end
		return nil, err
	}
	return b.Bytes(), nil
}

func union(t tree, dirs map[string]bool) map[string]bool {
	all := maps.Clone(dirs)
	for name := range t {
		all[name] = true
	}
	return all
}

// resolve follows symbolic links, also of directories on the way, and returns the file and its path.
func (t tree) resolve(name string) (string, file, bool) {
	for range 40 {
		f, ok := t[name]
		if !ok {
			return "", file{}, false
		}
		if f.link == "" {
			return name, f, true
		}
		if strings.HasPrefix(f.link, "/") {
			name = strings.TrimPrefix(path.Clean(f.link), "/")
		} else {
			name = path.Join(path.Dir(name), f.link)
		}
	}
	return "", file{}, false
}
