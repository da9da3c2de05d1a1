package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// place is where a generation of the kernel counts: in one boot, in one network namespace.
type place struct {
	boot  string
	netns uint64
}

func here() (place, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return place{}, exit.Errorf(exit.Refused, "read the boot id: %w", err)
	}
	st, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return place{}, exit.Errorf(exit.Refused, "read the network namespace: %w", err)
	}
	p := place{boot: strings.TrimSpace(string(boot))}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		p.netns = sys.Ino
	}
	return p, nil
}

// record is policy.loaded.json for a ruleset that the kernel holds.
func (p place) record(loaded *policy, kernel uint32, refused string) state.PolicyLoaded {
	endpoints := loaded.manifest.Endpoints
	if endpoints == nil {
		endpoints = []string{}
	}
	return state.PolicyLoaded{
		Version: state.Version, Generation: loaded.generation, Kernel: kernel, Boot: p.boot, Netns: p.netns,
		Endpoints: endpoints, Refused: refused,
	}
}

// holds says whether a record tells that the kernel, at a generation of its own, holds a ruleset.
func (p place) holds(r state.PolicyLoaded, generation string, kernel uint32) bool {
	return r.Generation == generation && r.Kernel == kernel && r.Boot == p.boot && r.Netns == p.netns
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
