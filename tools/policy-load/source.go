package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// maxFile is the largest file of a policy that is read, bytes: a set of a million addresses with comments.
const maxFile = 128 << 20

// policy is a whole ruleset.
type policy struct {
	manifest   *ruleset.Manifest
	generation string
	objects    []*object // in the manifest's order
}

// align finds for each of two lists, most of which is the same and in the same order, what stands in the other under
// the same path: for each of b its place in a, or -1; gone are the places in a of those that are not in b.
func align[A, B any](a []A, b []B, pathA func(A) string, pathB func(B) string) (at, gone []int) {
	at = make([]int, len(b))
	var left map[string]int // places in b that nothing was found for
	i := 0
	for j := range b {
		path := pathB(b[j])
		at[j] = -1
		for k := i; k < len(a) && k < i+lookAhead; k++ {
			if pathA(a[k]) == path {
				for ; i < k; i++ {
					gone = append(gone, i)
				}
				at[j] = i
				i++
				break
			}
		}
		if at[j] < 0 {
			if left == nil {
				left = map[string]int{}
			}
			left[path] = j
		}
	}
	for ; i < len(a); i++ {
		gone = append(gone, i)
	}
	if left == nil {
		return at, gone
	}
	gone = slices.DeleteFunc(gone, func(i int) bool {
		j, moved := left[pathA(a[i])]
		if moved {
			at[j] = i
		}
		return moved
	})
	return at, gone
}

// lookAhead is how many neighbours that went align takes in its stride.
const lookAhead = 8

func entryPath(e ruleset.Entry) string { return e.Path }
func objectPath(o *object) string      { return o.path }

// readPolicy reads policy.nft and those of its files that have does not hold. A file that is not the one that
// policy.nft names is exit.TryAgain: policy-render is at work, and a newer policy.nft comes last.
func readPolicy(dir state.Dir, have *policy) (*policy, error) {
	path := dir.PolicyNFT()
	data, err := state.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, exit.WithHint(err, "policy-render writes it")
	}
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(dir.Policy())
	if err != nil {
		return nil, exit.Errorf(exit.TryAgain, "find %q: %w", dir.Policy(), err)
	}
	m, err := ruleset.ParseManifest(root, data)
	if err != nil {
		return nil, &state.Error{Path: path, Err: err}
	}
	p := &policy{manifest: m, generation: m.Generation()}
	var old []*object
	if have != nil {
		if old = have.objects; have.generation == p.generation {
			p.objects = old
			return p, nil
		}
	}
	at, _ := align(old, m.Entries, objectPath, entryPath)
	p.objects = make([]*object, len(m.Entries))
	for i, e := range m.Entries {
		if at[i] >= 0 && old[at[i]].digest == e.Digest {
			p.objects[i] = old[at[i]]
		} else if p.objects[i], err = readObject(filepath.Join(root, e.Path), e); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// torn is a policy.nft that names other files than there are.
type torn struct{ err error }

func (t *torn) Error() string       { return t.err.Error() }
func (t *torn) Unwrap() error       { return t.err }
func (t *torn) ExitCode() exit.Code { return exit.TryAgain }

func readObject(path string, e ruleset.Entry) (*object, error) {
	data, err := state.ReadFile(path, maxFile)
	var bad *state.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, exit.WithHint(&torn{err}, "policy-render writes it, and policy.nft after it")
	case err != nil && !errors.As(err, &bad):
		return nil, err
	case err != nil || ruleset.Digest(data) != e.Digest:
		return nil, exit.WithHint(&torn{fmt.Errorf("read %q: not the file that policy.nft names", path)},
			"policy-render writes policy.nft last; if it does not run, start it")
	}
	o, err := scan(e.Family(), e.Digest, data)
	if err == nil && o.Path() != e.Path {
		err = exit.Errorf(exit.BadInput, "it holds %s", o.ID)
	}
	if err != nil {
		return nil, &state.Error{Path: path, Err: err}
	}
	o.path = e.Path
	return o, nil
}
