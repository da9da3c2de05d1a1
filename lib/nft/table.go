package nft

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is an nftables table that is written as a whole.
type Table struct {
	Family  string // ip, ip6, inet …
	Name    string
	Comment string
	Chains  []Chain // in the order given; a chain stands before the rules that jump to it
}

// Chain is a chain of a Table.
type Chain struct {
	Name  string
	Hook  string // of a base chain: "type filter hook forward priority filter; policy accept;"
	Rules []Rule
}

// Rule is one rule: its matches and its statement in nft's syntax, and what it is for.
type Rule struct {
	Text    string
	Comment string
}

func (r Rule) String() string {
	if r.Comment == "" {
		return r.Text
	}
	return r.Text + " comment " + Quote(r.Comment)
}

// String is the table as a block, one rule a line: what goes into a file that people read.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.Family, t.Name)
	if t.Comment != "" {
		fmt.Fprintf(&b, "\tcomment %s\n", Quote(t.Comment))
	}
	for i, c := range t.Chains {
		if i > 0 || t.Comment != "" {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != "" {
			fmt.Fprintf(&b, "\t\t%s\n", c.Hook)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Replace is a text that, loaded in one transaction, puts the table in the place of whatever bears its
// name. A packet sees the old table or the new one. (The first line is there because deleting what does
// not exist is refused, and `destroy` is younger than the kernels towpath runs on.)
func (t Table) Replace() string {
	return fmt.Sprintf("add table %s %s\ndelete table %s %s\n%s", t.Family, t.Name, t.Family, t.Name, t)
}

// Commands is Replace as nft commands, one object or rule each, as `plan` prints them.
func (t Table) Commands() []string {
	name := t.Family + " " + t.Name
	commands := []string{"add table " + name, "delete table " + name}
	if t.Comment == "" {
		commands = append(commands, "add table "+name)
	} else {
		commands = append(commands, fmt.Sprintf("add table %s { comment %s; }", name, Quote(t.Comment)))
	}
	for _, c := range t.Chains {
		if c.Hook == "" {
			commands = append(commands, fmt.Sprintf("add chain %s %s", name, c.Name))
		} else {
			commands = append(commands, fmt.Sprintf("add chain %s %s { %s }", name, c.Name, c.Hook))
		}
		for _, r := range c.Rules {
			commands = append(commands, fmt.Sprintf("add rule %s %s %s", name, c.Name, r))
		}
	}
	return commands
}

// maxComment is the longest comment that nft takes, bytes.
const maxComment = 128

// Quote makes a quoted string of any text, for a comment. nft knows no escape inside quotes, so a
// double quote becomes a single one, what cannot be printed becomes a question mark, white space a
// space, and what is too long for nft ends in "…".
func Quote(s string) string {
	var b strings.Builder
	for _, r := range s { // an invalid byte is U+FFFD here
		switch {
		case r == '"':
			r = '\''
		case unicode.IsSpace(r):
			r = ' '
		case !unicode.IsPrint(r), r == utf8.RuneError:
			r = '?'
		}
		b.WriteRune(r)
	}
	text := b.String()
	if len(text) > maxComment {
		const end = "…"
		cut := maxComment - len(end)
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + end
	}
	return `"` + text + `"`
}

// Elements is the members of a set or map in canonical form: sorted, each once, one a line, so that
// a diff of two texts is the difference of the sets. No elements give an empty text: nft refuses
// "elements = { }".
func Elements(members []string) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(members)))
	if len(sorted) == 0 {
		return ""
	}
	return "elements = {\n\t" + strings.Join(sorted, ",\n\t") + "\n}"
}
