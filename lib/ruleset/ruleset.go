// Package ruleset is the form of the files under policy/ and of policy.nft: one small file for each
// set, map and chain, one element or rule a line, in nft's own block syntax, so that a diff of two
// files is the change and the whole can be read, checked (nft -c -f policy.nft) and loaded
// (nft -f policy.nft) by hand. policy-render writes it, policy-load and policy-denied read it.
package ruleset

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
)

// Table is the name of the tables that policy-render's rules are in, in each family of Families.
const Table = "towpath-policy"

// Families are the nftables families that have such a table.
var Families = []string{"inet", "bridge"}

// Kind is what an Object is.
type Kind string

// The kinds.
const (
	Set   Kind = "set"
	Map   Kind = "map"
	Chain Kind = "chain"
)

// ID names an object. Objects of one family share one name space per kind; sets and maps share one.
type ID struct {
	Family string // inet or bridge
	Kind   Kind
	Name   string // an nftables identifier, see CheckName
}

// Object is one set, map or chain.
type Object struct {
	ID
	// Notes are lines for people and for policy-denied, written as comments at the head of the file. They
	// are no part of what the kernel holds.
	Notes []string
	// Head are the lines before the elements or rules: type, flags and comment of a set or map ("type
	// ipv4_addr"), hook and comment of a chain ("type filter hook forward priority filter; policy accept;").
	// An object whose Head changes is another object: it is removed and made again.
	Head []string
	// Lines are the elements of a set or map, sorted, each once, without commas (`10.244.1.2 comment
	// "dev/a"`, `10.244.1.2 comment "dev/a" : goto gi-91d2`), or the rules of a chain in order.
	Lines []string
}

// Text is the file: the object as it stands inside the table's block, which policy.nft opens around it. (A block in
// each file would let it be loaded alone, but nft 1.0.6 takes 22 s and 2 GiB for 3,700 blocks.)
func (o *Object) Text() []byte {
	var b bytes.Buffer
	for _, n := range o.Notes {
		b.WriteString("# " + n + "\n")
	}
	fmt.Fprintf(&b, "\t%s %s {\n", o.Kind, o.Name)
	for _, h := range o.Head {
		b.WriteString("\t\t" + h + "\n")
	}
	switch {
	case o.Kind == Chain:
		for _, l := range o.Lines {
			b.WriteString("\t\t" + l + "\n")
		}
	case len(o.Lines) > 0:
		b.WriteString("\t\telements = {\n")
		for _, l := range o.Lines {
			b.WriteString("\t\t\t" + l + ",\n")
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n")
	return b.Bytes()
}

// Empty is the object without elements or rules: what has to stand before others can refer to it.
func (o *Object) Empty() *Object {
	e := *o
	e.Lines = nil
	return &e
}

// Parse reads what Text wrote of an object of a family, and only that: a file edited into another form is refused with
// its line.
func Parse(family string, data []byte) (*Object, error) {
	p := parser{lines: strings.Split(string(data), "\n")}
	o, err := p.object(family)
	if err != nil {
		return nil, exit.Errorf(exit.BadInput, "line %d: %w", p.at+1, err)
	}
	if !bytes.Equal(o.Text(), data) {
		return nil, exit.Errorf(exit.BadInput, "not in the form that policy-render writes")
	}
	return o, nil
}

type parser struct {
	lines []string
	at    int
}

// peek is the coming line without its indent, which must be depth tabs.
func (p *parser) peek(depth int) (string, bool) {
	if p.at >= len(p.lines) {
		return "", false
	}
	text, ok := strings.CutPrefix(p.lines[p.at], strings.Repeat("\t", depth))
	return text, ok && text != "" && text[0] != '\t'
}

func (p *parser) expect(depth int, want string) error {
	if text, ok := p.peek(depth); !ok || text != want {
		return fmt.Errorf("want %q", want)
	}
	p.at++
	return nil
}

func (p *parser) object(family string) (*Object, error) {
	o := &Object{ID: ID{Family: family}}
	for {
		note, ok := strings.CutPrefix(p.lines[p.at], "# ")
		if !ok {
			break
		}
		o.Notes = append(o.Notes, note)
		if p.at++; p.at == len(p.lines) {
			return nil, fmt.Errorf("want \"set|map|chain NAME {\"")
		}
	}
	text, _ := p.peek(1)
	if _, err := fmt.Sscanf(text, "%s %s {", &o.Kind, &o.Name); err != nil || !slices.Contains([]Kind{Set, Map, Chain}, o.Kind) {
		return nil, fmt.Errorf("want \"set|map|chain NAME {\"")
	}
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	p.at++
	if err := p.body(o); err != nil {
		return nil, err
	}
	if err := p.expect(1, "}"); err != nil {
		return nil, err
	}
	if p.at != len(p.lines)-1 || p.lines[p.at] != "" {
		return nil, fmt.Errorf("want the end of the file")
	}
	return o, nil
}

func (p *parser) body(o *Object) error {
	for {
		text, ok := p.peek(2)
		switch {
		case !ok:
			return nil
		case o.Kind != Chain && text == "elements = {":
			p.at++
			return p.elements(o)
		case o.Kind != Chain || len(o.Lines) == 0 && head(text):
			o.Head = append(o.Head, text)
		default:
			o.Lines = append(o.Lines, text)
		}
		p.at++
	}
}

// head says whether a line of a chain is no rule.
func head(line string) bool {
	return strings.HasPrefix(line, "type ") || strings.HasPrefix(line, `comment "`)
}

func (p *parser) elements(o *Object) error {
	for {
		text, ok := p.peek(3)
		if !ok {
			return p.expect(2, "}")
		}
		line, ok := strings.CutSuffix(text, ",")
		if !ok {
			return fmt.Errorf("want an element that ends in a comma")
		}
		if n := len(o.Lines); n > 0 && o.Lines[n-1] >= line {
			return fmt.Errorf("elements are not sorted")
		}
		o.Lines = append(o.Lines, line)
		p.at++
	}
}

// maxName is the longest name that nft takes for a chain or set, bytes.
const maxName = 127

// CheckName says why a name is no identifier of nftables that needs no quotes.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		ok = ok && (letter || i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '/' || c == '.'))
	}
	if !ok {
		return fmt.Errorf("%q is no plain nftables name", name)
	}
	return nil
}

// Path is the object's file below the directory policy/: inet/sets/sel4-5f1c.nft. A "/" in the name is an
// "_", which no name of Kubernetes holds.
func (id ID) Path() string {
	return id.Family + "/" + string(id.Kind) + "s/" + strings.ReplaceAll(id.Name, "/", "_") + ".nft"
}

// Dirs are the directories below policy/ that Paths are in, each after the one that holds it.
func Dirs() []string {
	var out []string
	for _, f := range Families {
		out = append(out, f)
		for _, k := range []Kind{Set, Map, Chain} {
			out = append(out, f+"/"+string(k)+"s")
		}
	}
	return out
}

// String is how nft names the object in its commands: "set inet towpath-policy sel4-5f1c".
func (id ID) String() string {
	return fmt.Sprintf("%s %s %s %s", id.Kind, id.Family, Table, id.Name)
}
