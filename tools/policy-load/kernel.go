package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/ruleset"
)

// kernel writes the tables and follows all that happens to nftables, so that it knows of every generation of the
// kernel's ruleset whether our tables are still as we left them.
type kernel struct {
	log     *slog.Logger
	changes <-chan nl.NFTChange
	stop    context.CancelFunc
	// at is the generation up to which everything is known.
	at   uint32
	conn *nl.NFTConn
}

// noticeBuffer holds the notices of a transaction of some hundred thousand objects, bytes.
const noticeBuffer = 32 << 20

// follow begins to listen.
func (k *kernel) follow() error {
	if k.changes != nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	changes, err := nl.WatchNFTWith(ctx, noticeBuffer)
	if err == nil {
		k.at, err = nl.NFTGeneration()
	}
	if err == nil {
		k.conn, err = nl.OpenNFT()
	}
	if err != nil {
		stop()
		return err
	}
	k.changes, k.stop = changes, stop
	return nil
}

// generation is the kernel's, or the last that is known to be as we left it.
func (k *kernel) generation() (uint32, error) {
	if k.changes != nil {
		return k.at, nil
	}
	return nl.NFTGeneration()
}

func (k *kernel) close() error {
	if k.changes == nil {
		return nil
	}
	k.stop()
	return k.conn.Close()
}

// drift is a transaction that was not ours and touched our tables, or may have.
type drift struct{ by string }

func (d *drift) Error() string { return "the tables were changed by " + d.by }

// note takes in a transaction that is not ours.
func (k *kernel) note(c nl.NFTChange) *drift {
	switch {
	case c.Lost:
		generation, err := nl.NFTGeneration()
		if err == nil && generation == k.at { // what was dropped is known otherwise
			return nil
		}
		k.at = generation
		return &drift{"somebody: the kernel dropped the notice"}
	case int32(c.Generation-k.at) <= 0: // it is older than what we began with
		return nil
	}
	missed := c.Generation != k.at+1
	k.at = c.Generation
	if missed {
		return &drift{"somebody: the kernel gave no notice"}
	}
	if touches(c) {
		return &drift{c.Process}
	}
	return nil
}

// touches says whether a transaction changed anything in our tables.
func touches(c nl.NFTChange) bool {
	for o := range c.Objects {
		if o.Table == ruleset.Table && slices.Contains(ruleset.Families, o.Family) {
			return true
		}
	}
	return false
}

// ownDeadline is how long the notice of a transaction of our own may take. The kernel queues it before the
// transaction's sender learns of its success.
const ownDeadline = 5 * time.Second

// own waits for the notice of the transaction that we made, from a port. What came in before it is taken in; a drift
// among that is returned too, with the generation that our transaction made.
func (k *kernel) own(ctx context.Context, port uint32) (generation uint32, d *drift, err error) {
	deadline := time.NewTimer(ownDeadline)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, d, ctx.Err()
		case <-deadline.C:
			return 0, d, exit.Errorf(exit.TryAgain, "the kernel gave no notice of our own transaction")
		case c := <-k.changes:
			if c.Port == port && touches(c) && int32(c.Generation-k.at) > 0 {
				if c.Generation != k.at+1 {
					d = &drift{"somebody: the kernel gave no notice"}
				}
				k.at = c.Generation
				return c.Generation, d, nil
			}
			if c.Lost {
				return 0, d, nil
			}
			if e := k.note(c); e != nil {
				d = e
			}
		}
	}
}

// replace loads the whole ruleset, whatever the tables hold. What others did to them before does not matter; where
// the kernel drops the notices of so large a transaction, the generations tell whether it was the only one.
func (k *kernel) replace(ctx context.Context, p *policy) (uint32, error) {
	if err := k.follow(); err != nil {
		return 0, err
	}
	for range 5 {
		before, err := nl.NFTGeneration()
		if err != nil {
			return 0, err
		}
		port, err := k.put(ctx, p)
		if err != nil {
			return 0, err
		}
		generation, _, err := k.own(context.WithoutCancel(ctx), port)
		if err != nil && ctx.Err() != nil {
			return 0, err
		}
		if generation != 0 {
			return generation, nil
		}
		after, err := nl.NFTGeneration()
		if err != nil {
			return 0, err
		}
		if k.at = after; after == before+1 {
			return after, nil
		}
	}
	return 0, exit.WithHint(exit.Errorf(exit.TryAgain, "other programs change nftables all the time, and the kernel drops notices of it"),
		"nft monitor shows which")
}

// put gives the whole ruleset to the kernel: by netlink, which takes a tenth of nft's memory, or, where that cannot be
// done or is refused, by nft, whose errors name the line.
func (k *kernel) put(ctx context.Context, p *policy) (port uint32, err error) {
	b, err := compileAll(p)
	if err == nil {
		if err = k.conn.Commit(&b.NFTBatch); err == nil {
			return k.conn.Port(), nil
		}
	}
	k.log.Debug("slow", "reason", err.Error())
	pid, err := replace(ctx, p)
	return uint32(pid), err
}

func deleteTable(family string) plan.Op {
	text := fmt.Sprintf("delete table %s %s", family, ruleset.Table)
	return plan.Func{Text: text, Run: func(ctx context.Context) error { return nft.Load(ctx, text+"\n") }}
}
