package ruleset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/towpath/towpath/lib/exit"
)

// Digest is the mark of a file's content in the manifest.
func Digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// Entry is one file of a ruleset. The order of entries is the order in which nft can load them, one family after the
// other: sets and empty maps first, then chains, each after those it jumps to, then the maps with their elements.
type Entry struct {
	Path   string // below policy/, as ID.Path gives it
	Digest string
}

// Manifest is policy.nft: a list of the other files, by digest, so that it names one state of them all, and
// at the same time the text that puts the whole ruleset in the place of what is loaded.
type Manifest struct {
	Node    string
	Entries []Entry
	// Endpoints are the names (CONTAINER-IFNAME) of the files in endpoints/ that the ruleset covers, sorted.
	Endpoints []string
}

// Generation is the digest of everything that decides what the kernel holds. Equal generations are equal
// rulesets; endpoints are covered by it but do not count.
func (m *Manifest) Generation() string {
	sum := sha256.New()
	line := make([]byte, 0, 256)
	for _, e := range m.Entries {
		line = append(append(append(append(line[:0], e.Path...), ' '), e.Digest...), '\n')
		sum.Write(line)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// Text is policy.nft. dir is the absolute path of the directory policy/.
func (m *Manifest) Text(dir string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# policy of node %s\n# generation %s\n", m.Node, m.Generation())
	for _, e := range m.Endpoints {
		b.WriteString("# endpoint " + e + "\n")
	}
	b.WriteString(Clear())
	open := fmt.Sprintf("\tinclude %q", filepath.Clean(dir)+"/")
	open = open[:len(open)-1]
	b.Grow(len(m.Entries) * (len(open) + 96))
	block := ""
	for _, e := range m.Entries {
		b.WriteString(Block(block, e.Family()))
		block = e.Family()
		b.WriteString(open)
		b.WriteString(e.Path)
		b.WriteString(`" # `)
		b.WriteString(e.Digest)
		b.WriteByte('\n')
	}
	b.WriteString(Block(block, ""))
	return b.Bytes()
}

// Family is the family of the file's object.
func (e Entry) Family() string {
	family, _, _ := strings.Cut(e.Path, "/")
	return family
}

// Block is the text between two files in the text of a whole ruleset: it ends the block of one family's table and begins
// that of another; an empty family is none.
func Block(from, to string) (text string) {
	if from == to {
		return ""
	}
	if from != "" {
		text = "}\n"
	}
	if to != "" {
		text += "table " + to + " " + Table + " {\n"
	}
	return text
}

// Covers says whether the text of a manifest names an endpoint (CONTAINER-IFNAME), for who needs to know no more of it.
func Covers(text []byte, endpoint string) bool {
	return bytes.Contains(text, []byte("\n# endpoint "+endpoint+"\n"))
}

// Names says whether the text of a manifest names a file, by its path below policy/.
func Names(text []byte, path string) bool { return bytes.Contains(text, []byte("/"+path+`" # `)) }

// Clear is the text that removes the tables, also when they are not there, and makes them again, empty.
func Clear() string {
	var b strings.Builder
	for _, f := range Families {
		fmt.Fprintf(&b, "add table %s %s\ndelete table %s %s\nadd table %s %s\n", f, Table, f, Table, f, Table)
	}
	return b.String()
}

// blocks are the families by the line that opens their block; that which ends a block is the one of none.
var blocks = func() map[string]string {
	m := map[string]string{"}": ""}
	for _, f := range Families {
		m[strings.TrimSuffix(Block("", f), "\n")] = f
	}
	return m
}()

// ParseManifest reads what Text wrote, and only that.
func ParseManifest(dir string, data []byte) (*Manifest, error) {
	m := &Manifest{}
	var generation string
	header := Clear()
	open, block := "\tinclude \""+dir+"/", ""
	rest := string(data) // one copy, that all paths and digests are parts of
	for n := 1; rest != ""; n++ {
		text, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return nil, exit.Errorf(exit.BadInput, "line %d: cut off", n)
		}
		rest = after
		if path, isFile := strings.CutPrefix(text, open); isFile && block != "" {
			file, digest, ok := strings.Cut(path, `" # `)
			e := Entry{file, digest}
			if !ok || !filepath.IsLocal(file) || e.Family() != block || len(digest) != 32 {
				return nil, exit.Errorf(exit.BadInput, "line %d: %q: want include \"FILE\" # DIGEST, of family %s", n, text, block)
			}
			if m.Entries == nil {
				m.Entries = make([]Entry, 0, 1+strings.Count(rest, "\n"))
			}
			m.Entries = append(m.Entries, e)
			continue
		}
		if family, isBlock := blocks[text]; isBlock && header == "" && (block == "") != (family == "") {
			block = family
			continue
		}
		note, isNote := strings.CutPrefix(text, "# ")
		key, value, _ := strings.Cut(note, " ")
		switch {
		case n == 1 && isNote && strings.HasPrefix(note, "policy of node "):
			m.Node = strings.TrimPrefix(note, "policy of node ")
		case isNote && key == "generation" && generation == "":
			generation = value
		case isNote && key == "endpoint":
			m.Endpoints = append(m.Endpoints, value)
		case header != "" && strings.HasPrefix(header, text+"\n"):
			header = strings.TrimPrefix(header, text+"\n")
		default:
			return nil, exit.WithHint(exit.Errorf(exit.BadInput, "line %d: %q is not of policy-render's making", n, text),
				"remove the file; policy-render writes it again")
		}
	}
	if header != "" || block != "" {
		return nil, exit.Errorf(exit.BadInput, "cut off, or empty")
	}
	if got := m.Generation(); got != generation {
		return nil, exit.Errorf(exit.BadInput, "line 2: the generation is %q and should be %q: lines are missing or were edited", generation, got)
	}
	return m, nil
}
