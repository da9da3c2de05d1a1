package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Difference is what a change of objects allows and forbids between the pods that there are before and after it.
type Difference struct {
	Version int      `json:"version"`
	Allowed []Change `json:"allowed"` // newly
	Denied  []Change `json:"denied"`
	// OnlyOld and OnlyNew are pods that are in one of the two only; they are not compared.
	OnlyOld []string `json:"onlyOld,omitempty"`
	OnlyNew []string `json:"onlyNew,omitempty"`

	sizes map[string]int // pods of each namespace that are compared
	total int
}

// Change is one such thing: everyone of From to everyone of To. A pod to itself is never meant.
type Change struct {
	From     Ends           `json:"from"`
	To       Ends           `json:"to"`
	Families []state.Family `json:"families"` // as far as both ends have them
	Ports    []PortRange    `json:"ports"`

	text  string
	whole bool // there is no other for the other family
}

// Ends are pods (NAMESPACE/NAME) and addresses that no pod has, in words.
type Ends struct {
	Pods      []string `json:"pods,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

// PortRange is a range of ports, both ends included; 0 to 65535 is every port. Protocol "other" is each but TCP, UDP
// and SCTP.
type PortRange struct {
	Protocol string `json:"protocol"`
	From     uint16 `json:"from"`
	To       uint16 `json:"to"`
}

func (p Ports) list() []PortRange {
	out := []PortRange{}
	for i, spans := range p {
		name := "other"
		if i < len(protocols) {
			name = protocols[i].String()
		}
		for _, s := range spans {
			out = append(out, PortRange{name, s.from, s.to})
		}
	}
	return out
}

// Diff compares two clusters.
func Diff(old, now *Setting) *Difference {
	d := &Difference{Version: 1, sizes: map[string]int{}}
	var pods []model.Key
	before, after := old.subjects(), now.subjects()
	in := map[model.Key]bool{}
	for _, k := range after {
		in[k] = true
	}
	for _, k := range before {
		if !in[k] {
			d.OnlyOld = append(d.OnlyOld, k.String())
			continue
		}
		delete(in, k)
		pods = append(pods, k)
		d.sizes[k.Namespace]++
		d.total++
	}
	for _, k := range slices.SortedFunc(maps.Keys(in), compareKeys) {
		d.OnlyNew = append(d.OnlyNew, k.String())
	}
	reaches := []*reach{newReach(old), newReach(now)}
	classes := classify(reaches, pods, everywhere)
	var allowed, denied []*cell
	type change struct{ gained, lost Ports }
	changes := map[[2]int]change{} // by what was allowed and what is
	for i, from := range classes {
		for j, to := range classes {
			if i == j && len(from.pods) < 2 || len(from.pods)+len(to.pods) == 0 {
				continue
			}
			var gained, lost cell
			for f := range state.Families {
				key := [2]int{reaches[0].between(f, from.views[0], to.views[0]), reaches[1].between(f, from.views[1], to.views[1])}
				c, ok := changes[key]
				if !ok {
					was, is := reaches[0].all[key[0]], reaches[1].all[key[1]]
					c = change{is.minus(was), was.minus(is)}
					changes[key] = c
				}
				gained.ports[f], lost.ports[f] = c.gained, c.lost
			}
			// Of a family that an end does not have anything may be said: the same makes one line of two.
			for f := range state.Families {
				gained.real[f] = common(from, to, f)
				lost.real[f] = gained.real[f]
				if !gained.real[f] && common(from, to, 1-f) {
					gained.ports[f], lost.ports[f] = gained.ports[1-f], lost.ports[1-f]
				}
			}
			allowed = gained.appendTo(allowed, i, j)
			denied = lost.appendTo(denied, i, j)
		}
	}
	d.Allowed, d.Denied = group(allowed, classes), group(denied, classes)
	return d
}

// common says whether both ends have an address of the family, before or after.
func common(from, to *class, f int) bool {
	for i := range from.views {
		if from.views[i].has[f] && to.views[i].has[f] {
			return true
		}
	}
	return false
}

// cell is what changed from some classes to some classes.
type cell struct {
	from, to []int
	ports    [2]Ports
	real     [2]bool // families that two of the ends have
}

func (c cell) appendTo(list []*cell, from, to int) []*cell {
	if c.ports[0].Empty() && c.ports[1].Empty() {
		return list
	}
	c.from, c.to = []int{from}, []int{to}
	return append(list, &c)
}

// group joins cells: first those that differ only in their source, then those that differ only in their destination.
func group(cells []*cell, classes []*class) []Change {
	join := func(key func(*cell) string, add func(into, c *cell)) {
		known := map[string]*cell{}
		var out []*cell
		for _, c := range cells {
			k := key(c)
			if into := known[k]; into != nil {
				add(into, c)
				into.real = [2]bool{into.real[0] || c.real[0], into.real[1] || c.real[1]}
				continue
			}
			known[k] = c
			out = append(out, c)
		}
		cells = out
	}
	ports := func(c *cell) string { return fmt.Sprint(c.ports) }
	join(func(c *cell) string { return fmt.Sprint(ports(c), c.to) }, func(into, c *cell) { into.from = append(into.from, c.from...) })
	join(func(c *cell) string { return fmt.Sprint(ports(c), c.from) }, func(into, c *cell) { into.to = append(into.to, c.to...) })
	out := []Change{}
	ends := func(of []int) Ends {
		list := make([]*class, len(of))
		for i, n := range of {
			list[i] = classes[n]
		}
		pods, blocks := names(list)
		e := Ends{Addresses: blocks}
		for _, p := range pods {
			e.Pods = append(e.Pods, p.String())
		}
		return e
	}
	for _, c := range cells {
		change := Change{From: ends(c.from), To: ends(c.to)}
		for f, family := range state.Families {
			if c.ports[f].Empty() || !c.real[f] {
				continue
			}
			one := change
			one.Families, one.Ports, one.text = []state.Family{family}, c.ports[f].list(), c.ports[f].String()
			one.whole = c.ports[f].String() == c.ports[1-f].String()
			if n := len(out); f == 1 && c.real[0] && one.whole {
				out[n-1].Families = state.Families[:]
				continue
			}
			out = append(out, one)
		}
	}
	return out
}

// endsMax is how many pods a line of text names.
const endsMax = 6

// Text is the difference for a person; empty where nothing changes.
func (d *Difference) Text() string {
	var b strings.Builder
	section := func(title string, list []Change) {
		if len(list) == 0 {
			return
		}
		b.WriteString(title + ":\n")
		for _, c := range list {
			family := ""
			if !c.whole {
				family = map[state.Family]string{state.IPv4: " over IPv4", state.IPv6: " over IPv6"}[c.Families[0]]
			}
			fmt.Fprintf(&b, "  %s -> %s: %s%s\n", d.endsWords(c.From), d.endsWords(c.To), c.text, family)
		}
	}
	section("newly allowed", d.Allowed)
	section("newly denied", d.Denied)
	for _, only := range []struct {
		which string
		pods  []string
	}{{"old", d.OnlyOld}, {"new", d.OnlyNew}} {
		if len(only.pods) > 0 {
			fmt.Fprintf(&b, "only in the %s objects, not compared: %s\n", only.which, listed(only.pods))
		}
	}
	return b.String()
}

func (d *Difference) endsWords(e Ends) string {
	var out []string
	if len(e.Pods) == d.total && d.total > 1 {
		out = append(out, fmt.Sprintf("all %d pods", d.total))
	} else {
		by := map[string][]string{}
		for _, p := range e.Pods {
			ns, _, _ := strings.Cut(p, "/")
			by[ns] = append(by[ns], p)
		}
		var whole, pods []string
		for _, ns := range slices.Sorted(maps.Keys(by)) {
			if n := len(by[ns]); n == d.sizes[ns] && n > 1 {
				whole = append(whole, ns)
			} else {
				pods = append(pods, by[ns]...)
			}
		}
		switch {
		case len(whole) == 1:
			out = append(out, fmt.Sprintf("all %d pods of %s", d.sizes[whole[0]], whole[0]))
		case len(whole) > 1:
			out = append(out, "all pods of "+listed(whole))
		}
		if len(pods) > 0 {
			out = append(out, listed(pods))
		}
	}
	words := strings.Join(out, ", ")
	if len(e.Addresses) > 0 {
		if words != "" {
			words += " and "
		}
		words += "addresses of no pod in " + strings.Join(e.Addresses, " and ")
	}
	return words
}

func listed(names []string) string {
	if len(names) > endsMax+1 {
		return strings.Join(names[:endsMax], ", ") + fmt.Sprintf(" and %d more", len(names)-endsMax)
	}
	return strings.Join(names, ", ")
}
