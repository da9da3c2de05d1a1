package nft

import (
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sample is a table with everything that Table can hold.
var sample = Table{
	Family: "inet", Name: "towpath-test", Comment: `a "table" of the test`,
	Chains: []Chain{
		{Name: "shared", Rules: []Rule{{Text: "tcp dport 80 accept", Comment: "web"}, {Text: "drop"}}},
		{
			Name: "forward", Hook: "type filter hook forward priority filter; policy accept;",
			Rules: []Rule{{Text: "ip saddr 10.244.0.0/16 jump shared"}},
		},
	},
}

func TestTableGolden(t *testing.T) {
	for name, text := range map[string]string{
		"testdata/replace.nft":  sample.Replace(),
		"testdata/commands.nft": strings.Join(sample.Commands(), "\n") + "\n",
	} {
		if *update {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, text, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                       `""`,
		`say "hi"`:               `"say 'hi'"`,
		"two\nlines\tand\x00nul": `"two lines and?nul"`,
		"bad \xff byte":          `"bad ? byte"`,
		`back\slash; } # $x @y`:  `"back\slash; } # $x @y"`,
		strings.Repeat("x", 128): `"` + strings.Repeat("x", 128) + `"`,
		strings.Repeat("x", 129): `"` + strings.Repeat("x", 125) + `…"`,
		strings.Repeat("é", 65):  `"` + strings.Repeat("é", 62) + `…"`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestElements(t *testing.T) {
	got := Elements([]string{"10.0.0.2", "10.0.0.1", "10.0.0.2"})
	if want := "elements = {\n\t10.0.0.1,\n\t10.0.0.2\n}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Elements(nil); got != "" {
		t.Errorf("no elements: got %q", got)
	}
}

// FuzzQuote: whatever comes from an API, the result is one quoted string of one line that nft takes.
// The test with nft itself is in nft_netns_test.go.
func FuzzQuote(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := Quote(s)
		switch {
		case strings.Count(q, `"`) != 2 || q[0] != '"' || q[len(q)-1] != '"':
			t.Errorf("Quote(%q) = %q: not one quoted string", s, q)
		case len(q) > maxComment+2:
			t.Errorf("Quote(%q): %d bytes", s, len(q))
		case !utf8.ValidString(q) || strings.ContainsAny(q, "\n\r\x00"):
			t.Errorf("Quote(%q) = %q: not one line of text", s, q)
		}
		if len(s) < 100 && Quote(strings.Trim(q, `"`)) != q {
			t.Errorf("Quote(%q) = %q: not stable", s, q)
		}
	})
}

// hostile are texts that could break out of a comment.
var hostile = []string{
	"", `"`, `\`, `\"`, `" ; flush ruleset #`, "a\nflush ruleset", "\r\n", "\x00", "\x7f", "\u2028", "…", "*", "#", "$x", "@set",
	"};}", `'`, "ns/pod", "\xff\xfe", strings.Repeat("é", 200), strings.Repeat("x", 128), "tab\there", "\u202e", "%s%n", "a  b", " ",
}

func FuzzParseError(f *testing.F) {
	f.Add("/dev/stdin:3:6-8: Error: No symbol type information\n     typ filter\n     ^^^\n")
	f.Add("netlink: Error: cache initialization failed: Operation not permitted\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		e := parseError(s)
		if e.Line < 0 || e.Column < 0 || e.More < 0 || strings.Contains(e.Error(), "\n") && !strings.Contains(e.Message, "\n") {
			t.Errorf("parseError(%q) = %+v", s, e)
		}
	})
}
