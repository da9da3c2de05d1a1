package main

import (
	"errors"
	"io/fs"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// place is where a generation of the kernel counts.
type place struct{ nl.Place }

func here() (place, error) {
	p, err := nl.Here()
	return place{p}, err
}

// record is policy.loaded.json for a ruleset that the kernel holds.
func (p place) record(loaded *policy, kernel uint32, refused string) state.PolicyLoaded {
	endpoints := loaded.manifest.Endpoints
	if endpoints == nil {
		endpoints = []string{}
	}
	return state.PolicyLoaded{
		Version: state.Version, Generation: loaded.generation, Kernel: kernel, Boot: p.Boot, Netns: p.Netns,
		Endpoints: endpoints, Refused: refused,
	}
}

// holds says whether a record tells that the kernel, at a generation of its own, holds a ruleset.
func (p place) holds(r state.PolicyLoaded, generation string, kernel uint32) bool {
	return r.Generation == generation && r.Kernel == kernel && r.Boot == p.Boot && r.Netns == p.Netns
}

// readRecord reads policy.loaded.json. One that is missing or cannot be used is as good as none: everything is
// loaded again, and the file is written anew.
func readRecord(dir state.Dir) (r state.PolicyLoaded, there bool, err error) {
	r, err = state.Load[state.PolicyLoaded](dir.PolicyLoaded())
	var bad *state.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, false, nil
	case errors.As(err, &bad):
		return state.PolicyLoaded{}, true, nil
	}
	return r, err == nil, err
}
