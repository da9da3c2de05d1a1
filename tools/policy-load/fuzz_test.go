package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/ruleset"
)

// FuzzScan: what is read is what ruleset.Parse reads, and its lines are all there.
func FuzzScan(f *testing.F) {
	for _, o := range newWorld(4, 3, 4, 3).render() {
		f.Add(o.Text())
	}
	f.Add([]byte("# a\n\tset a {\n\t\telements = {\n\t\t\tx,\n\t\t}\n\t}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := scan("inet", "", data)
		want, werr := ruleset.Parse("inet", data)
		if werr == nil && err != nil {
			t.Fatalf("%q: refused: %v", data, err)
		}
		if werr != nil || err != nil {
			return
		}
		var lines []string
		for line := range o.lines() {
			lines = append(lines, string(line))
		}
		if o.ID != want.ID || strings.Join(lines, "\n") != strings.Join(want.Lines, "\n") || strings.Join(o.head, "\n") != strings.Join(want.Head, "\n") || o.count != len(want.Lines) {
			t.Fatalf("%q: %+v, %q", data, o, lines)
		}
		if len(lines) > 0 {
			if at := bytes.Split(data, []byte("\n"))[o.first-1]; !bytes.Contains(at, []byte(lines[0])) {
				t.Fatalf("line %d is %q, not %q", o.first, at, lines[0])
			}
		}
	})
}

// FuzzCompileRule: no line makes it panic, and what it takes has nothing that could end a command.
func FuzzCompileRule(f *testing.F) {
	for _, o := range newWorld(4, 3, 4, 3).render() {
		if o.Kind == ruleset.Chain {
			for _, line := range o.Lines {
				f.Add(o.Family, line)
			}
		}
	}
	f.Add("bridge", "ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } iifname @ports goto advert")
	f.Add("inet", "ct state vmap { established : goto established, invalid : drop } comment \"a\"")
	f.Fuzz(func(t *testing.T, family, line string) {
		r, exprs, err := compileRule(family, line, 0)
		if err == nil && len(exprs) == 0 && r.comment == "" {
			t.Errorf("%q is nothing", line)
		}
	})
}

// FuzzElement: no element makes it panic, and a key has the size of its type.
func FuzzElement(f *testing.F) {
	for _, o := range newWorld(4, 3, 4, 3).render() {
		if o.Kind != ruleset.Chain {
			for _, line := range o.Lines {
				f.Add(strings.Join(o.Head, "\n"), line)
			}
		}
	}
	f.Add("type ifname . ether_addr . ipv4_addr", `"veth1" . 02:00:00:00:00:01 . 10.0.0.1`)
	f.Add(raw, `"veth1" . 02:00:00:00:00:01 . 0xfd000000000000000000000000000001`)
	f.Fuzz(func(t *testing.T, head, line string) {
		for _, kind := range []ruleset.Kind{ruleset.Set, ruleset.Map} {
			typ, err := typeOf(&object{ID: ruleset.ID{Kind: kind}, head: strings.Split(head, "\n")})
			if err != nil {
				continue
			}
			e, err := parseElement(typ, line)
			if err == nil && (len(e.from) != typ.key.size || len(e.to) != typ.key.size) {
				t.Errorf("%q of %q: %x to %x", line, head, e.from, e.to)
			}
		}
	})
}

// FuzzDiff: the changes that diff finds, done to the old lines, give the new ones.
func FuzzDiff(f *testing.F) {
	seeds := [][2]string{{"a\nb\nc", "a\nc\nd"}, {"accept", "accept\naccept"}, {"drop", "a"}, {"ab\nb", "b"}}
	chain := func(text string) *object {
		o := &ruleset.Object{ID: ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: "c"}, Lines: strings.Split(text, "\n")}
		s, err := scan(o.Family, ruleset.Digest(o.Text()), o.Text())
		if err != nil || s.count != len(o.Lines) {
			return nil // a line that is no rule
		}
		s.path = "c"
		return s
	}
	for _, s := range seeds {
		f.Add(s[0], s[1])
		if chain(s[0]) == nil || chain(s[1]) == nil {
			f.Fatalf("%q: not made of rules, so nothing would be tried", s)
		}
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		old, o := chain(before), chain(after)
		if old == nil || o == nil {
			return
		}
		changes, ok := diff(&policy{objects: []*object{old}}, &policy{objects: []*object{o}})
		if !ok {
			t.Fatal("a full replacement")
		}
		var have []string // lines by handle; a handle of 0 is new
		var handles []int
		for line := range old.lines() {
			have = append(have, string(line))
			handles = append(handles, len(handles)+1)
		}
		at := func(c change) int {
			for i, h := range handles {
				if h == c.at+1 {
					return i
				}
			}
			t.Fatalf("%v: rule %d is gone", c, c.at)
			return 0
		}
		for _, c := range changes {
			switch c.verb {
			case flushChain:
				have, handles = nil, nil
			case deleteRule:
				i := at(c)
				have, handles = append(have[:i:i], have[i+1:]...), append(handles[:i:i], handles[i+1:]...)
			case insertRule:
				i := at(c)
				have = append(have[:i:i], append([]string{string(c.line)}, have[i:]...)...)
				handles = append(handles[:i:i], append([]int{0}, handles[i:]...)...)
			case addRule:
				have, handles = append(have, string(c.line)), append(handles, 0)
			default:
				t.Fatalf("%v", c)
			}
		}
		if got := strings.Join(have, "\n"); got != after {
			t.Errorf("%q to %q: %q\n%s", before, after, got, script(changes))
		}
	})
}
