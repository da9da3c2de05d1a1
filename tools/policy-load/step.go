package main

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// step is policy-load's tool.Step and tool.Watcher.
type step struct {
	dir    state.Dir
	log    *slog.Logger
	place  place
	kernel *kernel
	loaded *policy // what the kernel holds; nil: not known
	record state.PolicyLoaded
	// refused is the generation that the kernel did not take, and why.
	refused string
	why     error
	drift   *drift // what has not been put right yet
}

// gcPercent: nearly all that is kept is the text of the ruleset, which has no pointers and costs the collector
// nothing, so memory is worth more than its time.
const gcPercent = 30

func open(env *tool.Env) (tool.Step, error) {
	debug.SetGCPercent(gcPercent)
	p, err := here()
	if err != nil {
		return nil, err
	}
	return &step{dir: env.RunDir, log: env.Log, place: p, kernel: &kernel{log: env.Log}}, nil
}

// Close ends the connections to the kernel.
func (s *step) Close() error { return s.kernel.close() }

// Plan compares policy.nft with what the kernel holds by this program's own account. One that starts has none but
// policy.loaded.json; where that does not fit, everything is loaded.
func (s *step) Plan(context.Context) ([]plan.Op, error) {
	want, err := readPolicy(s.dir, s.loaded)
	if err != nil {
		return nil, err
	}
	if s.loaded == nil {
		if err := s.recall(want); err != nil {
			return nil, err
		}
	}
	if s.loaded == nil || s.loaded.generation != want.generation {
		return []plan.Op{&loadOp{step: s, want: want}, s.writeOp(want)}, nil
	}
	if op, err := state.WriteOp(s.dir.PolicyLoaded(), s.place.record(want, s.record.Kernel, "")); op == nil || err != nil {
		return nil, err
	}
	return []plan.Op{s.writeOp(want)}, nil
}

// writeOp writes policy.loaded.json, which a load has done already.
func (s *step) writeOp(want *policy) plan.Op {
	return plan.Func{Text: "write " + s.dir.PolicyLoaded(), File: s.dir.PolicyLoaded(), Run: func(context.Context) error {
		return s.save(want, s.record.Kernel, "")
	}}
}

// recall takes the ruleset for loaded if policy.loaded.json says that it was, and nothing has happened to the
// kernel's tables since.
func (s *step) recall(want *policy) error {
	record, _, err := readRecord(s.dir)
	if err != nil {
		return err
	}
	kernel, err := s.kernel.generation()
	if err != nil {
		return err
	}
	if s.place.holds(record, want.generation, kernel) {
		s.loaded, s.record = want, record
	}
	return nil
}

// save writes policy.loaded.json: the kernel, at a generation of its own, holds p.
func (s *step) save(p *policy, kernel uint32, refused string) error {
	s.loaded, s.record = p, s.place.record(p, kernel, refused)
	_, err := state.Save(s.dir.PolicyLoaded(), s.record)
	return err
}

// loadOp is the transaction that leads to a ruleset. Once it has failed it is named in one line, since its text
// becomes part of the error.
type loadOp struct {
	step   *step
	want   *policy
	failed bool
}

func (o *loadOp) String() string {
	if o.failed {
		return "nft -f " + o.step.dir.PolicyNFT()
	}
	return commands(o.want)
}

func (o *loadOp) Do(ctx context.Context) error {
	err := o.step.load(ctx, o.want, "start")
	o.failed = err != nil
	return err
}

// update leads the kernel to a ruleset by the changes alone, or, in any doubt, by a full replacement.
func (s *step) update(ctx context.Context, want *policy, reason string) error {
	if s.loaded == nil || s.drift != nil {
		return s.load(ctx, want, reason)
	}
	changes, ok := diff(s.loaded, want)
	if !ok {
		return s.load(ctx, want, "an object is declared anew")
	}
	if len(changes) == 0 { // notes changed
		return s.save(want, s.record.Kernel, "")
	}
	start := time.Now()
	generation, d, err := s.kernel.write(ctx, changes)
	switch {
	case err == nil && d == nil && generation != 0:
	case ctx.Err() != nil:
		s.drift = &drift{"the end came while something was under way"} // leave claims nothing
		return ctx.Err()
	case err != nil:
		s.log.Debug("changes were not taken", "err", err)
		return s.load(ctx, want, "the changes alone were not taken")
	default:
		return s.load(ctx, want, "others changed the tables meanwhile")
	}
	s.refused, s.why = "", nil
	err = s.save(want, generation, "")
	s.tell(ctx, changes, reason, time.Since(start))
	return err
}

// maxTold is how many changes of one transaction are logged one by one.
const maxTold = 10

func (s *step) tell(ctx context.Context, changes []change, reason string, took time.Duration) {
	level := slog.LevelInfo
	if len(changes) > maxTold {
		s.log.Info("changed", "commands", len(changes), "reason", reason, "took", took.Round(time.Microsecond))
		level = slog.LevelDebug
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	for _, c := range changes {
		s.log.Log(ctx, level, "changed", "op", c.String(), "reason", reason, "took", took.Round(time.Microsecond))
	}
}

// load replaces all that the kernel holds by a ruleset. A refused one is remembered in policy.loaded.json where an
// older one stays in force.
func (s *step) load(ctx context.Context, want *policy, reason string) error {
	start := time.Now()
	generation, err := s.kernel.replace(ctx, want)
	if err != nil {
		return s.refuse(want, err)
	}
	s.refused, s.why, s.drift = "", nil, nil
	if err := s.save(want, generation, ""); err != nil {
		return err
	}
	debug.FreeOSMemory() // the transaction was as large as the ruleset
	s.log.Info("loaded", "generation", want.generation, "objects", len(want.objects), "reason", reason, "took", time.Since(start).Round(time.Microsecond))
	return nil
}

func (s *step) refuse(want *policy, err error) error {
	if exit.Of(err) != exit.Refused {
		return err
	}
	s.refused, s.why = want.generation, err
	if s.loaded == nil {
		record, there, rerr := readRecord(s.dir)
		if rerr != nil || !there || record.Generation == "" {
			return err
		}
		record.Refused = err.Error()
		if _, serr := state.Save(s.dir.PolicyLoaded(), record); serr != nil {
			return exit.Errorf(exit.Refused, "%w (and %w)", err, serr)
		}
		return err
	}
	if serr := s.save(s.loaded, s.record.Kernel, err.Error()); serr != nil {
		return exit.Errorf(exit.Refused, "%w (and %w)", err, serr)
	}
	return err
}

// Down removes the record first: without it no pod is taken for covered.
func (s *step) Down(context.Context) ([]plan.Op, error) {
	var ops []plan.Op
	if op := state.RemoveOp(s.dir.PolicyLoaded()); op != nil {
		ops = append(ops, op)
	}
	for _, family := range ruleset.Families {
		there, err := nl.NFTTable(family, ruleset.Table)
		if err != nil {
			return nil, err
		}
		if there {
			ops = append(ops, deleteTable(family))
		}
	}
	return ops, nil
}
