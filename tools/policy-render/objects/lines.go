package objects

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// lines counts the lines of a text up to parts of it, which are asked for in order.
type lines struct {
	text []byte
	at   int // so far
	line int // there
}

// of is the line that a part, a slice of the text, begins in.
func (l *lines) of(part []byte) int {
	at := cap(l.text) - cap(part)
	if at < l.at || at > len(l.text) { // not cut from this text
		return l.line
	}
	l.line += bytes.Count(l.text[l.at:at], []byte("\n"))
	l.at = at
	return l.line
}

// trimLines cuts off leading lines that are empty.
func trimLines(text []byte) []byte {
	for {
		n := bytes.IndexByte(text, '\n')
		if n < 0 || len(bytes.TrimRight(text[:n], " \r")) > 0 {
			return text
		}
		text = text[n+1:]
	}
}

var lineNumber = regexp.MustCompile(`\bline (\d+): `)

// yamlError makes one line of an error of the YAML parser, and counts its lines in the file.
func yamlError(err error, at Place) error {
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "yaml: ", ""), "error converting YAML to JSON: ")
	text = lineNumber.ReplaceAllStringFunc(strings.Join(strings.Fields(text), " "), func(s string) string {
		n, _ := strconv.Atoi(lineNumber.FindStringSubmatch(s)[1])
		return "line " + strconv.Itoa(n+max(at.Line, 1)-1) + ": "
	})
	return errors.New(text)
}
