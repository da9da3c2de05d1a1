package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/ruleset"
)

func TestDiffObjects(t *testing.T) {
	id := func(kind ruleset.Kind, name string) ruleset.ID {
		return ruleset.ID{Family: "inet", Kind: kind, Name: name}
	}
	have := []*ruleset.Object{
		{ID: id(ruleset.Set, "same"), Head: []string{"type ipv4_addr"}, Lines: []string{"10.0.0.1"}},
		{ID: id(ruleset.Set, "members"), Head: []string{"type ipv4_addr"}, Lines: []string{`10.0.0.1 comment "a/b"`, `10.0.0.2 comment "a/c"`}},
		{ID: id(ruleset.Set, "other-type"), Head: []string{"type ipv4_addr"}, Lines: []string{"10.0.0.1"}},
		{ID: id(ruleset.Set, "gone"), Head: []string{"type ipv4_addr"}},
		{ID: id(ruleset.Chain, "rules"), Lines: []string{"accept"}},
		{ID: id(ruleset.Map, "verdicts"), Head: []string{"type ipv4_addr : verdict"}, Lines: []string{`10.0.0.1 comment "a/b" : accept`}},
		{ID: id(ruleset.Set, "foreign"), Head: []string{"type ipv4_addr"}, Lines: []string{unknown}},
		{ID: id(ruleset.Chain, "left"), Lines: []string{"jump rules"}},
	}
	want := []*ruleset.Object{
		{ID: id(ruleset.Set, "foreign"), Head: []string{"type ipv4_addr"}, Lines: []string{"10.0.0.9"}},
		{ID: id(ruleset.Set, "members"), Head: []string{"type ipv4_addr"}, Lines: []string{`10.0.0.2 comment "a/c"`, `10.0.0.3 comment "it's d"`}},
		{ID: id(ruleset.Set, "other-type"), Head: []string{"type ipv4_addr", "flags interval"}, Lines: []string{"10.0.0.0/8"}},
		{ID: id(ruleset.Set, "same"), Head: []string{"type ipv4_addr"}, Lines: []string{"10.0.0.1"}},
		{ID: id(ruleset.Chain, "new"), Head: []string{"type filter hook input priority filter; policy accept;"}, Lines: []string{"drop"}},
		{ID: id(ruleset.Chain, "rules"), Lines: []string{"counter accept", "drop"}},
		{ID: id(ruleset.Map, "verdicts"), Head: []string{"type ipv4_addr : verdict"}, Lines: []string{`10.0.0.1 comment "a/b" : goto new`}},
	}
	const expected = `nft flush set inet towpath-policy foreign
nft 'add element inet towpath-policy foreign { 10.0.0.9 }'
nft 'delete element inet towpath-policy members { 10.0.0.1 }'
nft 'add element inet towpath-policy members { 10.0.0.3 comment "it'\''s d" }'
nft delete set inet towpath-policy other-type
nft 'add set inet towpath-policy other-type { type ipv4_addr; flags interval; }'
nft 'add element inet towpath-policy other-type { 10.0.0.0/8 }'
nft 'add chain inet towpath-policy new { type filter hook input priority filter; policy accept; }'
nft add rule inet towpath-policy new drop
nft flush chain inet towpath-policy rules
nft add rule inet towpath-policy rules counter accept
nft add rule inet towpath-policy rules drop
nft 'delete element inet towpath-policy verdicts { 10.0.0.1 }'
nft 'add element inet towpath-policy verdicts { 10.0.0.1 comment "a/b" : goto new }'
nft delete chain inet towpath-policy left
nft delete set inet towpath-policy gone`
	if diff := cmp.Diff(strings.Split(expected, "\n"), diffObjects(have, want)); diff != "" {
		t.Error(diff)
	}
	if got := diffObjects(want, want); got != nil {
		t.Errorf("from one to the same: %q", got)
	}
}
