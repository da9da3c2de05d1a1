package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/ruleset"
)

// policyOf makes a ruleset of texts like "set a type ipv4_addr|10.0.0.1|10.0.0.2" and "chain c|accept".
func policyOf(t *testing.T, objects ...string) *policy {
	t.Helper()
	p := &policy{}
	for _, text := range objects {
		parts := strings.Split(text, "|")
		words := strings.SplitN(parts[0], " ", 3)
		o := &ruleset.Object{ID: ruleset.ID{Family: "inet", Kind: ruleset.Kind(words[0]), Name: words[1]}, Lines: parts[1:]}
		if len(words) > 2 {
			o.Head = strings.Split(words[2], ", ")
		}
		s, err := scan(o.Family, ruleset.Digest(o.Text()), o.Text())
		if err != nil {
			t.Fatal(err)
		}
		s.path = o.Path()
		p.objects = append(p.objects, s)
	}
	return p
}

func TestDiff(t *testing.T) {
	const hash, verdict = "type ipv4_addr", "type ipv4_addr : verdict"
	for name, c := range map[string]struct {
		have, want []string
		commands   []string // without " inet towpath-policy"; nil: a full replacement
	}{
		"nothing": {[]string{"set a " + hash + "|1.1.1.1"}, []string{"set a " + hash + "|1.1.1.1"}, []string{}},
		"elements, deletions first": {
			[]string{"set a " + hash + `|1.1.1.1 comment "x"|1.1.1.3`},
			[]string{"set a " + hash + `|1.1.1.1 comment "y"|1.1.1.2|1.1.1.3`},
			[]string{`delete element a { 1.1.1.1 }`, `add element a { 1.1.1.1 comment "y" }`, `add element a { 1.1.1.2 }`},
		},
		"a verdict": {
			[]string{"chain c|drop", "map m " + verdict + `|fd00::1 comment "a : b" : goto c`},
			[]string{"chain d|accept", "map m " + verdict + `|fd00::1 comment "a : b" : goto d`},
			[]string{
				"add chain d", "add rule d accept", "delete element m { fd00::1 }", `add element m { fd00::1 comment "a : b" : goto d }`,
				"flush chain c", "delete chain c",
			},
		},
		"what is new before what refers to it, what goes after": {
			[]string{"set a " + hash + "|1.1.1.1", "chain p|ip saddr @a accept", "chain g|jump p|drop"},
			[]string{"set b " + hash + ", flags interval|1.1.1.0/24", `chain q comment "q"|ip saddr @b accept`, "chain g|jump q|drop"},
			[]string{
				"add set b { type ipv4_addr; flags interval; }", `add chain q { comment "q"; }`, "add element b { 1.1.1.0/24 }",
				"add rule q ip saddr @b accept", "delete rule g handle 0", "insert rule g handle 1 jump q",
				"flush chain p", "delete chain p", "delete set a",
			},
		},
		"rules at the end":      {[]string{"chain c|accept|drop"}, []string{"chain c|accept|counter|return"}, []string{"delete rule c handle 1", "add rule c counter", "add rule c return"}},
		"rules in the middle":   {[]string{"chain c|a|b|c"}, []string{"chain c|a|x|y|c"}, []string{"delete rule c handle 1", "insert rule c handle 2 x", "insert rule c handle 2 y"}},
		"all rules":             {[]string{"chain c|a|b"}, []string{"chain c|x"}, []string{"flush chain c", "add rule c x"}},
		"the same rule twice":   {[]string{"chain c|a"}, []string{"chain c|a|a"}, []string{"add rule c a"}},
		"a chain is emptied":    {[]string{"chain c|a"}, []string{"chain c"}, []string{"flush chain c"}},
		"another type":          {[]string{"set a " + hash}, []string{"set a type ipv6_addr"}, nil},
		"another comment":       {[]string{`chain c comment "x"|a`}, []string{`chain c comment "y"|a`}, nil},
		"the order of objects":  {[]string{"chain c|a", "chain d|b"}, []string{"chain d|b", "chain c|a"}, []string{}},
		"many go and many come": {many("a"), many("b"), slices.Concat(commandsOfMany("add chain b%", 20), commandsOfMany("flush chain a%", -20), commandsOfMany("delete chain a%", -20))},
	} {
		changes, ok := diff(policyOf(t, c.have...), policyOf(t, c.want...))
		if ok != (c.commands != nil) {
			t.Errorf("%s: ok is %v", name, ok)
		}
		got := []string{}
		for _, c := range changes {
			c.handle = uint64(c.at)
			got = append(got, strings.Replace(c.String(), " inet towpath-policy", "", 1))
		}
		if diff := cmp.Diff(c.commands, got); ok && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func many(prefix string) (objects []string) {
	objects = []string{"chain first"}
	for i := range 20 {
		objects = append(objects, "chain "+prefix+string(rune('a'+i)))
	}
	return append(objects, "chain last")
}

// commandsOfMany are n commands about those objects, backwards where n is negative.
func commandsOfMany(pattern string, n int) (commands []string) {
	for i := range max(n, -n) {
		commands = append(commands, strings.Replace(pattern, "%", string(rune('a'+i)), 1))
	}
	if n < 0 {
		slices.Reverse(commands)
	}
	return commands
}
