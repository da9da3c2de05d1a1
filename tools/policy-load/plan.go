package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/ruleset"
)

// verb is what a change does.
type verb uint8

const (
	addObject verb = iota
	deleteObject
	flushChain
	addElement
	deleteElement
	addRule    // at the end of its chain
	insertRule // before the rule that is number at of the chain as it is
	deleteRule // the rule that is number at of the chain as it is
)

// change is one command of a transaction.
type change struct {
	verb   verb
	object *object // its file has line
	line   []byte  // the element or rule
	number int     // of line in its file, from 1; 0: none
	at     int     // see insertRule and deleteRule
	of     int     // how many rules that chain has
	handle uint64  // of the rule at, once it is known
}

// String is the change as a command of nft.
func (c change) String() string {
	id := c.object.ID
	in := fmt.Sprintf("%s %s %s", id.Family, ruleset.Table, id.Name)
	switch c.verb {
	case addObject:
		return "add " + id.String() + c.object.declaration()
	case deleteObject:
		return "delete " + id.String()
	case flushChain:
		return "flush " + id.String()
	case addElement:
		return fmt.Sprintf("add element %s { %s }", in, c.line)
	case deleteElement:
		return fmt.Sprintf("delete element %s { %s }", in, keyOf(c.line))
	case insertRule:
		return fmt.Sprintf("insert rule %s handle %d %s", in, c.handle, c.line)
	case deleteRule:
		return fmt.Sprintf("delete rule %s handle %d", in, c.handle)
	}
	return fmt.Sprintf("add rule %s %s", in, c.line)
}

// keyOf is an element without its comment and verdict.
func keyOf(line []byte) []byte {
	if key, _, ok := bytes.Cut(line, []byte(` comment "`)); ok {
		return key
	}
	key, _, _ := bytes.Cut(line, []byte(" : "))
	return key
}

// diff returns what leads from one ruleset to another, in an order that the kernel takes as one transaction: what is
// new before what refers to it, what goes after all that referred to it. ok is false where it takes a full
// replacement: an object was declared anew under the same name.
func diff(have, want *policy) (changes []change, ok bool) {
	var d differ
	at, gone := align(have.objects, want.objects, objectPath, objectPath)
	for i, o := range want.objects {
		if at[i] < 0 {
			d.objects = append(d.objects, change{verb: addObject, object: o})
			d.fill(o)
			continue
		}
		switch old := have.objects[at[i]]; {
		case o == old || o.digest == old.digest:
		case !o.sameHead(old):
			return nil, false
		case o.Kind == ruleset.Chain:
			d.chain(old, o)
		default:
			d.elements(old, o)
		}
	}
	for _, i := range slices.Backward(gone) { // what is deleted first referred to what follows
		o := have.objects[i]
		if o.Kind == ruleset.Chain {
			d.emptied = append(d.emptied, change{verb: flushChain, object: o})
			d.chains = append(d.chains, change{verb: deleteObject, object: o})
		} else {
			d.sets = append(d.sets, change{verb: deleteObject, object: o})
		}
	}
	for _, part := range [][]change{d.objects, d.members, d.rules, d.verdicts, d.emptied, d.chains, d.sets} {
		changes = append(changes, part...)
	}
	return changes, true
}

// differ collects changes by when they are due.
type differ struct {
	objects  []change // sets, maps and chains are made, empty
	members  []change // elements of sets
	rules    []change
	verdicts []change // elements of maps
	emptied  []change // chains that go
	chains   []change // deleted
	sets     []change // deleted, maps too
}

func (d *differ) member(c change) {
	if c.object.Kind == ruleset.Map {
		d.verdicts = append(d.verdicts, c)
	} else {
		d.members = append(d.members, c)
	}
}

// fill is the contents of a new object.
func (d *differ) fill(o *object) {
	number := o.first
	for line := range o.lines() {
		if o.Kind == ruleset.Chain {
			d.rules = append(d.rules, change{verb: addRule, object: o, line: line, number: number})
		} else {
			d.member(change{verb: addElement, object: o, line: line, number: number})
		}
		number++
	}
}

// elements removes first: a range may grow into the place of another, and a verdict that changes is one element
// that goes and one that comes.
func (d *differ) elements(old, o *object) {
	a, b, number := trim(old, o)
	var added []change
	for len(a) > 0 || len(b) > 0 {
		var x, y, restA, restB []byte
		if len(a) > 0 {
			x, restA = old.cut(a)
		}
		if len(b) > 0 {
			y, restB = o.cut(b)
		}
		order := bytes.Compare(x, y)
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		}
		if order < 0 {
			d.member(change{verb: deleteElement, object: o, line: x})
		}
		if order > 0 {
			added = append(added, change{verb: addElement, object: o, line: y, number: number})
		}
		if order <= 0 {
			a = restA
		}
		if order >= 0 {
			b = restB
			number++
		}
	}
	for _, c := range added {
		d.member(c)
	}
}

// chain keeps the rules at the beginning and the end that did not change, with their counters.
func (d *differ) chain(old, o *object) {
	a, b, number := trim(old, o)
	before := number - o.first
	gone := bytes.Count(a, []byte("\n"))
	after := old.count - before - gone
	if len(a) == 0 && len(b) == 0 { // notes changed
		return
	}
	if before == 0 && after == 0 {
		d.rules = append(d.rules, change{verb: flushChain, object: o})
	} else {
		for i := range gone {
			d.rules = append(d.rules, change{verb: deleteRule, object: o, at: before + i, of: old.count})
		}
	}
	for line := range o.linesOf(b) {
		c := change{verb: addRule, object: o, line: line, number: number}
		if after > 0 {
			c.verb, c.at, c.of = insertRule, before+gone, old.count
		}
		d.rules = append(d.rules, c)
		number++
	}
}

// trim returns the bodies of two objects without the lines at their beginning and their end that are the same, and
// the number in b's file of the first line that is left.
func trim(old, o *object) (a, b []byte, number int) {
	a, b = old.body, o.body
	n := min(len(a), len(b))
	same := 0
	for same < n && a[same] == b[same] {
		same++
	}
	same = bytes.LastIndexByte(a[:same], '\n') + 1
	number = o.first + bytes.Count(a[:same], []byte("\n"))
	a, b = a[same:], b[same:]
	n = min(len(a), len(b))
	same = 0
	for same < n && a[len(a)-1-same] == b[len(b)-1-same] {
		same++
	}
	// The tail begins after the first line end in it, unless it is all of one of them and the other has a line end
	// just before.
	starts := func(text []byte) bool { return same == len(text) || text[len(text)-same-1] == '\n' }
	if !starts(a) || !starts(b) {
		i := bytes.IndexByte(a[len(a)-same:], '\n')
		same -= i + 1 // i is -1 where same is 0
	}
	return a[:len(a)-same], b[:len(b)-same], number
}

// commands is the whole ruleset as commands of nft, as a full replacement makes it.
func commands(p *policy) string {
	var b strings.Builder
	b.WriteString(ruleset.Clear())
	for _, o := range p.objects {
		b.WriteString(change{verb: addObject, object: o}.String() + "\n")
		verb := addElement
		if o.Kind == ruleset.Chain {
			verb = addRule
		}
		for line := range o.lines() {
			b.WriteString(change{verb: verb, object: o, line: line}.String() + "\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// script is changes as nft reads them.
func script(changes []change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}
