package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// Delays until peers are asked again that gave no verdict.
const (
	soon      = 5 * time.Second // also where there is none to ask, which costs nothing
	notSoSoon = 5 * time.Minute
)

// target is a device about which a verdict is wanted.
type target struct {
	family state.Family
	device string
	index  int
	from   netip.Addr // its address
	under  underlay
	was    state.ChecksumFound // if Off, the offload is turned on for as long as peers are asked
}

// prober asks peers, beside the loop that keeps the devices as they have to be, and hands the verdicts to it.
type prober struct {
	run   state.Dir
	log   *slog.Logger
	wake  chan struct{} // targets changed
	hints chan string   // there is a verdict

	mu      sync.Mutex
	targets []target
	trying  map[state.Family]bool                // the offload is on for a trial
	found   map[state.Family]state.ChecksumFound // verdicts not yet written down
}

func newProber(run state.Dir, log *slog.Logger) *prober {
	return &prober{
		run: run, log: log, wake: make(chan struct{}, 1), hints: make(chan string, 1),
		found: map[state.Family]state.ChecksumFound{}, trying: map[state.Family]bool{},
	}
}

// want says about what a verdict is wanted from now on.
func (p *prober) want(targets []target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(targets, p.targets) {
		return
	}
	p.targets = targets
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// state is a verdict that waits to be written down, and whether the device is on trial: hands off then.
func (p *prober) state(f state.Family) (found state.ChecksumFound, is, trying bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, is = p.found[f]
	return found, is, p.trying[f]
}

// written says what is written down. A verdict that came meanwhile is not.
func (p *prober) written(down state.Checksum) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.found, func(f state.Family, found state.ChecksumFound) bool { return found == down.Device.Of(f) })
}

// isJudged says that there is a verdict about a target, which is not yet acted upon, or was meanwhile: nobody wants one any longer then.
func (p *prober) isJudged(t target) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, is := p.found[t.family]
	return is || !slices.Contains(p.targets, t)
}

func (p *prober) setTrying(f state.Family, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trying[f] = is
}

// watch asks until ctx ends.
func (p *prober) watch(ctx context.Context) {
	delay := soon
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			delay = soon
		case <-again.C:
		}
		p.mu.Lock()
		targets := p.targets
		p.mu.Unlock()
		results := make([]result, len(targets))
		var probing sync.WaitGroup
		for i, t := range targets {
			probing.Go(func() { results[i] = p.probe(ctx, t) })
		}
		probing.Wait()
		switch {
		case ctx.Err() != nil:
			return
		case !slices.ContainsFunc(results, func(r result) bool { return r != judged }):
			again.Stop() // the targets change when it is written down
			continue
		case slices.Contains(results, noVerdict):
			delay = min(2*delay, notSoSoon)
		}
		again.Reset(delay + rand.N(delay/4))
	}
}

// result is how far probing came.
type result int

const (
	nobody    result = iota // there is none to ask
	noVerdict               // of those who were asked
	judged
)

// probe asks some peers about one device.
func (p *prober) probe(ctx context.Context, t target) result {
	if p.isJudged(t) {
		return judged
	}
	log := p.log.With("device", t.device)
	peers, err := pick(p.run, t.family, t.index, nil)
	if err != nil {
		log.Warn("cannot probe the checksum offload", "err", err)
	}
	if len(peers) == 0 {
		return nobody
	}
	found := state.ChecksumFound{Uplink: t.under.name, Driver: t.under.driver, MTU: t.under.mtu}
	if t.was.Off {
		defer p.setTrying(t.family, false) // not before the verdict is known: the old one would be acted upon
		found.Verdict, found.Seen, err = p.try(ctx, t, peers, log)
	} else {
		found.Verdict, found.Seen, err = p.look(ctx, t, peers)
	}
	found.Off = found.Verdict == fault || found.Verdict == asked
	switch {
	case err != nil:
		log.Warn("cannot probe the checksum offload", "err", err)
		return noVerdict
	case found.Verdict == unknown || ctx.Err() != nil:
		return noVerdict
	case found.Verdict == asked:
		log.Info("checksum offload stays off: it was to be, and nobody could tell that it works")
	case found.Off:
		log.Warn("checksum offload is broken on the way to other nodes: packets whose checksum the network card is to fill in are lost",
			"seen", found.Seen, "uplink", found.Uplink, "driver", found.Driver)
	default:
		log.Info("checksum offload works", "seen", found.Seen)
	}
	p.mu.Lock()
	p.found[t.family] = found
	p.mu.Unlock()
	select {
	case p.hints <- "checksum offload probed":
	default:
	}
	return judged
}

// look asks with the offload on, all the time.
func (p *prober) look(ctx context.Context, t target, peers []peer) (verdict, seen string, err error) {
	verdict, seen = judge(ask(ctx, t.from, peers, true))
	if is, err := nl.TxChecksum(t.device); err != nil || !is {
		return unknown, "", err // it was turned off meanwhile, so that what was answered says nothing
	}
	return verdict, seen, nil
}

// try turns the offload on that we turned off, for as long as peers are asked, and leaves it on where it works. Packets
// may be lost meanwhile, so it does so only where an answer is to be had, and once: without a verdict the old one stands.
func (p *prober) try(ctx context.Context, t target, peers []peer, log *slog.Logger) (verdict, seen string, err error) {
	if !slices.ContainsFunc(ask(ctx, t.from, peers, false), func(r tally) bool { return r.complete.answered > 0 }) {
		return unknown, "", nil
	}
	p.setTrying(t.family, true)
	set := func(on bool, reason string) error {
		op := nl.SetTxChecksum(t.device, on)
		if err := plan.Do(context.WithoutCancel(ctx), []plan.Op{op}, nil); err != nil {
			return err
		}
		log.Info("changed", "op", op.String(), "reason", reason)
		return nil
	}
	if err := set(true, "to see whether it works by now"); err != nil {
		return unknown, "", err
	}
	verdict, seen, err = p.look(ctx, t, peers)
	if verdict == fine {
		return verdict, seen, err
	}
	if verdict == unknown {
		verdict, seen = t.was.Verdict, t.was.Seen
	}
	return verdict, seen, errors.Join(err, set(false, "it does not, or nobody could tell"))
}
