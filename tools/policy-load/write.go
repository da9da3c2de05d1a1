package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/ruleset"
)

// write makes changes in one transaction: by netlink, or by nft where one of them is outside the grammar. d says that
// others changed the tables meanwhile.
func (k *kernel) write(ctx context.Context, changes []change) (generation uint32, d *drift, err error) {
	if err := k.find(changes); err != nil {
		return 0, nil, err
	}
	port := k.conn.Port()
	b, err := compile(changes)
	var foreign *outside
	switch {
	case errors.As(err, &foreign):
		k.log.Debug("slow", "reason", err.Error())
		var pid int
		if pid, err = nft.LoadFrom(ctx, strings.NewReader(script(changes))); err != nil {
			return 0, nil, err
		}
		port = uint32(pid)
	case err != nil:
		return 0, nil, err
	default:
		if err := k.conn.Commit(&b.NFTBatch); err != nil {
			if at := refusedAt(err); at >= 0 {
				err = fmt.Errorf("%s: %w", changes[b.changes[at]], err)
			}
			return 0, nil, err
		}
	}
	return k.own(context.WithoutCancel(ctx), port) // it is done, and is written down at the end too
}

// refusedAt is the message that the kernel refused, -1 if it named none.
func refusedAt(err error) int {
	var refused *nl.NFTRefused
	if errors.As(err, &refused) {
		return refused.Message
	}
	return -1
}

// find looks up the handles of the rules that changes are about: those of one chain, not of the table.
func (k *kernel) find(changes []change) error {
	var handles []uint64
	var of *object
	for i := range changes {
		c := &changes[i]
		if c.verb != insertRule && c.verb != deleteRule {
			continue
		}
		if c.object != of {
			var err error
			if handles, err = k.conn.RuleHandles(c.object.Family, ruleset.Table, c.object.Name); err != nil {
				return err
			}
			of = c.object
		}
		if len(handles) != c.of {
			return &drift{fmt.Sprintf("somebody: chain %s has %d rules, not %d", c.object.Name, len(handles), c.of)}
		}
		c.handle = handles[c.at]
	}
	return nil
}
