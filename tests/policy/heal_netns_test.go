//go:build netns

package policy

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
)

// isolated is the policies and the expectations of the tests that damage something.
var isolated = policy("dev/a", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {matchLabels: {env: prod}}, podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}]}")

const fates = `
prod/client -> dev/web 80/TCP: allow
prod/client -> dev/web 81/TCP: deny
prod/web -> dev/web 80/TCP: deny
external -> dev/web 80/TCP: deny
dev/web -> external 80/TCP: deny
dev/web -> prod/web 80/UDP: deny
far -> dev/db 80/TCP: deny
`

// whole says what of our tables is not in the kernel as the files say; empty where all is.
func (s *scene) whole(want string) string {
	if diff := cmp.Diff(want, s.tables()); diff != "" {
		return "the tables are not as they were loaded (-loaded +now):\n" + diff
	}
	return ""
}

// tables are our tables as the kernel has them, without what counters have counted, in an order that does not depend
// on how they came to be.
func (s *scene) tables() string { return tables(s.Namespace) }

func tables(n *nstest.Namespace) string {
	var blocks []string
	for _, f := range ruleset.Families {
		out, err := n.Try("nft", "-s", "list", "table", f, ruleset.Table)
		if err != nil {
			return out
		}
		for block := range strings.SplitSeq(out, "\n\t}\n") {
			if head, elements, ok := strings.Cut(block, "elements = {"); ok {
				list := strings.Split(strings.TrimSuffix(strings.TrimSpace(elements), "}"), ",")
				for i := range list {
					list[i] = strings.TrimSpace(list[i])
				}
				slices.Sort(list)
				block = head + strings.Join(list, "\n")
			}
			blocks = append(blocks, f+" "+strings.TrimSpace(strings.TrimPrefix(block, "table "+f+" "+ruleset.Table+" {")))
		}
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n")
}

// TestHeal damages the rules in every way that is known of others' firewalls, and measures until they are whole again.
func TestHeal(t *testing.T) {
	s := running(t)
	s.Set("policies", isolated)
	for range 3 { // a packet that is only late looks like one that was dropped
		s.until(t, 20*time.Second, "prod/web -> dev/web 80/TCP: deny")
	}
	s.expect(t, fates)
	want := s.tables()
	if !strings.Contains(want, "hook forward") || s.whole(want) != "" {
		t.Fatalf("the tables:\n%s", want)
	}
	kept := open(t, s.pods["prod/client"], s.pods["dev/web"], 0, 80)
	for _, d := range []struct{ name, script string }{
		{"flush ruleset", "flush ruleset"},
		{"delete table inet", "delete table inet " + ruleset.Table},
		{"delete table bridge", "delete table bridge " + ruleset.Table},
		{"delete a rule", "delete rule inet " + ruleset.Table + " ingress handle HANDLE"},
		{"insert a rule", "insert rule inet " + ruleset.Table + " forward accept"},
		{"flush a chain", "flush chain inet " + ruleset.Table + " forward"},
		{"flush a map", "flush map inet " + ruleset.Table + " ingress4"},
		{"delete an element", "delete element inet " + ruleset.Table + " egress6 { " + s.pods["dev/web"].IPs[1].String() + " }"},
		{"add an element to a set", "add element inet " + ruleset.Table + " " + s.selectorSet(t) + " { 192.0.2.1 }"},
	} {
		t.Run(d.name, func(t *testing.T) {
			defer s.in(t)()
			script := strings.ReplaceAll(d.script, "HANDLE", s.handle(t, "ingress", "vmap @ingress4"))
			start := time.Now()
			s.nft(t, script)
			open := s.openFor(t, start)
			s.Eventually(30*time.Second, func() string { return s.whole(want) })
			t.Logf("the last packet that was wrongly let through came %s after nft was started; healed within %s", open.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
			s.expect(t, fates)
			kept.moves(10 * time.Second)
		})
	}
	t.Run("another firewall is reloaded", func(t *testing.T) {
		defer s.in(t)()
		const other = "add table inet firewalld\ndelete table inet firewalld\ntable inet firewalld { chain f { type filter hook forward priority 10; policy accept; ct state invalid counter; }; }\n"
		before := s.handle(t, "ingress", "vmap @ingress4")
		for range 20 {
			s.nft(t, other)
			s.expect(t, "prod/web -> dev/web 80/TCP: deny\nprod/client -> dev/web 80/TCP: allow")
		}
		if why := s.whole(want); why != "" {
			t.Error(why)
		}
		if after := s.handle(t, "ingress", "vmap @ingress4"); after != before {
			t.Errorf("our rules were loaded anew (handle %s, then %s), although nobody touched them", before, after)
		}
		s.nft(t, "delete table inet firewalld")
	})
}

// openFor sends packets that are denied until none has arrived for a while, and returns how long after an instant the
// last came; 0 if none did.
func (s *scene) openFor(t *testing.T, since time.Time) (last time.Duration) {
	t.Helper()
	for quiet := 0; quiet < 10; quiet++ {
		from, to, p, _ := s.parse(t, "prod/web -> dev/web 80/TCP: deny", quiet%2)
		if s.Passes(from, to, p, false) {
			last, quiet = time.Since(since), 0
		}
		if time.Since(since) > 30*time.Second {
			t.Fatal("the rules are not put back")
		}
	}
	return last
}

// handle is the handle of the first rule of a chain that holds a text.
func (s *scene) handle(t *testing.T, chain, text string) string {
	t.Helper()
	out := s.Namespace.Run("nft", "-a", "list", "chain", "inet", ruleset.Table, chain)
	for line := range strings.Lines(out) {
		if _, handle, ok := strings.Cut(line, "# handle "); ok && strings.Contains(line, text) {
			return strings.TrimSpace(handle)
		}
	}
	t.Fatalf("no rule with %q in\n%s", text, out)
	return ""
}

// selectorSet is the name of a set of pods' IPv4 addresses.
func (s *scene) selectorSet(t *testing.T) string {
	t.Helper()
	name := regexp.MustCompile(`set (sel4-[0-9a-f]+) `).FindStringSubmatch(s.tables())
	if name == nil {
		t.Fatal("no set of a selector")
	}
	return name[1]
}
