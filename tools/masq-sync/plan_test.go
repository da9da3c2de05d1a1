package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// nobody is a doer that is asked for nothing but a path.
type nobody struct{}

var errAsked = errors.New("a plan was executed")

func (nobody) SetSysctl(context.Context, setting) error          { return errAsked }
func (nobody) LoadTable(context.Context, nft.Table) error        { return errAsked }
func (nobody) DeleteTable(context.Context) error                 { return errAsked }
func (nobody) Iptables(context.Context, variant, []string) error { return errAsked }
func (nobody) Remember(context.Context, []state.MasqSysctl, []state.MasqSysctl) error {
	return errAsked
}
func (nobody) Forget(context.Context) error                 { return errAsked }
func (nobody) RemoveEarlier(context.Context, leaving) error { return errAsked }
func (nobody) RecordPath() string                           { return "/run/towpath/masq.json" }

func texts(ops []plan.Op) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString(op.String() + "\n")
	}
	return b.String()
}

// settled is a node on which everything is as w asks.
func settled(w want) have {
	h := have{
		Forward: map[variant]forward{}, OnDisk: true, Recorded: true, Record: state.Masq{Version: 1},
		Sysctls: map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "1"},
	}
	if t, ok := w.table(); ok {
		h.Listing = "as nft lists it"
		h.Record.Table = markOf(t, h.Listing)
	}
	return h
}

func TestDiff(t *testing.T) {
	dual := mustWant(t, dualLease, defaults)
	table := strings.ReplaceAll(texts(diffTable(dual, have{}, nobody{})), "\n\n", "\n")
	const write = "write /run/towpath/masq.json\n"
	for name, c := range map[string]struct {
		want   want
		change func(*have)
		text   string
	}{
		"settled":             {dual, func(*have) {}, ""},
		"table gone":          {dual, func(h *have) { h.Listing = "" }, table + write},
		"table edited":        {dual, func(h *have) { h.Listing += "\n" }, table + write},
		"lease changed":       {dual, func(h *have) { h.Record.Table.Text = digest("another") }, table + write},
		"memory lost":         {dual, func(h *have) { h.Record, h.OnDisk, h.Recorded = state.Masq{}, false, false }, table + write},
		"memory file removed": {dual, func(h *have) { h.OnDisk, h.Recorded = false, false }, write},
		"nothing wanted any more": {
			mustWant(t, unmasqueraded(dualLease), options{BridgeNF: "auto"}), func(h *have) { h.Listing = "something" },
			"nft delete table inet towpath-masq\n" + write,
		},
		"forwarding off": {
			dual, func(h *have) { h.Sysctls["net/ipv4/ip_forward"] = "0" },
			write + "sysctl -w net/ipv4/ip_forward=1\n",
		},
		"forwarding switched off again": {
			dual, func(h *have) {
				h.Sysctls["net/ipv4/ip_forward"] = "0"
				h.Record.Sysctls = []state.MasqSysctl{{Name: "net/ipv4/ip_forward", Was: "0", Set: "1"}}
			},
			"sysctl -w net/ipv4/ip_forward=1\n",
		},
		"IPv6 forwarding off: first keep the learned routes": {
			dual, func(h *have) { h.Sysctls["net/ipv6/conf/all/forwarding"] = "0" },
			write + "sysctl -w net/ipv6/conf/eth0/accept_ra=2\nsysctl -w net/ipv6/conf/all/forwarding=1\n",
		},
		"IPv6 forwarding off, nothing learned": {
			dual, func(h *have) {
				h.Sysctls["net/ipv6/conf/all/forwarding"], h.Sysctls["net/ipv6/conf/eth0/accept_ra"] = "0", "0"
			},
			write + "sysctl -w net/ipv6/conf/all/forwarding=1\n",
		},
		"br_netfilter loaded": {
			dual, func(h *have) {
				h.Sysctls["net/bridge/bridge-nf-call-iptables"], h.Sysctls["net/bridge/bridge-nf-call-ip6tables"] = "0", "1"
			},
			write + "sysctl -w net/bridge/bridge-nf-call-iptables=1\n",
		},
		"bridge-nf off": {
			mustWant(t, dualLease, options{RandomFully: true, ForwardRules: true, BridgeNF: "off"}), func(h *have) {
				h.Sysctls["net/bridge/bridge-nf-call-iptables"] = "0"
			}, "",
		},
		"bridge-nf off now, was on": {
			mustWant(t, dualLease, options{RandomFully: true, ForwardRules: true, BridgeNF: "off"}), func(h *have) {
				h.Sysctls["net/bridge/bridge-nf-call-iptables"] = "1"
				h.Record.Sysctls = []state.MasqSysctl{{Name: "net/bridge/bridge-nf-call-iptables", Was: "0", Set: "1"}}
			}, "sysctl -w net/bridge/bridge-nf-call-iptables=0\n" + write,
		},
		"kernel without IPv6": {dual, func(h *have) {
			delete(h.Sysctls, "net/ipv6/conf/all/forwarding")
			delete(h.Sysctls, "net/ipv6/conf/eth0/accept_ra")
		}, ""},
		"chain of a family that is used no more": {
			mustWant(t, ipv4Lease, defaults), func(h *have) {
				h.Forward[variants[1]] = forward{Usable: true, Present: true, Forward: []string{jumpRule}}
			},
			"ip6tables-nft -D FORWARD " + jumpRule + "\nip6tables-nft -F TOWPATH-FWD\nip6tables-nft -X TOWPATH-FWD\n",
		},
		"program missing": {dual, func(h *have) { h.Forward[variants[0]] = forward{Missing: true} }, ""},
	} {
		h := settled(c.want)
		c.change(&h)
		if d := cmp.Diff(c.text, texts(diff(c.want, h, nobody{}))); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}

func TestDown(t *testing.T) {
	h := settled(mustWant(t, dualLease, defaults))
	h.Sysctls["net/ipv4/conf/all/accept_redirects"] = "1"
	h.Sysctls["net/bridge/bridge-nf-call-iptables"] = "0"
	h.Record.Sysctls = []state.MasqSysctl{
		{Name: "net/ipv6/conf/eth0/accept_ra", Was: "1", Set: "2"},       // changed since by another: it is 1
		{Name: "net/bridge/bridge-nf-call-iptables", Was: "0", Set: "1"}, // put back by another
		{Name: "net/ipv4/ip_forward", Was: "0", Set: "1", Also: map[string]string{
			"net/ipv4/conf/all/accept_redirects": "0", "net/ipv4/conf/gone0/forwarding": "1",
		}},
		{Name: "net/ipv6/conf/all/forwarding", Was: "0", Set: "1"},
	}
	h.Forward[variants[2]] = forward{Usable: true, Present: true, Forward: []string{jumpRule}}
	h.Forward[variants[3]] = forward{Usable: true}
	got := texts(diffDown(h, nobody{}, false))
	wanted := "iptables-legacy -D FORWARD " + jumpRule + `
iptables-legacy -F TOWPATH-FWD
iptables-legacy -X TOWPATH-FWD
nft delete table inet towpath-masq
sysctl -w net/ipv6/conf/all/forwarding=0
sysctl -w net/ipv4/ip_forward=0
sysctl -w net/ipv4/conf/all/accept_redirects=0
remove /run/towpath/masq.json
`
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got := texts(diffDown(have{}, nobody{}, false)); got != "" {
		t.Errorf("nothing of ours: %s", got)
	}
}

func change(generation uint32, objects ...nl.NFTObject) nl.NFTChange {
	c := nl.NFTChange{Generation: generation, Process: "test", Objects: map[nl.NFTObject]struct{}{}}
	for _, o := range objects {
		c.Objects[o] = struct{}{}
	}
	return c
}

var (
	ourTable = nl.NFTObject{Family: "inet", Table: "towpath-masq", Chain: "forward"}
	foreign  = nl.NFTObject{Family: "ip", Table: "kube-proxy", Chain: "services"}
)

func TestQuiet(t *testing.T) {
	var q quiet
	if q.covers(0, 5) || q.covers(7, 8) {
		t.Error("it knows of nothing, and still covers something")
	}
	for g := uint32(10); g < 20; g++ {
		if q.note(change(g, foreign)) {
			t.Fatalf("generation %d does not concern us", g)
		}
	}
	if !q.covers(9, 19) || !q.covers(12, 15) || !q.covers(19, 19) {
		t.Error("a run of foreign changes is not covered")
	}
	if q.covers(8, 12) || q.covers(15, 20) || q.covers(15, 12) {
		t.Error("what was not seen is covered")
	}
	if !q.note(change(20, foreign, ourTable)) || q.covers(19, 20) || q.covers(12, 15) {
		t.Error("a change of ours is covered")
	}
	q.note(change(21, foreign))
	if !q.covers(20, 21) {
		t.Error("after a change of ours no run starts")
	}
	q.note(change(25, foreign)) // 22 to 24 were missed
	if q.covers(21, 25) || !q.covers(24, 25) {
		t.Error("a gap is covered")
	}
	if !q.note(nl.NFTChange{Lost: true}) || q.covers(24, 25) {
		t.Error("a loss is no concern")
	}
	q.note(change(1<<32-1, foreign)) // generations wrap
	q.note(change(0, foreign))
	if !q.covers(1<<32-2, 0) || q.covers(1<<32-3, 0) {
		t.Error("wrapped generations")
	}
}

func TestConcerns(t *testing.T) {
	for o, wanted := range map[nl.NFTObject]bool{
		ourTable: true, {Family: "inet", Table: "towpath-masq"}: true,
		{Family: "ip", Table: "filter", Chain: "FORWARD"}:      true,
		{Family: "ip6", Table: "filter", Chain: "TOWPATH-FWD"}: true,
		{Family: "ip", Table: "filter", Chain: "KUBE-FORWARD"}: false,
		{Family: "ip", Table: "towpath-masq"}:                  false,
		{Family: "inet", Table: "filter", Chain: "FORWARD"}:    false,
		foreign: false,
	} {
		if concerns(o) != wanted {
			t.Errorf("%+v: %v", o, !wanted)
		}
	}
}

// TestPace: a lone hint is given at once; a storm of them is given ever more slowly, and none is lost.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &step{machine: machine{log: slog.New(slog.DiscardHandler)}}
		changes, switched, out := make(chan nl.NFTChange), make(chan struct{}), make(chan string)
		go s.pace(ctx, changes, switched, out)
		<-time.After(time.Hour)
		start := time.Now()
		changes <- change(1, foreign)
		changes <- change(2, ourTable)
		if reason := <-out; reason != "nftables changed by test" || time.Since(start) != 0 {
			t.Errorf("%q after %v", reason, time.Since(start))
		}
		hints := 0
		for start := time.Now(); time.Since(start) < 10*time.Second; {
			changes <- change(3, ourTable)
			select {
			case <-out:
				hints++
			case <-time.After(time.Millisecond):
			}
		}
		if hints < 18 || hints > 30 {
			t.Errorf("%d hints in 10 s of a storm", hints)
		}
		start = time.Now()
		switched <- struct{}{}
		if reason := <-out; reason != "forwarding changed" || time.Since(start) > pauseMax {
			t.Errorf("%q after %v", reason, time.Since(start))
		}
		cancel()
		synctest.Wait()
	})
}
