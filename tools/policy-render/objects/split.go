package objects

import (
	"bytes"
)

// piece is the text of one object.
type piece struct {
	place Place
	text  []byte
	json  bool
	// item: YAML text is a sequence of this one item, with its dash at this column.
	item   bool
	column int
	// list is the kind of the list that the piece is an item of: its items may lack a kind.
	list string
}

// documents splits at the lines "---". No text of a document can begin a line so.
func documents(data []byte) [][]byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var out [][]byte
	add := func(d []byte) {
		if !blank(d) {
			out = append(out, d)
		}
	}
	start, at, dots := 0, 0, -1 // at is the begin of a line
	for {
		switch line := data[at:]; {
		case isMarker(line, "---"):
			add(data[start:at])
			start = at + 3
		case isMarker(line, "..."):
			add(data[start:at])
			start = at + lineLength(line)
		}
		if dots < at {
			dots = at + index(data[at:], "\n...")
		}
		if at = min(at+index(data[at:], "\n---"), dots) + 1; at >= len(data) {
			add(data[start:])
			return out
		}
	}
}

func index(data []byte, s string) int {
	if i := bytes.Index(data, []byte(s)); i >= 0 {
		return i
	}
	return len(data)
}

func lineLength(data []byte) int {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1
	}
	return len(data)
}

func isMarker(text []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(text, []byte(marker))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// blank says whether there is nothing but white space and comments.
func blank(doc []byte) bool {
	for len(doc) > 0 {
		n := lineLength(doc)
		if line := bytes.TrimSpace(doc[:n]); len(line) > 0 && line[0] != '#' {
			return false
		}
		doc = doc[n:]
	}
	return true
}

// splitItems cuts a list as kubectl prints it into its items, without parsing it, so that a long list needs
// neither the memory of its tree nor, when one item changes, the time to parse the others. rest is what is around the
// items. Whatever is written otherwise is not cut.
func splitItems(doc []byte) (items [][]byte, column int, rest []byte, ok bool) {
	start, at := -1, 0
	for at < len(doc) && start < 0 {
		end := at + lineLength(doc[at:])
		if string(bytes.TrimRight(doc[at:end], " \r\n")) == "items:" {
			start = end
			rest = append(rest, doc[:at]...)
		}
		at = end
	}
	if start < 0 {
		return nil, 0, nil, false
	}
	column = -1
	from := -1
	for at < len(doc) {
		end := at + lineLength(doc[at:])
		line := doc[at:end]
		if column >= 0 && len(line) > column && line[column] == ' ' && len(bytes.TrimLeft(line[:column], " ")) == 0 {
			at = end // further in than the dashes
			continue
		}
		indent := len(line) - len(bytes.TrimLeft(line, " "))
		text := bytes.TrimRight(line[indent:], " \r\n")
		switch {
		case len(text) == 0 || text[0] == '#':
		case text[0] == '\t':
			return nil, 0, nil, false
		case text[0] == '-' && (len(text) == 1 || text[1] == ' ') && (column < 0 || indent == column):
			if from >= 0 {
				items = append(items, doc[from:at])
			}
			from, column = at, indent
		case from < 0:
			return nil, 0, nil, false
		case indent > column:
		case indent == 0: // the items end here
			return append(items, doc[from:at]), column, append(rest, doc[at:]...), !bytes.Contains(doc[at:], []byte("\nitems:"))
		default:
			return nil, 0, nil, false
		}
		at = end
	}
	if from < 0 {
		return nil, 0, nil, false
	}
	return append(items, doc[from:]), column, rest, true
}

// sniff is the kind that a YAML object seems to have. It only decides what is tried first.
func (p *piece) sniff() string {
	indent := 0
	if p.item {
		indent = p.column + 2
	}
	text := p.text
	for len(text) > 0 {
		n := lineLength(text)
		line := text[:n]
		text = text[n:]
		if len(line) < indent+5 {
			continue
		}
		head := line[:indent]
		if p.item {
			head = bytes.Replace(head, []byte("-"), []byte(" "), 1)
		}
		if kind, ok := bytes.CutPrefix(line[indent:], []byte("kind:")); ok && len(bytes.TrimLeft(head, " ")) == 0 {
			return string(bytes.Trim(kind, " \"'\r\n"))
		}
	}
	return ""
}
