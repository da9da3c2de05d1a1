package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"sync"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

// seen is what was read of the kernel and still holds, so that nothing is executed to find that nothing
// changed: all of nftables under its generation id, legacy iptables under a mark of its rules.
type seen struct {
	nftables   bool // the next three are valid
	generation uint32
	listing    string
	forward    map[variant]forward
	legacy     map[variant]legacy
	clean      map[place]uint64 // marks of legacy tables in which no earlier network left anything
	quiet      quiet
}

type legacy struct {
	mark    uint64
	forward forward
}

// loaded notes that a transaction of our own led from one generation to the next.
func (s *seen) loaded(before, after uint32, listing string) {
	if s.nftables && s.generation == before {
		s.generation, s.listing = after, listing
	}
}

// quiet is a run of generations of which the kernel has told that nothing in them concerns us. The
// zero value knows of none.
type quiet struct {
	mu       sync.Mutex
	from, to uint32 // after from, up to and with to
}

// note takes in a change and says whether it concerns us.
func (q *quiet) note(c nl.NFTChange) bool {
	ours := c.Lost
	for o := range c.Objects {
		ours = ours || concerns(o)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case ours:
		q.from, q.to = c.Generation, c.Generation
	case c.Generation == q.to+1:
		q.to = c.Generation
	default: // something was missed in between
		q.from, q.to = c.Generation-1, c.Generation
	}
	return ours
}

// covers says whether nothing that concerns us happened after generation a, up to and with b.
func (q *quiet) covers(a, b uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return a-q.from <= b-q.from && b-q.from <= q.to-q.from // generations wrap
}

// catchUp waits, for as long as a notice may be under way, until the kernel has told of generation b: it counts first and tells then.
func (q *quiet) catchUp(b uint32) {
	for range 20 {
		q.mu.Lock()
		behind := q.to != 0 && int32(b-q.to) > 0
		q.mu.Unlock()
		if !behind {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}

// concerns says whether a change of the object can be one of what this program looks after.
func concerns(o nl.NFTObject) bool {
	switch {
	case o.Family == tableFamily:
		return o.Table == tableName
	case o.Table == "filter" && (o.Family == nftFamily[state.IPv4] || o.Family == nftFamily[state.IPv6]):
		return o.Chain == forwardChain || o.Chain == ownChain
	}
	return false
}

// observe reads the present state; sysctls are the parameters of interest.
func (m *machine) observe(ctx context.Context, sysctls []string) (have, error) {
	if err := m.observeNFT(ctx); err != nil {
		return have{}, err
	}
	h := have{Listing: m.seen.listing, Forward: maps.Clone(m.seen.forward), Sysctls: map[string]string{}, Record: m.record}
	m.observeLegacy(ctx)
	for v, l := range m.seen.legacy {
		h.Forward[v] = l.forward
	}
	for _, name := range sysctls {
		value, err := sysctl.Get(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return have{}, err
		}
		h.Sysctls[name] = value
	}
	h.OnDisk, h.Recorded = m.recordOnDisk()
	return h, ctx.Err()
}

// observeNFT reads the table and the FORWARD chains of iptables-nft, unless nothing changed.
func (m *machine) observeNFT(ctx context.Context) error {
	// Read first: what changes during the listing has a later generation and is read again.
	generation, err := nl.NFTGeneration()
	if err != nil {
		return err
	}
	s := &m.seen
	s.quiet.catchUp(generation)
	if s.lasts() && (generation == s.generation || s.quiet.covers(s.generation, generation)) {
		s.generation = generation
		return nil
	}
	s.nftables = false
	there, err := nl.NFTTable(tableFamily, tableName)
	if err != nil {
		return err
	}
	listing := ""
	if there {
		if listing, err = nft.List(ctx, tableFamily, tableName); err != nil {
			return err
		}
	}
	forwards := map[variant]forward{}
	for _, v := range variants {
		if v.Legacy {
			continue
		}
		chain, ok, err := nl.ReadNFTChain(nftFamily[v.Family], "filter", forwardChain)
		if err != nil {
			return err
		}
		_, own, err := nl.ReadNFTChain(nftFamily[v.Family], "filter", ownChain)
		if err != nil {
			return err
		}
		if ok && chain.Base || own {
			forwards[v] = m.readForward(ctx, v, own)
		}
	}
	s.nftables, s.generation, s.listing, s.forward = true, generation, listing, forwards
	return nil
}

// lasts says whether all that was read holds as long as nothing changes.
func (s *seen) lasts() bool {
	for v, f := range s.forward {
		if !f.lasts(v) {
			return false
		}
	}
	return s.nftables
}

// lasts says whether what was read holds as long as nothing changes: a fault may pass by itself, and a
// missing program may be installed.
func (f forward) lasts(v variant) bool {
	return f.Usable || f.Missing && !programIsThere(v)
}

// observeLegacy reads the FORWARD chains of those legacy filter tables that exist and have changed.
func (m *machine) observeLegacy(ctx context.Context) {
	if m.seen.legacy == nil {
		m.seen.legacy = map[variant]legacy{}
	}
	for _, v := range variants {
		if !v.Legacy {
			continue
		}
		protocol := nl.XTables4
		if v.Family == state.IPv6 {
			protocol = nl.XTables6
		}
		mark, ok, err := nl.LegacyTable(protocol, "filter")
		last, known := m.seen.legacy[v]
		switch {
		case err != nil:
			m.seen.legacy[v] = legacy{forward: forward{Fault: err.Error()}}
		case !ok:
			delete(m.seen.legacy, v)
		case known && last.mark == mark && last.forward.lasts(v):
		default:
			m.seen.legacy[v] = legacy{mark, m.readForward(ctx, v, true)}
		}
	}
}

func programIsThere(v variant) bool {
	_, err := exec.LookPath(v.Program)
	return err == nil
}

// readForward lists the two chains that matter of a variant's filter table; own says whether it can
// have the second.
func (m *machine) readForward(ctx context.Context, v variant, own bool) forward {
	if !programIsThere(v) {
		return forward{Missing: true, Present: own && !v.Legacy, Fault: fmt.Sprintf("program %q is missing", v.Program)}
	}
	out, err := listRules(ctx, v, forwardChain)
	if err != nil {
		return forward{Fault: err.Error()}
	}
	f := forward{Usable: true, Forward: parseRules(forwardChain, out)}
	if own {
		out, err := listRules(ctx, v, ownChain)
		if err != nil && (!v.Legacy || exit.Of(err) != exit.Refused) { // legacy refuses: there is no such chain
			return forward{Present: true, Fault: err.Error()}
		}
		f.Present, f.Own = err == nil, parseRules(ownChain, out)
	}
	return f
}

func listRules(ctx context.Context, v variant, chain string) (string, error) {
	args := []string{"-S", chain}
	if v.Legacy {
		args = append(args, lockArgs...)
	}
	return runIptables(ctx, v.Program, "", args...)
}
