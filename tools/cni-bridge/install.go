package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

const pluginName = "cni-bridge"

// installation copies plugins from a directory, such as one of a container image, to the runtime's. What it copied
// is noted in a record there, so that it knows its own again: these it replaces and removes, others it leaves alone.
type installation struct {
	from, to string
	replace  bool
}

func (i installation) recordPath() string { return filepath.Join(i.to, recordName) }

// run does one verb of install.
func (i installation) run(ctx context.Context, verb string, show func(plan.Op)) error {
	list := i.plan
	if verb == "down" {
		list = i.down
	}
	if verb == "plan" {
		ops, err := list()
		for _, op := range ops {
			show(op)
		}
		return err
	}
	release, err := i.lock(verb)
	if err != nil || release == nil {
		return err
	}
	defer release()
	if err := i.sweep(); err != nil {
		return err
	}
	return keep.Settle(ctx, func(context.Context) ([]plan.Op, error) { return list() }, show)
}

// lock keeps a second installer out. Nothing to remove from a directory that is not there: then release is nil.
func (i installation) lock(verb string) (release func(), err error) {
	if verb != "down" {
		if err := os.MkdirAll(i.to, 0o755); err != nil {
			return nil, fmt.Errorf("make %q: %w", i.to, errors.Unwrap(err))
		}
	}
	fd, err := unix.Open(i.to, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) && verb == "down" {
		return nil, nil //nolint:nilnil // nothing is there, and nothing is to do
	}
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", i.to, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd) //nolint:errcheck // it was only read
		return nil, exit.Errorf(exit.TryAgain, "lock %q: %w", i.to, err)
	}
	return func() { unix.Close(fd) }, nil //nolint:errcheck // it was only read
}

// sweep removes what an installer that was killed left half written. State's own sweep goes by process ids, which say
// nothing from one container to the next; the lock says more.
func (i installation) sweep() error {
	left, err := filepath.Glob(filepath.Join(i.to, ".*.*.tmp"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if _, err := state.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// plan is what has to be copied. The record is written before, with what is there and what will be, and after, with
// what is there: whenever this is killed, no file of ours is unknown.
func (i installation) plan() ([]plan.Op, error) {
	rec, err := loadInstalled(i.recordPath())
	if err != nil {
		return nil, err
	}
	sources, err := i.sources()
	if err != nil {
		return nil, err
	}
	want, ahead := maps.Clone(rec), rec.clone()
	var copies []plan.Op
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		data := sources[name]
		to := filepath.Join(i.to, name)
		have, err := digestOf(to)
		if err != nil {
			return nil, err
		}
		sum := digest(data)
		foreign := have != "" && !slices.Contains(rec[name], have)
		switch {
		case have == sum && foreign && name != pluginName: // someone else's, and the same: it stays theirs
			continue
		case foreign && name != pluginName && !i.replace:
			continue
		}
		want[name] = []string{sum}
		ahead.add(name, sum)
		if have != sum {
			copies = append(copies, plan.Func{
				Text: fmt.Sprintf("install -m 755 %s %s", filepath.Join(i.from, name), to),
				Run: func(context.Context) error {
					if _, err := state.WriteFile(to, data, 0o755); err != nil {
						return err
					}
					return os.Chmod(to, 0o755) // also of one that had the bytes and not the mode
				},
			})
		}
	}
	var ops []plan.Op
	if len(copies) > 0 {
		if op := state.WriteBytesOp(i.recordPath(), ahead.render()); op != nil {
			ops = append(ops, op)
		}
	}
	ops = append(ops, copies...)
	if after := want.render(); len(copies) > 0 && !bytes.Equal(after, ahead.render()) || len(copies) == 0 && !bytes.Equal(after, rec.render()) {
		ops = append(ops, plan.Func{Text: "write " + i.recordPath(), Run: func(context.Context) error {
			_, err := state.WriteFile(i.recordPath(), after, 0o644)
			return err
		}})
	}
	return ops, nil
}

// down is the removal of what the record names and is still as it was copied.
func (i installation) down() ([]plan.Op, error) {
	rec, err := loadInstalled(i.recordPath())
	if err != nil {
		return nil, err
	}
	var ops []plan.Op
	for _, name := range slices.Sorted(maps.Keys(rec)) {
		path := filepath.Join(i.to, name)
		have, err := digestOf(path)
		if err != nil {
			return nil, err
		}
		if slices.Contains(rec[name], have) {
			ops = append(ops, state.RemoveOp(path))
		}
	}
	if op := state.RemoveOp(i.recordPath()); op != nil {
		ops = append(ops, op)
	}
	return ops, nil
}

// sources are the programs to install, by name.
func (i installation) sources() (map[string][]byte, error) {
	entries, err := os.ReadDir(i.from)
	if err != nil {
		return nil, exit.Errorf(exit.BadConfig, "read --from %q: %w", i.from, errors.Unwrap(err))
	}
	all := map[string][]byte{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("read --from %q: %w", i.from, err)
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if all[e.Name()], err = os.ReadFile(filepath.Join(i.from, e.Name())); err != nil {
			return nil, fmt.Errorf("read %q: %w", filepath.Join(i.from, e.Name()), errors.Unwrap(err))
		}
	}
	if all[pluginName] == nil {
		return nil, exit.WithHint(exit.Errorf(exit.BadConfig, "no program %s in --from %q", pluginName, i.from), "name the directory that holds the CNI plugins")
	}
	return all, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digestOf is the digest of a file; empty where there is none, or one that is no regular file's.
func digestOf(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at %q: %w", path, errors.Unwrap(err))
	}
	if !info.Mode().IsRegular() {
		return "no regular file", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %q: %w", path, errors.Unwrap(err))
	}
	if info.Mode()&0o111 == 0 {
		return "not executable", nil
	}
	return digest(data), nil
}
