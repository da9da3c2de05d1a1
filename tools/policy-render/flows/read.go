package flows

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Table is what is needed of a *nl.Conntrack.
type Table interface {
	Flows(of []netip.Addr, f func(nl.Flow)) error
	Flow(t nl.Tuple, zone uint16) (nl.Flow, bool, error)
	Marked(bits uint32, f func(nl.Flow)) error
	Apply(changes []nl.Change) []error
}

// mastersMax bounds how far masters of masters are followed.
const mastersMax = 4

// Read returns the flows that one of the addresses is an end of, each with the one it is judged by.
func Read(table Table, of []netip.Addr) ([]Found, error) {
	if len(of) == 0 {
		return nil, nil
	}
	var found []Found
	if err := table.Flows(of, func(f nl.Flow) { found = append(found, Found{f, f}) }); err != nil {
		return nil, err
	}
	for i := range found {
		f := &found[i]
		for range mastersMax {
			if !f.As.Master.Src.IsValid() {
				break
			}
			master, ok, err := table.Flow(f.As.Master, f.As.Zone)
			if err != nil {
				return nil, err
			}
			if !ok { // it has ended: the flow is judged alone
				break
			}
			f.As = master
		}
	}
	slices.SortFunc(found, func(a, b Found) int { return compare(a.Orig, b.Orig) })
	return found, nil
}

func compare(a, b nl.Tuple) int {
	return cmp.Or(a.Src.Compare(b.Src), a.Dst.Compare(b.Dst), cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.SrcPort, b.SrcPort), cmp.Compare(a.DstPort, b.DstPort), cmp.Compare(a.ICMPID, b.ICMPID))
}

// Addrs are the addresses of pods.
func Addrs(pods []*model.LocalPod) []netip.Addr {
	var addrs []netip.Addr
	for _, p := range pods {
		addrs = append(addrs, p.IPs...)
	}
	return addrs
}

// Affected are the addresses whose flows a change may judge in another way: those of local pods that came, went or
// have other policies, or one that says something else; and those that a set in use took in or let go, wherever
// their pods are. The first costs the flows of these pods; the second, which is what happens all the time, those of the
// pods that came and went, not of all that a policy with such a set isolates.
func Affected(judge Judge, d model.Delta) []netip.Addr {
	addrs := append(Addrs(d.Pods), d.Moved...)
	if len(d.Policies) > 0 {
		changed := make(map[model.Key]bool, len(d.Policies))
		for _, k := range d.Policies {
			changed[k] = true
		}
		for _, p := range judge.LocalPods() {
			if slices.ContainsFunc(slices.Concat(p.Policies[0], p.Policies[1]), func(q *model.Policy) bool { return changed[q.Key] }) {
				addrs = append(addrs, p.IPs...)
			}
		}
	}
	return addrs
}

// Cleared returns what takes bits out of every mark that has all of them.
func Cleared(table Table, bits uint32) ([]nl.FlowMark, error) {
	var marks []nl.FlowMark
	err := table.Marked(bits, func(f nl.Flow) { marks = append(marks, nl.FlowMark{Flow: f, Mask: bits}) })
	slices.SortFunc(marks, func(a, b nl.FlowMark) int { return compare(a.Flow.Orig, b.Flow.Orig) })
	return marks, err
}

// Ops are the changes as operations; many are made in one write.
func Ops(table Table, marks []nl.FlowMark) []plan.Op {
	ops := make([]plan.Op, len(marks))
	for i, m := range marks {
		ops[i] = op{m, table}
	}
	return ops
}

type op struct {
	nl.FlowMark
	table Table
}

func (o op) Do(ctx context.Context) error { return o.DoMany(ctx, []plan.Op{o})[0] }

// Joins is plan.Many.
func (o op) Joins(next plan.Op) bool { n, ok := next.(op); return ok && n.table == o.table }

// DoMany is plan.Many.
func (o op) DoMany(_ context.Context, ops []plan.Op) []error {
	changes := make([]nl.Change, len(ops))
	for i, p := range ops {
		changes[i] = p.(op).FlowMark
	}
	return o.table.Apply(changes)
}
