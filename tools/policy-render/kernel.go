package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// kernelDiff is what policy-load would change, as nft commands. What the kernel holds is known from the files
// where policy.loaded.json and the kernel's generation prove that nobody changed a rule since; else the tables are listed.
func kernelDiff(ctx context.Context, dir state.Dir, o output) ([]string, error) {
	want, err := o.objects()
	if err != nil {
		return nil, err
	}
	have, proved, err := loadedObjects(dir)
	if err != nil {
		return nil, err
	}
	if proved {
		return diffObjects(have, want), nil
	}
	return diffListed(ctx, o, want)
}

// objects are the objects of the output, in the order of the manifest.
func (o output) objects() ([]*ruleset.Object, error) {
	var out []*ruleset.Object
	for _, e := range o.manifest.Entries {
		object, err := ruleset.Parse(e.Family(), o.files[e.Path])
		if err != nil {
			return nil, &state.Error{Path: filepath.Join(o.dir.Policy(), e.Path), Err: err}
		}
		out = append(out, object)
	}
	return out, nil
}

// loadedObjects are the objects of the files that the kernel is proved to hold.
func loadedObjects(dir state.Dir) ([]*ruleset.Object, bool, error) {
	l, err := state.Load[state.PolicyLoaded](dir.PolicyLoaded())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	kernel, err := nl.NFTGeneration()
	if err != nil {
		return nil, false, err
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var ns syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		return nil, false, err
	}
	if l.Kernel != kernel || l.Boot != strings.TrimSpace(string(boot)) || l.Netns != ns.Ino {
		return nil, false, nil
	}
	text, err := os.ReadFile(dir.PolicyNFT())
	if err != nil {
		return nil, false, nil //nolint:nilerr // the files are not what is loaded; the kernel is asked
	}
	at, err := policyDir(dir)
	if err != nil {
		return nil, false, err
	}
	m, err := ruleset.ParseManifest(at, text)
	if err != nil || m.Generation() != l.Generation {
		return nil, false, nil //nolint:nilerr // as above
	}
	var out []*ruleset.Object
	for _, e := range m.Entries {
		text, err := os.ReadFile(filepath.Join(dir.Policy(), e.Path))
		if err != nil || ruleset.Digest(text) != e.Digest {
			return nil, false, nil //nolint:nilerr // as above
		}
		object, err := ruleset.Parse(e.Family(), text)
		if err != nil {
			return nil, false, nil //nolint:nilerr // as above
		}
		out = append(out, object)
	}
	return out, true, nil
}

// diffListed compares what nft lists with what it would list after the load, which is tried in a namespace of its own.
// Objects that differ are printed as a whole.
func diffListed(ctx context.Context, o output, want []*ruleset.Object) ([]string, error) {
	have, err := listing(ctx)
	if err != nil {
		return nil, err
	}
	var target map[ruleset.ID]string
	if len(have) > 0 {
		err = nl.Scratch(func() error {
			if err := nft.Load(ctx, string(o.script())); err != nil {
				return err
			}
			target, err = listing(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var old []*ruleset.Object
	known := map[ruleset.ID]bool{}
	for _, object := range want {
		known[object.ID] = true
		listed, there := have[object.ID]
		switch {
		case !there:
		case listed == target[object.ID]:
			old = append(old, object)
		default:
			old = append(old, &ruleset.Object{ID: object.ID, Head: object.Head, Lines: []string{unknown}})
		}
	}
	for id := range have {
		if !known[id] {
			old = append(old, &ruleset.Object{ID: id})
		}
	}
	return diffObjects(old, want), nil
}

// listing is nft's listing of both tables by object; nothing where there are none.
func listing(ctx context.Context) (map[ruleset.ID]string, error) {
	out := map[ruleset.ID]string{}
	for _, family := range ruleset.Families {
		there, err := nl.NFTTable(family, ruleset.Table)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		text, err := nft.List(ctx, family, ruleset.Table)
		if err != nil {
			return nil, err
		}
		var id ruleset.ID
		for line := range strings.Lines(text) {
			if head, ok := strings.CutPrefix(line, "\t"); ok && !strings.HasPrefix(head, "\t") {
				if f := strings.Fields(head); len(f) == 3 && f[2] == "{" {
					id = ruleset.ID{Family: family, Kind: ruleset.Kind(f[0]), Name: f[1]}
				}
			}
			if id.Name != "" && id.Family == family {
				out[id] += line
			}
		}
	}
	return out, nil
}
