// Command cp is the cp of towpath's image, in which there is no other: flannel's manifests copy the CNI plugin and its
// configuration to the node with `cp -f SRC DST`, newer ones with `install-conf SRC DST`. DST is there whole or as it was before.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && (args[0] == "-f" || args[0] == "--force") {
		args = args[1:]
	}
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cp [-f] SRC DST, two files")
		os.Exit(64)
	}
	if err := replace(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "cp:", err)
		os.Exit(1)
	}
}

// replace makes dst a copy of src, with its permissions, in one rename.
func replace(src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", src)
	}
	if there, err := os.Stat(dst); err == nil && there.IsDir() {
		dst = filepath.Join(dst, filepath.Base(src)) // as cp does
	}
	// A name with a dot first and .tmp last is no configuration or plugin to a runtime that looks meanwhile.
	out, err := os.CreateTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(info.Mode().Perm()), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), dst)
}
