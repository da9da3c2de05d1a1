package stage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// Suffix is what the name of a stage file ends in.
const Suffix = ".toml"

// Search is where stage files are: a later directory replaces or masks what an earlier one holds.
var Search = []string{"/usr/lib/towpath/stages.d", "/etc/towpath/stages.d"}

// Set is the stage files of a search path, by name.
type Set struct {
	Stages []*Stage
	Masked []string
	// Hidden are the masked stages whose file is still there, as they would be.
	Hidden []*Stage
}

// Load reads every stage file of dirs, of which later ones win. Every fault of every file is in the
// error. A directory of the usual search path may be missing, another may not; no stage at all is
// refused, since it is far likelier a wrong path than a wish.
func Load(dirs []string, look Lookup) (*Set, error) {
	files := map[string][]string{} // by name, those that win last
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) && slices.Contains(Search, dir) {
			continue
		}
		if err != nil {
			return nil, exit.Errorf(exit.BadConfig, "read stage files: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), Suffix) && !strings.HasPrefix(e.Name(), ".") {
				files[e.Name()] = append(files[e.Name()], filepath.Join(dir, e.Name()))
			}
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	set := &Set{}
	var errs []error
	for _, name := range names {
		s, masked, err := read(files[name][len(files[name])-1], look)
		switch {
		case err != nil:
			errs = append(errs, err)
		case masked:
			set.Masked = append(set.Masked, strings.TrimSuffix(name, Suffix))
			for _, path := range slices.Backward(files[name]) { // a fault in one of them hurts nobody
				if s, masked, err := read(path, look); err == nil && !masked {
					set.Hidden = append(set.Hidden, s)
					break
				}
			}
		default:
			set.Stages = append(set.Stages, s)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(set.Stages) == 0 {
		return nil, exit.WithHint(exit.Errorf(exit.BadConfig, "no stage file in %s", strings.Join(dirs, ", ")),
			"name the directory of the stage files with --stages DIR")
	}
	return set, nil
}

func read(path string, look Lookup) (s *Stage, masked bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, &state.Error{Path: path, Err: errors.Unwrap(err), Code: exit.BadConfig}
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(info, null) || info.Mode().IsRegular() && info.Size() == 0 {
		return nil, true, nil
	}
	data, err := state.ReadFile(path, MaxSize)
	if err != nil {
		var known *state.Error
		if errors.As(err, &known) {
			known.Code = exit.BadConfig
			return nil, false, known
		}
		return nil, false, exit.Errorf(exit.BadConfig, "%w", err)
	}
	s, err = Parse(path, data, look)
	return s, false, err
}
