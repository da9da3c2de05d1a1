package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/render"
)

// output is what is to be on disk.
type output struct {
	dir      state.Dir
	manifest *ruleset.Manifest
	files    map[string][]byte // policy/ by path below it
}

// outputOf gathers a whole rendering.
func outputOf(dir state.Dir, m *ruleset.Manifest, c render.Changes) output {
	o := output{dir: dir, manifest: m, files: map[string][]byte{}}
	for path, text := range c.Texts {
		o.files[path] = text
	}
	for name, text := range c.Names {
		if len(text) > 0 {
			o.files[filepath.Join("pods", name)] = text
		}
	}
	return o
}

// script is the whole ruleset as one text for nft -f.
func (o output) script() []byte {
	var b bytes.Buffer
	b.WriteString("# policy of node " + o.manifest.Node + "\n# generation " + o.manifest.Generation() + "\n" + ruleset.Clear())
	block := ""
	for _, e := range o.manifest.Entries {
		b.WriteString(ruleset.Block(block, e.Family()))
		block = e.Family()
		b.Write(o.files[e.Path])
	}
	b.WriteString(ruleset.Block(block, ""))
	return b.Bytes()
}

// ops brings the disk there: files, policy.nft, and then what is left over. Whoever reads files of the old
// policy.nft meanwhile sees by their digests that a new one is coming.
func (o output) ops() ([]plan.Op, error) {
	var ops []plan.Op
	add := func(op plan.Op) {
		if op != nil {
			ops = append(ops, op)
		}
	}
	at, err := policyDir(o.dir)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(o.files)) {
		add(state.WriteBytesOp(filepath.Join(o.dir.Policy(), path), o.files[path]))
	}
	add(state.WriteBytesOp(o.dir.PolicyNFT(), o.manifest.Text(at)))
	left, err := leftovers(o.dir, func(path string) bool { _, ok := o.files[path]; return ok })
	for _, path := range left {
		add(state.RemoveOp(path))
	}
	return ops, err
}

// policyDir is the absolute path that policy.nft includes files by.
func policyDir(dir state.Dir) (string, error) { return filepath.Abs(dir.Policy()) }

// leftovers are the files below policy/ that nothing names, sorted.
func leftovers(dir state.Dir, named func(path string) bool) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir.Policy(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if below, _ := filepath.Rel(dir.Policy(), path); !named(below) {
			out = append(out, path)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return out, err
}

// downOps removes what is there. The kernel's tables stay: no rule must go because a program ends.
func downOps(dir state.Dir) ([]plan.Op, error) {
	var ops []plan.Op
	if op := state.RemoveOp(dir.PolicyNFT()); op != nil {
		ops = append(ops, op)
	}
	if _, err := os.Lstat(dir.Policy()); errors.Is(err, fs.ErrNotExist) {
		return ops, nil
	}
	return append(ops, plan.Func{Text: "remove " + dir.Policy() + "/", Run: func(context.Context) error {
		return os.RemoveAll(dir.Policy())
	}}), nil
}
