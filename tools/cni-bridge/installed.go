package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// recordName is the file beside the installed plugins that says which are ours, as sha256sum writes and checks it:
// DIGEST, two spaces, NAME.
const recordName = ".towpath.sha256"

// installed is the digests that each plugin of ours may have.
type installed map[string][]string

func (r installed) add(name, sum string) {
	if !slices.Contains(r[name], sum) {
		r[name] = append(r[name], sum)
	}
}

func (r installed) clone() installed {
	c := installed{}
	for name, sums := range r {
		c[name] = slices.Clone(sums)
	}
	return c
}

func (r installed) render() []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r)) {
		for _, sum := range slices.Sorted(slices.Values(r[name])) {
			fmt.Fprintf(&b, "%s  %s\n", sum, name)
		}
	}
	return []byte(b.String())
}

func loadInstalled(path string) (installed, error) {
	data, err := state.ReadFile(path, state.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return installed{}, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := parseInstalled(data)
	if err != nil {
		return nil, exit.WithHint(&state.Error{Path: path, Err: err}, "remove the file: the plugins that it names then stay when towpath is removed")
	}
	return r, nil
}

func parseInstalled(data []byte) (installed, error) {
	r := installed{}
	if len(data) == 0 {
		return r, nil
	}
	for n, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		sum, name, ok := strings.Cut(line, "  ")
		if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != 32 || strings.ToLower(sum) != sum {
			return nil, fmt.Errorf("line %d: %q is not DIGEST, two spaces, NAME", n+1, line)
		}
		if name == "" || name == "." || name == ".." || name != filepath.Base(name) || strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("line %d: %q is no file's name", n+1, name)
		}
		r.add(name, sum)
	}
	return r, nil
}
