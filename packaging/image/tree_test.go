package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestTar: a layer is sorted, complete, and root's; directories come before what is in them.
func TestTar(t *testing.T) {
	make1 := func(order []string) []byte {
		files := tree{}
		for _, name := range order {
			files.add(name, 0o755, []byte("text of "+name))
		}
		files.link("usr/bin/z", "/etc/a")
		data, err := files.tar()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	one := make1([]string{"usr/bin/b", "etc/a", "usr/lib/x/y"})
	if two := make1([]string{"usr/lib/x/y", "usr/bin/b", "etc/a"}); !bytes.Equal(one, two) {
		t.Error("the order in which files were added shows")
	}
	if len(one)%512 != 0 || !bytes.HasSuffix(one, make([]byte, 1024)) {
		t.Error("the end of the archive is missing")
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(one)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(epoch) {
			t.Errorf("%s: %d:%d, %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
	}
	if got, want := strings.Join(names, " "), "etc/ etc/a usr/ usr/bin/ usr/bin/b usr/bin/z usr/lib/ usr/lib/x/ usr/lib/x/y"; got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
}

func TestResolve(t *testing.T) {
	files := tree{}
	files.add("usr/lib/libx.so.1.2", 0o644, []byte("x"))
	files.link("usr/lib/libx.so.1", "libx.so.1.2")
	files.link("lib64/ld.so", "/usr/lib/libx.so.1")
	files.link("a", "b")
	files.link("b", "a")
	if at, f, ok := files.resolve("lib64/ld.so"); !ok || at != "usr/lib/libx.so.1.2" || string(f.data) != "x" {
		t.Errorf("%q %q %v", at, f.data, ok)
	}
	for _, name := range []string{"a", "none"} {
		if _, _, ok := files.resolve(name); ok {
			t.Errorf("%s leads somewhere", name)
		}
	}
}

// TestTakeFails: what cannot be had is an error that names it, not an image without it.
func TestTakeFails(t *testing.T) {
	all := tree{}
	all.link("usr/sbin/nft", "nft.real")
	if err := take(all, tree{}, "usr/sbin/nft"); err == nil || !strings.Contains(err.Error(), "usr/sbin/nft.real is in none of Debian's packages") {
		t.Error(err)
	}
	all.add("usr/sbin/nft.real", 0o755, []byte("no program"))
	if err := take(all, tree{}, "usr/sbin/nft"); err == nil || !strings.Contains(err.Error(), "read usr/sbin/nft.real") {
		t.Error(err)
	}
	if err := isStatic([]byte("#!/bin/sh\n"), "amd64"); err == nil {
		t.Error("a script passes for a program")
	}
}
