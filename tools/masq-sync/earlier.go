package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/command"
	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// leaving is what the network that was on this node before left in one table. Ours is in force before it goes.
type leaving struct {
	Table    string   // as its commands' errors name it
	Chains   []string // of the earlier network
	Commands []string // of one transaction that removes it, in the syntax of the program
	Variant  variant  // whose program takes the commands; the zero variant: nft
}

// flannelTables are flannel's when it uses nftables.
var flannelTables = map[state.Family]string{state.IPv4: "flannel-ipv4", state.IPv6: "flannel-ipv6"}

// earlierChains are chains by which flannel and Calico are known, by table of iptables: one of them is there when
// anything of theirs is. (flannel's own clean-up makes FLANNEL-FWD in nat; it belongs into filter.)
var earlierChains = map[string][]string{
	"filter": {"FLANNEL-FWD", "cali-FORWARD", "cali-INPUT"},
	"nat":    {"FLANNEL-POSTRTG", "FLANNEL-FWD", "cali-POSTROUTING", "cali-PREROUTING"},
	"mangle": {"cali-PREROUTING", "cali-POSTROUTING"},
	"raw":    {"cali-PREROUTING", "cali-OUTPUT"},
}

func isEarlier(chain string) bool {
	return strings.HasPrefix(chain, "FLANNEL-") || strings.HasPrefix(chain, "cali-")
}

// observeEarlier lists the leavings. Nothing is executed while there are none.
func (m *machine) observeEarlier(ctx context.Context) ([]leaving, error) {
	var all []leaving
	for _, f := range state.Families {
		family, table := nftFamily[f], flannelTables[f]
		there, err := nl.NFTTable(family, table)
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, leaving{Table: table, Chains: []string{"postrtg"}, Commands: []string{fmt.Sprintf("delete table %s %s", family, table)}})
		}
	}
	if m.seen.clean == nil {
		m.seen.clean = map[place]uint64{}
	}
	for _, v := range variants {
		for _, table := range slices.Sorted(maps.Keys(earlierChains)) {
			l, err := m.earlierIn(ctx, v, table)
			if err != nil {
				return nil, err
			}
			if len(l.Commands) > 0 {
				all = append(all, l)
			}
		}
	}
	return all, nil
}

// earlierIn looks into one table of one variant. iptables' own listing tells more than nft's: the comments, by which
// Calico's rules in others' chains are known.
func (m *machine) earlierIn(ctx context.Context, v variant, table string) (leaving, error) {
	mark, there, err := hasEarlier(v, table)
	if err != nil || !there || v.Legacy && m.seen.clean[place{v, table}] == mark {
		return leaving{}, err
	}
	if programIsThere(v) {
		args := []string{"-t", table, "-S"}
		if v.Legacy {
			args = append(args, lockArgs...)
		}
		out, err := runIptables(ctx, v.Program, "", args...)
		l := parseSaved(out)
		l.Table, l.Variant = table, v
		if v.Legacy && err == nil && len(l.Commands) == 0 {
			m.seen.clean[place{v, table}] = mark
		}
		return l, err
	}
	if v.Legacy {
		return leaving{}, nil // cannot be read without its program, of whose absence is warned
	}
	if c, _, err := nl.ReadNFTChain(nftFamily[v.Family], table, forwardChain); err != nil || c.Policy == "drop" {
		return leaving{}, err // ours cannot be put in front, so theirs still keep pods' traffic going
	}
	out, err := command.Output(ctx, "nftables", "", "nft", "-j", "-a", "list", "table", nftFamily[v.Family], table)
	if err != nil {
		return leaving{}, err
	}
	l, err := parseListed([]byte(out))
	l.Table = table
	return l, err
}

// place is a table of a variant.
type place struct {
	variant variant
	table   string
}

// hasEarlier says whether a table can hold leavings, without executing a thing; mark is that of a legacy table's rules.
func hasEarlier(v variant, table string) (mark uint64, there bool, err error) {
	if v.Legacy {
		protocol := nl.XTables4
		if v.Family == state.IPv6 {
			protocol = nl.XTables6
		}
		return nl.LegacyTable(protocol, table)
	}
	for _, chain := range earlierChains[table] {
		if _, ok, err := nl.ReadNFTChain(nftFamily[v.Family], table, chain); err != nil || ok {
			return 0, ok, err
		}
	}
	return 0, false, nil
}

// target is where a rule of `iptables -S` leads; it comes last, or has options of its own behind it.
var target = regexp.MustCompile(` -[jg] (\S+)`)

// parseSaved reads the output of `iptables -t TABLE -S`.
func parseSaved(output string) leaving {
	var l leaving
	var lead []string
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		if chain, ok := strings.CutPrefix(line, "-N "); ok && isEarlier(chain) {
			l.Chains = append(l.Chains, chain)
		}
		rule, ok := strings.CutPrefix(line, "-A ")
		chain, _, _ := strings.Cut(rule, " ")
		if !ok || isEarlier(chain) {
			continue
		}
		to := target.FindAllStringSubmatch(rule, -1)
		if len(to) > 0 && isEarlier(to[len(to)-1][1]) || strings.Contains(rule, `--comment "cali:`) {
			lead = append(lead, "-D "+rule)
		}
	}
	l.Commands = lead
	for _, verb := range []string{"-F ", "-X "} { // they lead to each other
		for _, chain := range l.Chains {
			l.Commands = append(l.Commands, verb+chain)
		}
	}
	return l
}

// parseListed reads the output of `nft -j -a list table FAMILY TABLE`.
func parseListed(output []byte) (leaving, error) {
	var listing struct {
		NFTables []struct {
			Chain *struct{ Family, Table, Name string }
			Rule  *struct {
				Family, Table, Chain string
				Handle               uint64
				Expr                 []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(output, &listing); err != nil {
		return leaving{}, fmt.Errorf("read nft's listing: %w", err)
	}
	var l leaving
	var flush, remove []string
	for _, o := range listing.NFTables {
		if c := o.Chain; c != nil && isEarlier(c.Name) {
			l.Chains = append(l.Chains, c.Name)
			flush = append(flush, fmt.Sprintf("flush chain %s %s %s", c.Family, c.Table, c.Name))
			remove = append(remove, fmt.Sprintf("delete chain %s %s %s", c.Family, c.Table, c.Name))
		}
		r := o.Rule
		if r == nil || isEarlier(r.Chain) {
			continue
		}
		for _, e := range r.Expr {
			for _, verdict := range []string{"jump", "goto"} {
				var to struct{ Target string }
				if json.Unmarshal(e[verdict], &to) == nil && isEarlier(to.Target) {
					l.Commands = append(l.Commands, fmt.Sprintf("delete rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle))
				}
			}
		}
	}
	l.Commands = append(append(l.Commands, flush...), remove...)
	return l, nil
}

// earlierOps removes the leavings.
func earlierOps(d doer, all []leaving) []plan.Op {
	var ops []plan.Op
	for _, l := range all {
		program := "nft"
		if l.Variant != (variant{}) {
			program = l.Variant.Program + " -t " + l.Table
		}
		lines := make([]string, len(l.Commands))
		for i, c := range l.Commands {
			lines[i] = program + " " + c
		}
		ops = append(ops, together(lines, func(ctx context.Context) error { return d.RemoveEarlier(ctx, l) })...)
	}
	return ops
}

// RemoveEarlier executes the commands of a leaving as one transaction.
func (m *machine) RemoveEarlier(ctx context.Context, l leaving) error {
	if l.Variant == (variant{}) {
		return nft.Load(ctx, strings.Join(l.Commands, "\n")+"\n")
	}
	return m.restore(ctx, l.Variant, l.Table, l.Commands)
}

// takenBack refuses to remove our rules while nobody else's masquerade pods' traffic.
func takenBack(h have) error {
	if !strings.Contains(h.Listing, "chain postrouting") {
		return nil
	}
	for _, l := range h.Earlier {
		if slices.Contains(l.Chains, "FLANNEL-POSTRTG") || slices.Contains(l.Chains, "postrtg") || slices.Contains(l.Chains, "cali-POSTROUTING") {
			return nil
		}
	}
	return exit.WithHint(exit.Errorf(exit.TryAgain, "hand back: flannel's rules for masquerading are not there yet"),
		"start flanneld on this node first; down without --hand-back removes ours all the same")
}
