package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

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
	byPath     map[string]*object
}

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
	p := &policy{manifest: m, generation: m.Generation(), byPath: make(map[string]*object, len(m.Entries))}
	if have != nil && have.generation == p.generation {
		p.objects, p.byPath = have.objects, have.byPath
		return p, nil
	}
	p.objects = make([]*object, 0, len(m.Entries))
	for _, e := range m.Entries {
		var o *object
		if have != nil {
			o = have.byPath[e.Path]
		}
		if o == nil || o.digest != e.Digest {
			if o, err = readObject(filepath.Join(root, e.Path), e); err != nil {
				return nil, err
			}
		}
		if p.byPath[e.Path] != nil {
			return nil, &state.Error{Path: path, Err: exit.Errorf(exit.BadInput, "%q is there twice", e.Path)}
		}
		p.objects = append(p.objects, o)
		p.byPath[e.Path] = o
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
	o, err := scan(e.Digest, data)
	if err != nil {
		return nil, &state.Error{Path: path, Err: err}
	}
	return o, nil
}
