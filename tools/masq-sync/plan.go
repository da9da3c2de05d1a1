package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// have is the present state of the node, as a value.
type have struct {
	Listing  string              // nft's listing of the table; empty: there is none
	Forward  map[variant]forward // of the variants that are there
	Sysctls  map[string]string   // of those that exist
	Record   state.Masq          // what was remembered
	OnDisk   bool                // masq.json holds Record
	Recorded bool                // there is a masq.json
	Earlier  []leaving           // of the network before, where it is to be known
}

func (h have) sysctlIsOurs(name string) bool {
	return slices.ContainsFunc(h.Record.Sysctls, func(s state.MasqSysctl) bool { return s.Name == name })
}

// doer makes the changes; the machine in production.
type doer interface {
	SetSysctl(ctx context.Context, s setting) error
	LoadTable(ctx context.Context, t nft.Table) error
	DeleteTable(ctx context.Context) error
	Iptables(ctx context.Context, v variant, commands []string) error
	// Remember writes the record with changes recorded or forgotten.
	Remember(ctx context.Context, changed []state.MasqSysctl, forget []state.MasqSysctl) error
	Forget(ctx context.Context) error
	RemoveEarlier(ctx context.Context, l leaving) error
	RecordPath() string
}

// diff returns what brings have to w. The record of a sysctl is written before the sysctl is, so that
// a crash in between loses no original value.
func diff(w want, h have, d doer) []plan.Op {
	var ops []plan.Op
	set, remember, restore := diffSysctls(w.settings(h.Sysctls, h.sysctlIsOurs), h.Sysctls, h.Record.Sysctls)
	if len(remember) > 0 {
		ops = append(ops, writeOp(d, remember, nil))
	}
	for _, s := range set {
		ops = append(ops, sysctlOp(d, s))
	}
	for _, r := range restore {
		for _, s := range restoration(r, h.Sysctls) {
			ops = append(ops, sysctlOp(d, s))
		}
	}
	table := diffTable(w, h, d)
	ops = append(ops, table...)
	if len(restore) > 0 || len(table) > 0 || !h.OnDisk && len(remember) == 0 && (h.Recorded || !isEmpty(h.Record)) {
		ops = append(ops, writeOp(d, nil, restore))
	}
	for _, v := range variants {
		if f, ok := h.Forward[v]; ok && f.Usable {
			ops = append(ops, iptablesOps(d, v, diffForward(w.forwardRules(v), f))...)
		}
	}
	return append(ops, earlierOps(d, h.Earlier)...) // last: ours stand
}

func diffTable(w want, h have, d doer) []plan.Op {
	t, ok := w.table()
	switch {
	case ok && h.Record.Table == markOf(t, h.Listing):
		return nil
	case ok:
		lines := t.Commands()
		for i, l := range lines {
			lines[i] = "nft " + shellQuote(l)
		}
		return together(lines, func(ctx context.Context) error { return d.LoadTable(ctx, t) })
	case h.Listing != "":
		return deleteTable(d)
	}
	return nil
}

func deleteTable(d doer) []plan.Op {
	return []plan.Op{plan.Func{Text: fmt.Sprintf("nft delete table %s %s", tableFamily, tableName), Run: d.DeleteTable}}
}

// diffDown returns what removes everything this program made; keep leaves the sysctls, which whoever takes over needs.
func diffDown(h have, d doer, keep bool) []plan.Op {
	var ops []plan.Op
	for _, v := range variants {
		if f, ok := h.Forward[v]; ok && f.Usable {
			ops = append(ops, iptablesOps(d, v, diffForward(nil, f))...)
		}
	}
	if h.Listing != "" {
		ops = append(ops, deleteTable(d)...)
	}
	for _, r := range slices.Backward(h.Record.Sysctls) {
		if keep {
			break
		}
		for _, s := range restoration(r, h.Sysctls) {
			ops = append(ops, sysctlOp(d, s))
		}
	}
	if h.Recorded {
		ops = append(ops, plan.Func{Text: "remove " + d.RecordPath(), Run: d.Forget})
	}
	return ops
}

// markOf is the mark of a table that was loaded from t and is listed so.
func markOf(t nft.Table, listing string) state.MasqTable {
	return state.MasqTable{Text: digest(t.Replace()), Listing: digest(listing)}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func isEmpty(m state.Masq) bool { return m.Table == state.MasqTable{} && len(m.Sysctls) == 0 }

func writeOp(d doer, remember, forget []state.MasqSysctl) plan.Op {
	return plan.Func{Text: "write " + d.RecordPath(), Run: func(ctx context.Context) error {
		return d.Remember(ctx, remember, forget)
	}}
}

func sysctlOp(d doer, s setting) plan.Op {
	return plan.Func{
		Text: fmt.Sprintf("sysctl -w %s=%s", s.Name, s.Value),
		Run:  func(ctx context.Context) error { return d.SetSysctl(ctx, s) },
	}
}

func iptablesOps(d doer, v variant, commands []string) []plan.Op {
	lines := make([]string, len(commands))
	for i, c := range commands {
		lines[i] = v.Program + " " + c
	}
	return together(lines, func(ctx context.Context) error { return d.Iptables(ctx, v, commands) })
}

// together makes one operation a line of a transaction. The first does all of it, the others have
// happened with it.
func together(lines []string, run func(context.Context) error) []plan.Op {
	ops := make([]plan.Op, len(lines))
	for i, l := range lines {
		ops[i] = plan.Func{Text: l, Run: run}
		run = func(context.Context) error { return nil }
	}
	return ops
}

// shellQuote quotes a command of nft for a shell where that is needed. The commands hold no single
// quote: nft.Quote makes them only of double ones, and our comments have none.
func shellQuote(s string) string {
	if strings.ContainsAny(s, "\"{};&|!*?<>()$`\\#~") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
