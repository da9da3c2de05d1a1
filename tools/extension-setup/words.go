package main

import (
	"errors"
	"fmt"
	"strings"
)

// part is a piece of a word: text, or the name of a variable.
type part struct {
	text     string
	variable bool
}

// word is one argument of a command, not yet expanded.
type word []part

// parse splits a command into words as a shell would: at blanks, with '…', "…" and \ as quotes. $NAME and ${NAME} are
// variables outside '…'; what they hold is never split. What only a shell can do is an error, since no shell runs it.
func parse(text string) ([]word, error) {
	p := parser{rest: text}
	for p.rest != "" {
		c := p.rest[0]
		switch {
		case strings.IndexByte(" \t\n\r", c) >= 0:
			if c == '\n' && strings.TrimSpace(p.rest) != "" && (p.open || len(p.words) > 0) {
				return nil, errors.New("a line break stands for a second command")
			}
			p.skip(1)
			p.end()
		case c == '\'':
			end := strings.IndexByte(p.rest[1:], '\'')
			if end < 0 {
				return nil, errors.New("a ' is not closed")
			}
			p.add(part{text: p.rest[1 : 1+end]})
			p.skip(end + 2)
		case c == '"':
			if err := p.quoted(); err != nil {
				return nil, err
			}
		case c == '\\' && strings.HasPrefix(p.rest[1:], "\n"):
			p.skip(2)
		case c == '\\' && len(p.rest) > 1:
			p.add(part{text: p.rest[1:2]})
			p.skip(2)
		case c == '$':
			if err := p.variable(); err != nil {
				return nil, err
			}
		case strings.IndexByte(";&|<>()`", c) >= 0:
			return nil, fmt.Errorf("%q is a shell's", c)
		default:
			p.add(part{text: p.rest[:1]})
			p.skip(1)
		}
	}
	p.end()
	if len(p.words) > 0 && strings.Contains(literal(p.words[0]), "=") {
		return nil, fmt.Errorf("%q sets a variable, which is a shell's", literal(p.words[0]))
	}
	return p.words, nil
}

type parser struct {
	rest  string
	words []word
	open  bool // a word has begun, be it empty
	word  word
}

func (p *parser) skip(n int) { p.rest = p.rest[n:] }

func (p *parser) add(x part) {
	p.open = true
	if last := len(p.word) - 1; last >= 0 && !x.variable && !p.word[last].variable {
		p.word[last].text += x.text
		return
	}
	if x.text != "" {
		p.word = append(p.word, x)
	}
}

func (p *parser) end() {
	if p.open {
		p.words = append(p.words, p.word)
	}
	p.open, p.word = false, nil
}

// quoted takes "…", within which a \ is only a quote before $, `, ", \ and the end of a line.
func (p *parser) quoted() error {
	p.open = true
	p.skip(1)
	for p.rest != "" {
		switch c := p.rest[0]; {
		case c == '"':
			p.skip(1)
			return nil
		case c == '\\' && len(p.rest) > 1 && p.rest[1] == '\n':
			p.skip(2)
		case c == '\\' && len(p.rest) > 1 && strings.IndexByte("$`\"\\", p.rest[1]) >= 0:
			p.add(part{text: p.rest[1:2]})
			p.skip(2)
		case c == '$':
			if err := p.variable(); err != nil {
				return err
			}
		case c == '`':
			return fmt.Errorf("%q is a shell's", c)
		default:
			p.add(part{text: p.rest[:1]})
			p.skip(1)
		}
	}
	return errors.New(`a " is not closed`)
}

// variable takes $NAME or ${NAME}; a $ before anything else stands for itself.
func (p *parser) variable() error {
	rest, braces := p.rest[1:], false
	if strings.HasPrefix(rest, "{") {
		rest, braces = rest[1:], true
	}
	n := 0
	for n < len(rest) && (rest[n] == '_' || 'a' <= rest[n] && rest[n] <= 'z' || 'A' <= rest[n] && rest[n] <= 'Z' || n > 0 && '0' <= rest[n] && rest[n] <= '9') {
		n++
	}
	switch {
	case braces && (n == 0 || n == len(rest) || rest[n] != '}'):
		return errors.New("${ takes the name of a variable and } here, and no more")
	case n == 0 && rest != "" && (strings.IndexByte("(@*#?$!-", rest[0]) >= 0 || '0' <= rest[0] && rest[0] <= '9'):
		return fmt.Errorf("%q is a shell's", "$"+rest[:1])
	case n == 0:
		p.add(part{text: "$"})
		p.skip(1)
		return nil
	}
	p.add(part{text: rest[:n], variable: true})
	p.skip(len(p.rest) - len(rest) + n)
	if braces {
		p.skip(1)
	}
	return nil
}

func literal(w word) string {
	var b strings.Builder
	for _, x := range w {
		if x.variable {
			b.WriteByte('$')
		}
		b.WriteString(x.text)
	}
	return b.String()
}

// expand makes the arguments. A variable that is not set is empty.
func expand(words []word, value func(string) string) []string {
	args := make([]string, len(words))
	for i, w := range words {
		var b strings.Builder
		for _, x := range w {
			if x.variable {
				b.WriteString(value(x.text))
			} else {
				b.WriteString(x.text)
			}
		}
		args[i] = b.String()
	}
	return args
}

// quote is a word as a shell has to be given it.
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
