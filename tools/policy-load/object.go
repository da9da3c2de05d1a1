package main

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/ruleset"
)

// object is one set, map or chain as its file has it. Only the bytes of the file are kept, and where its parts are
// in them: a ruleset has some hundred thousand lines, and a string for each would cost more than the lines.
type object struct {
	ruleset.ID
	path   string // ID's
	digest string
	text   []byte
	head   []string
	// body is the part of text that holds the elements or rules, whole lines; first is the number of its first line.
	body  []byte
	first int
	count int // of lines in body
}

// scan reads what ruleset.Object.Text wrote, and only that, as ruleset.Parse does, without a copy of it.
func scan(family, digest string, text []byte) (*object, error) {
	s := scanner{rest: text}
	o := &object{ID: ruleset.ID{Family: family}, digest: digest, text: text}
	if err := s.object(o); err != nil {
		return nil, exit.Errorf(exit.BadInput, "line %d: %w", s.line, err)
	}
	return o, nil
}

type scanner struct {
	rest []byte // from the line after the current one
	line int    // number of the current line
	have []byte // the current line, without its end
	ok   bool   // there is a current line
}

func (s *scanner) next() {
	s.line++
	s.have, s.rest, s.ok = bytes.Cut(s.rest, []byte("\n"))
}

// at says whether the current line is text below depth tabs.
func (s *scanner) at(depth int) ([]byte, bool) {
	if !s.ok || len(s.have) <= depth || s.have[depth] == '\t' {
		return nil, false
	}
	for _, c := range s.have[:depth] {
		if c != '\t' {
			return nil, false
		}
	}
	return s.have[depth:], true
}

func (s *scanner) expect(depth int, want string) error {
	if text, ok := s.at(depth); !ok || string(text) != want {
		return fmt.Errorf("want %q", want)
	}
	s.next()
	return nil
}

func (s *scanner) object(o *object) error {
	for s.next(); s.ok && bytes.HasPrefix(s.have, []byte("# ")); {
		s.next()
	}
	text, _ := s.at(1)
	words := strings.Split(string(text), " ")
	kinds := []ruleset.Kind{ruleset.Set, ruleset.Map, ruleset.Chain}
	if len(words) != 3 || !slices.Contains(kinds, ruleset.Kind(words[0])) || words[2] != "{" {
		return fmt.Errorf("want \"set|map|chain NAME {\"")
	}
	o.Kind, o.Name = ruleset.Kind(words[0]), words[1]
	if err := ruleset.CheckName(o.Name); err != nil {
		return err
	}
	s.next()
	if err := s.body(o); err != nil {
		return err
	}
	if err := s.expect(1, "}"); err != nil {
		return err
	}
	if s.ok || len(s.have) > 0 {
		return fmt.Errorf("want the end of the file")
	}
	return nil
}

func (s *scanner) body(o *object) error {
	for {
		text, ok := s.at(2)
		elements := string(text) == "elements = {"
		switch {
		case !ok:
			return nil
		case o.Kind == ruleset.Chain && !isHead(text):
			return s.rules(o)
		case o.Kind != ruleset.Chain && elements:
			return s.elements(o)
		}
		o.head = append(o.head, string(text))
		s.next()
	}
}

// isHead says whether a line of a chain is no rule.
func isHead(line []byte) bool {
	return bytes.HasPrefix(line, []byte("type ")) || bytes.HasPrefix(line, []byte(`comment "`))
}

func (s *scanner) rules(o *object) error {
	start := len(o.text) - len(s.rest) - len(s.have) - 1
	for o.first = s.line; ; s.next() {
		if _, ok := s.at(2); !ok {
			o.body = o.text[start : len(o.text)-len(s.rest)-len(s.have)-1]
			return nil
		}
		o.count++
	}
}

func (s *scanner) elements(o *object) error {
	s.next()
	start := len(o.text) - len(s.rest) - len(s.have) - 1
	var last []byte
	for o.first = s.line; ; s.next() {
		text, ok := s.at(3)
		if !ok && o.count == 0 {
			return fmt.Errorf("want an element")
		}
		if !ok {
			o.body = o.text[start : len(o.text)-len(s.rest)-len(s.have)-1]
			return s.expect(2, "}")
		}
		if text[len(text)-1] != ',' {
			return fmt.Errorf("want an element that ends in a comma")
		}
		text = text[:len(text)-1]
		if last != nil && bytes.Compare(last, text) >= 0 {
			return fmt.Errorf("elements are not sorted")
		}
		last = text
		o.count++
	}
}

// lines are the elements or rules of a body, as they are written in nft's commands.
func (o *object) lines() iter.Seq[[]byte] { return o.linesOf(o.body) }

func (o *object) linesOf(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(body) > 0 {
			var line []byte
			line, body = o.cut(body)
			if !yield(line) {
				return
			}
		}
	}
}

// cut takes the first line from a part of a body.
func (o *object) cut(body []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(body, []byte("\n"))
	if o.Kind == ruleset.Chain {
		return line[2:], rest
	}
	return line[3 : len(line)-1], rest
}

// sameHead says whether both are one object with other contents.
func (o *object) sameHead(p *object) bool { return o.ID == p.ID && slices.Equal(o.head, p.head) }

// declaration is what stands between braces where the object is made: "{ type ipv4_addr; flags interval; }".
func (o *object) declaration() string {
	if len(o.head) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(" {")
	for _, h := range o.head {
		b.WriteString(" " + strings.TrimSuffix(h, ";") + ";")
	}
	b.WriteString(" }")
	return b.String()
}
