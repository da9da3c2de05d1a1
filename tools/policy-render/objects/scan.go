package objects

import (
	"bytes"
	"errors"
	"fmt"
)

// scanner walks the upper levels of JSON text and hands out the values below uncut, so that a list of any length
// is decoded item by item without a copy. Values are only skipped here; who decodes them checks them.
type scanner struct {
	data  []byte
	at    int
	first int // the line of the file that data begins in; 0 is 1
}

var errCutOff = errors.New("the JSON text ends too early")

// class sorts the characters that structure JSON from the others.
var class = func() (out [256]struct{ space, structure bool }) {
	for _, c := range " \t\r\n" {
		out[c].space = true
	}
	for _, c := range `"{}[]` {
		out[c].structure = true
	}
	return out
}()

func (s *scanner) space() {
	for s.at < len(s.data) && class[s.data[s.at]].space {
		s.at++
	}
}

// peek is the next character after white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.at < len(s.data) {
		return s.data[s.at]
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	switch got := s.peek(); got {
	case c:
		s.at++
		return nil
	case 0:
		return errCutOff
	default:
		return fmt.Errorf("line %d: found %q where %q belongs", s.line(), got, c)
	}
}

func (s *scanner) line() int { return max(s.first, 1) + bytes.Count(s.data[:s.at], []byte("\n")) }

// value skips a value and returns its text.
func (s *scanner) value() ([]byte, error) {
	s.space()
	start, depth := s.at, 0
	for s.at < len(s.data) {
		switch c := s.data[s.at]; c {
		case '"':
			if err := s.skipString(); err != nil {
				return nil, err
			}
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			if depth == 0 {
				return nil, fmt.Errorf("line %d: found %q where a value belongs", s.line(), c)
			}
			depth--
			s.at++
		default:
			if depth > 0 {
				for s.at < len(s.data) && !class[s.data[s.at]].structure {
					s.at++
				}
				continue
			}
			for s.at < len(s.data) && bytes.IndexByte([]byte(" \t\r\n,]}"), s.data[s.at]) < 0 {
				s.at++
			}
		}
		if depth == 0 {
			if s.at == start {
				return nil, fmt.Errorf("line %d: a value is missing", s.line())
			}
			return s.data[start:s.at], nil
		}
	}
	return nil, errCutOff
}

func (s *scanner) skipString() error {
	for s.at++; s.at < len(s.data); s.at++ {
		switch s.data[s.at] {
		case '"':
			s.at++
			return nil
		case '\\':
			s.at++
		}
	}
	s.at = len(s.data)
	return errCutOff
}

// object calls f for each field; the key is the text between the quotes.
func (s *scanner) object(f func(key string, value []byte) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	return s.sequence('}', func() error {
		if s.peek() != '"' {
			return s.expect('"')
		}
		key, err := s.value()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		return f(string(key[1:len(key)-1]), value)
	})
}

// array calls f for each element.
func (s *scanner) array(f func(value []byte) error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	return s.sequence(']', func() error {
		value, err := s.value()
		if err != nil {
			return err
		}
		return f(value)
	})
}

func (s *scanner) sequence(end byte, element func() error) error {
	if s.peek() == end {
		s.at++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect(end)
		}
		s.at++
	}
}
