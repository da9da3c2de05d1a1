package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
	"github.com/towpath/towpath/lib/tool"
)

// step is masq-sync's tool.Step and tool.Watched.
type step struct {
	options  options
	handBack bool
	machine  machine
	loaded   bool
	watching bool
	last     *want             // from the last lease that could be read
	warned   map[string]string // what was warned of, so that each is said once
}

func open(env *tool.Env) (tool.Step, error) {
	o, err := optionsOf(env.Bool("random-fully"), env.Bool("forward-rules"), env.String("bridge-nf"))
	if err != nil {
		return nil, err
	}
	sysctl.Root = env.String("sysctl-root")
	o.TakeOver = env.Bool("take-over")
	return &step{options: o, handBack: env.Bool("hand-back"), machine: machine{dir: env.RunDir, log: env.Log}, warned: map[string]string{}}, nil
}

// Plan compares the node with the lease.
func (s *step) Plan(ctx context.Context) ([]plan.Op, error) {
	w, err := s.want()
	if err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	h, err := s.machine.observe(ctx, s.names(w.watched()))
	if err != nil {
		return nil, err
	}
	if w.TakeOver {
		if h.Earlier, err = s.machine.observeEarlier(ctx); err != nil {
			return nil, err
		}
	}
	s.warnOf(w, h)
	return diff(w, h, &s.machine), nil
}

// Down needs no lease: what is ours bears our name or is in our record.
func (s *step) Down(ctx context.Context) ([]plan.Op, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	h, err := s.machine.observe(ctx, s.names(nil))
	if err != nil {
		return nil, err
	}
	for v, f := range h.Forward {
		if f.Present && !f.Usable {
			s.warn(v.Program, f.Fault, "chain "+ownChain+" stays in the filter table of "+v.Program, hintFor(f))
		}
	}
	if s.handBack {
		if h.Earlier, err = s.machine.observeEarlier(ctx); err == nil {
			err = takenBack(h)
		}
		if err != nil {
			return nil, err
		}
	}
	return diffDown(h, &s.machine, s.handBack), nil
}

// want reads the lease. While watching, one that cannot be read leaves the last good one in force, so
// that drift is repaired all the same.
func (s *step) want() (want, error) {
	path := s.machine.dir.Lease()
	lease, err := state.Load[state.Lease](path)
	var w want
	if err == nil {
		w, err = wantOf(path, lease, s.options)
	}
	switch {
	case err == nil:
		s.last = &w
		s.warn("lease", "", "", "")
	case s.watching && s.last != nil:
		s.warn("lease", err.Error(), "cannot read the lease: the last good one stays in force", "")
		return *s.last, nil
	}
	return w, err
}

// load reads masq.json once: afterwards this program alone knows better.
func (s *step) load() error {
	if s.loaded {
		return nil
	}
	err := s.machine.loadRecord()
	s.loaded = err == nil
	return err
}

// names are the parameters to read: those given and the recorded ones.
func (s *step) names(wanted []string) []string {
	for _, r := range s.machine.record.Sysctls {
		wanted = append(append(wanted, r.Name), slices.Sorted(maps.Keys(r.Also))...)
	}
	return wanted
}

// warnOf says what is wanted and cannot be had.
func (s *step) warnOf(w want, h have) {
	for _, v := range variants {
		f, ok := h.Forward[v]
		if !ok || f.Usable || len(w.forwardRules(v)) == 0 && !f.Present {
			s.warn(v.Program, "", "", "")
			continue
		}
		s.warn(v.Program, f.Fault, "cannot open chain FORWARD: where its policy is drop, pods are cut off", hintFor(f))
	}
	for _, f := range state.Families {
		if !w.Nets.Has(f) {
			continue
		}
		fault := ""
		if _, ok := h.Sysctls[forwarding[f]]; !ok {
			fault = fmt.Sprintf("the kernel has no parameter %s", forwarding[f])
		}
		s.warn(forwarding[f], fault, "cannot switch forwarding on", "is the address family disabled?")
		fault = ""
		if _, ok := h.Sysctls[bridgeNF[f]]; !ok && w.BridgeNF == "on" {
			fault = fmt.Sprintf("the kernel has no parameter %s", bridgeNF[f])
		}
		s.warn(bridgeNF[f], fault, "packets between pods of one bridge do not meet the rules for services and policies", "modprobe br_netfilter")
	}
}

func hintFor(f forward) string {
	if f.Missing {
		return `install the package "iptables"`
	}
	return ""
}

// warn logs a fault when it is new; an empty one has gone.
func (s *step) warn(about, fault, consequence, hint string) {
	if s.warned[about] == fault {
		return
	}
	s.warned[about] = fault
	if fault != "" {
		s.machine.log.Warn("not as wanted", "about", about, "err", fault, "consequence", consequence, "hint", hint)
	}
}

// Inputs are the files watched.
func (s *step) Inputs() []string { return []string{s.machine.dir.Lease(), s.machine.dir.Masq()} }

// The pace of hints: a lone one is given at once; where they come one after the other, as when another
// program undoes each repair, they are given ever more slowly, up to pauseMax.
const (
	pauseMin   = 10 * time.Millisecond
	pauseMax   = 500 * time.Millisecond
	pauseReset = 2 * time.Second
)

// Events tells of changes of nftables that concern this program, and of the forwarding switches.
func (s *step) Events(ctx context.Context) (<-chan string, error) {
	s.watching = true
	changes, err := nl.WatchNFT(ctx)
	if err != nil {
		return nil, err
	}
	switched, err := nl.WatchForwarding(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan string)
	go s.pace(ctx, changes, switched, out)
	return out, nil
}

func (s *step) pace(ctx context.Context, changes <-chan nl.NFTChange, switched <-chan struct{}, out chan<- string) {
	var reason string // pending, when not empty
	var pause time.Duration
	var last time.Time
	var wait <-chan time.Time
	var ready chan<- string // out, when reason may be given
	pend := func(r string) {
		if reason = r; ready != nil || wait != nil {
			return
		}
		if since := time.Since(last); since >= pauseReset {
			pause = 0
		} else {
			pause = min(max(2*pause, pauseMin), pauseMax)
		}
		wait = time.After(pause)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-changes:
			if s.machine.seen.quiet.note(c) {
				pend("nftables changed by " + c.Process)
			}
		case <-switched:
			pend("forwarding changed")
		case <-wait:
			wait, ready = nil, out
		case ready <- reason:
			ready, last = nil, time.Now()
		}
	}
}
