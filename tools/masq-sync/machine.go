package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/command"
	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/sysctl"
)

// machine is the node: it makes the changes of a plan.
type machine struct {
	dir    state.Dir
	log    *slog.Logger
	record state.Masq
	seen   seen
}

func (m *machine) RecordPath() string { return m.dir.Masq() }

func (m *machine) SetSysctl(_ context.Context, s setting) error {
	old, err := sysctl.Get(s.Name)
	if err != nil {
		return err
	}
	if err := sysctl.Set(s.Name, s.Value); err != nil {
		return err
	}
	m.log.Info("set sysctl", "name", s.Name, "old", old, "new", s.Value, "why", s.Why)
	return nil
}

// LoadTable replaces the table and remembers how nft lists it. Another transaction between the load
// and the listing could have changed the table again; generation ids tell, and then it is done again.
func (m *machine) LoadTable(ctx context.Context, t nft.Table) error {
	last := ""
	for range 5 {
		before, err := nl.NFTGeneration()
		if err != nil {
			return err
		}
		if err := nft.Load(ctx, t.Replace()); err != nil {
			return err
		}
		listing, err := nft.List(ctx, tableFamily, tableName)
		if err != nil {
			return err
		}
		after, err := nl.NFTGeneration()
		if err != nil {
			return err
		}
		mark := markOf(t, listing)
		// On a busy node the generation never stands still: then what was listed twice will do.
		if alone := after == before+1; alone || listing == last || mark == m.record.Table {
			m.record.Table = mark
			if alone {
				m.seen.loaded(before, after, listing)
			}
			return nil
		}
		last = listing
	}
	return exit.WithHint(exit.Errorf(exit.TryAgain, "another program changes the table while it is loaded"),
		"nft monitor shows which")
}

func (m *machine) DeleteTable(ctx context.Context) error {
	if err := nft.Load(ctx, fmt.Sprintf("delete table %s %s\n", tableFamily, tableName)); err != nil {
		return err
	}
	m.record.Table = state.MasqTable{}
	return nil
}

// Iptables executes the commands on a variant's filter table as one transaction.
func (m *machine) Iptables(ctx context.Context, v variant, commands []string) error {
	return m.restore(ctx, v, "filter", commands)
}

func (m *machine) restore(ctx context.Context, v variant, table string, commands []string) error {
	args := []string{"-n"} // keep what is not ours
	if v.Legacy {
		args = append(args, lockArgs...)
	}
	input := "*" + table + "\n" + strings.Join(commands, "\n") + "\nCOMMIT\n"
	_, err := runIptables(ctx, v.Program+"-restore", input, args...)
	return err
}

func (m *machine) Remember(_ context.Context, changed, forget []state.MasqSysctl) error {
	m.record.Version = state.Version
	m.record.Sysctls = without(m.record.Sysctls, forget)
	for _, s := range changed {
		s.Also = sideEffects(s)
		m.record.Sysctls = append(m.record.Sysctls, s)
	}
	_, err := state.Save(m.RecordPath(), m.record)
	return err
}

func (m *machine) Forget(context.Context) error {
	m.record = state.Masq{}
	_, err := state.Remove(m.RecordPath())
	return err
}

// sideEffects are the parameters that the kernel sets along with a forwarding switch, and that would
// have another value than now after the switch was put back. (ip-sysctl: "its change resets all
// configuration parameters to their default state".)
func sideEffects(s state.MasqSysctl) map[string]string {
	also := map[string]string{}
	note := func(name, comesBackAs string) {
		if value, err := sysctl.Get(name); err == nil && value != comesBackAs {
			also[name] = value
		}
	}
	root := ""
	switch s.Name {
	case forwarding[state.IPv4]:
		root = "net/ipv4/conf"
		if s.Was == "0" {
			note("net/ipv4/conf/all/accept_redirects", "1")
		}
	case forwarding[state.IPv6]:
		root = "net/ipv6/conf"
	default:
		return nil
	}
	devices, err := os.ReadDir(filepath.Join(sysctl.Root, root))
	if err != nil {
		return also
	}
	for _, d := range devices {
		if d.Name() != "all" {
			note(filepath.Join(root, d.Name(), "forwarding"), s.Was)
		}
	}
	return also
}

// loadRecord reads masq.json; a missing one is an empty record.
func (m *machine) loadRecord() error {
	record, err := state.Load[state.Masq](m.RecordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return exit.WithHint(err, "remove the file to let masq-sync start anew; sysctls it changed then stay as they are")
	}
	m.record = record
	return nil
}

// recordOnDisk says whether masq.json holds the record, and whether it is there at all.
func (m *machine) recordOnDisk() (same, there bool) {
	data, err := os.ReadFile(m.RecordPath())
	if err != nil {
		return false, false
	}
	record, err := state.Marshal(m.record)
	return err == nil && bytes.Equal(record, data), true
}

// lockArgs wait for the lock that legacy iptables share, seconds.
var lockArgs = []string{"-w", "5"}

// runIptables runs one of the iptables programs and returns its output.
func runIptables(ctx context.Context, program, stdin string, args ...string) (string, error) {
	out, err := command.Output(ctx, "iptables", stdin, program, args...)
	var failed *command.Failed
	if !errors.As(err, &failed) {
		return out, err
	}
	lines := slices.DeleteFunc(strings.Split(failed.Stderr, "\n"), func(l string) bool {
		return l == "" || strings.HasPrefix(l, "#") || strings.HasPrefix(l, "Try `")
	})
	code := exit.Refused
	if failed.ExitError.ExitCode() == 4 { // RESOURCE_PROBLEM: another one holds the lock
		code = exit.TryAgain
	}
	return "", exit.Errorf(code, "%s: %s", failed.ExitError, strings.Join(lines, "; "))
}
