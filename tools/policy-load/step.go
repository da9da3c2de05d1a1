package main

import (
	"context"
	"log/slog"
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
}

func open(env *tool.Env) (tool.Step, error) {
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
	var ops []plan.Op
	if s.loaded == nil || s.loaded.generation != want.generation {
		ops = append(ops, &loadOp{step: s, want: want})
	}
	return append(ops, s.recordOps(want, len(ops) > 0)...), nil
}

// recall takes the ruleset for loaded if policy.loaded.json says that it was, and nothing has happened to the
// kernel's tables since.
func (s *step) recall(want *policy) error {
	record, _, err := readRecord(s.dir)
	if err != nil {
		return err
	}
	kernel, err := nl.NFTGeneration()
	if err != nil {
		return err
	}
	if s.place.holds(record, want.generation, kernel) {
		s.loaded, s.record = want, record
	}
	return nil
}

// recordOps writes policy.loaded.json, where it is not as it should be once want is loaded.
func (s *step) recordOps(want *policy, loads bool) []plan.Op {
	write := plan.Func{Text: "write " + s.dir.PolicyLoaded(), Run: func(context.Context) error { return s.save(want, "") }}
	if loads {
		return []plan.Op{write}
	}
	if op, err := state.WriteOp(s.dir.PolicyLoaded(), s.place.record(want, s.record.Kernel, "")); op != nil || err != nil {
		return []plan.Op{write}
	}
	return nil
}

// save writes policy.loaded.json: the kernel holds p.
func (s *step) save(p *policy, refused string) error {
	record := s.place.record(p, s.record.Kernel, refused)
	if _, err := state.Save(s.dir.PolicyLoaded(), record); err != nil {
		return err
	}
	s.loaded, s.record = p, record
	return nil
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
	err := o.step.load(ctx, o.want)
	o.failed = err != nil
	return err
}

// load replaces all that the kernel holds by a ruleset. A refused one is remembered in policy.loaded.json where an
// older one stays in force.
func (s *step) load(ctx context.Context, want *policy) error {
	start := time.Now()
	generation, err := s.kernel.replace(ctx, want)
	if err != nil {
		return s.refuse(want, err)
	}
	s.loaded, s.record.Kernel, s.refused, s.why = want, generation, "", nil
	s.log.Info("loaded", "generation", want.generation, "objects", len(want.objects), "took", time.Since(start).Round(time.Microsecond))
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
	if serr := s.save(s.loaded, err.Error()); serr != nil {
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
