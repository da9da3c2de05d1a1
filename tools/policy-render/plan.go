package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/ruleset"
)

// unknown is a line of an object that holds something else.
const unknown = "\x00"

// diffObjects is what leads from one ruleset to another, as nft commands.
func diffObjects(have, want []*ruleset.Object) (commands []string) {
	add := func(format string, args ...any) {
		commands = append(commands, "nft "+quote(fmt.Sprintf(format, args...)))
	}
	old := map[ruleset.ID]*ruleset.Object{}
	for _, o := range have {
		old[o.ID] = o
	}
	for _, o := range want {
		was := old[o.ID]
		delete(old, o.ID)
		if was != nil && !slices.Equal(was.Head, o.Head) {
			add("delete %s", o.ID)
			was = nil
		}
		if was == nil {
			add("add %s%s", o.ID, declaration(o))
			was = o.Empty()
		}
		if o.Kind == ruleset.Chain {
			diffRules(was, o, add)
		} else {
			diffElements(was, o, add)
		}
	}
	for _, kind := range []ruleset.Kind{ruleset.Chain, ruleset.Map, ruleset.Set} { // what refers goes before what it refers to
		for _, o := range slices.Backward(have) {
			if old[o.ID] != nil && o.Kind == kind {
				add("delete %s", o.ID)
			}
		}
	}
	return commands
}

func declaration(o *ruleset.Object) string {
	if len(o.Head) == 0 {
		return ""
	}
	end := "; }"
	if strings.HasSuffix(o.Head[len(o.Head)-1], ";") {
		end = " }"
	}
	return " { " + strings.Join(o.Head, "; ") + end
}

func diffRules(was, o *ruleset.Object, add func(string, ...any)) {
	if slices.Equal(was.Lines, o.Lines) {
		return
	}
	if len(was.Lines) > 0 {
		add("flush %s", o.ID)
	}
	for _, l := range o.Lines {
		add("add rule %s %s %s %s", o.Family, ruleset.Table, o.Name, l)
	}
}

func diffElements(was, o *ruleset.Object, add func(string, ...any)) {
	in := fmt.Sprintf("%s %s %s", o.Family, ruleset.Table, o.Name)
	if slices.Equal(was.Lines, []string{unknown}) {
		add("flush %s", o.ID)
		was = o.Empty()
	}
	for _, l := range was.Lines {
		if _, stays := slices.BinarySearch(o.Lines, l); !stays {
			add("delete element %s { %s }", in, keyOf(l))
		}
	}
	for _, l := range o.Lines {
		if _, there := slices.BinarySearch(was.Lines, l); !there {
			add("add element %s { %s }", in, l)
		}
	}
}

// keyOf is an element without its comment and verdict.
func keyOf(line string) string {
	if key, _, ok := strings.Cut(line, ` comment "`); ok {
		return key
	}
	key, _, _ := strings.Cut(line, " : ")
	return key
}

// quote makes a word of the shell where the text is none that it leaves alone.
func quote(text string) string {
	if !strings.ContainsAny(text, "\"'`{}()[]<>$&;|*?!#~\\") {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
