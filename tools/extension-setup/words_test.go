package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var values = map[string]string{"SUBNET": "10.244.2.0/24", "PUBLIC_IP": "192.168.0.12", "SPACES": "a  b", "EMPTY": ""}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"  \n", nil},
		{"\n  ip link\n", []string{"ip", "link"}},
		{`ip route add "$SUBNET" via "$PUBLIC_IP"`, []string{"ip", "route", "add", "10.244.2.0/24", "via", "192.168.0.12"}},
		{`ip  route	add $SUBNET via ${PUBLIC_IP}`, []string{"ip", "route", "add", "10.244.2.0/24", "via", "192.168.0.12"}},
		{`x endpoint "$PUBLIC_IP":51820`, []string{"x", "endpoint", "192.168.0.12:51820"}},
		{`x '$SUBNET' "'" '"' "\$SUBNET" \$SUBNET`, []string{"x", "$SUBNET", "'", `"`, "$SUBNET", "$SUBNET"}},
		{`x "" '' $EMPTY a""b`, []string{"x", "", "", "", "ab"}},
		{`x $SPACES`, []string{"x", "a  b"}}, // never split, whatever is in it
		{`x "a b"c' d' e\ f "a\nb" \\`, []string{"x", "a bc d", "e f", `a\nb`, `\`}},
		{`x $NOWHERE_ 5$ "$ " $.`, []string{"x", "", "5$", "$ ", "$."}},
		{`sh -c 'read MAC; ip neigh add "$SUBNET" && exit'`, []string{"sh", "-c", `read MAC; ip neigh add "$SUBNET" && exit`}},
		{`x * ~ # ! [a] {b}`, []string{"x", "*", "~", "#", "!", "[a]", "{b}"}},
		{"x \"a\\\nb\" c\\\nd \\\n e", []string{"x", "ab", "cd", "e"}},
	} {
		words, err := parse(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		got := expand(words, func(name string) string { return values[name] })
		if d := cmp.Diff(tc.want, got); d != "" && len(tc.want)+len(got) > 0 {
			t.Errorf("%s (-want +got)\n%s", tc.text, d)
		}
	}
	for _, tc := range []struct{ text, says string }{
		{`x "a`, `a " is not closed`},
		{`x 'a`, `a ' is not closed`},
		{"a; b", "';' is a shell's"},
		{"a && b", "'&'"},
		{"a | b", "'|'"},
		{"a > b", "'>'"},
		{"a < b", "'<'"},
		{"(a)", "'('"},
		{"`a`", "'`'"},
		{"x \"`a`\"", "'`'"},
		{"x $(a)", `"$("`},
		{`x "$(a)"`, `"$("`},
		{"x $1", `"$1"`},
		{"x $?", `"$?"`},
		{"x $$", `"$$"`},
		{"x ${A:-b}", "${ takes"},
		{"x ${", "${ takes"},
		{"x ${}", "${ takes"},
		{"a\nb", "a line break"},
		{"A=b c", `"A=b" sets a variable`},
	} {
		if words, err := parse(tc.text); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v %v, want %q", tc.text, words, err, tc.says)
		}
	}
}

// FuzzParse: what can be parsed has the same words as a shell gives it, and what is quoted is one word again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`ip route add "$SUBNET" via $PUBLIC_IP`, `a '"' "\"$SUBNET\\" \  x"y"'z'`, "a ${SUBNET}b", `a "\` + "\n" + `"`, "a $", "'a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words, err := parse(text)
		if err != nil {
			return
		}
		args := expand(words, func(name string) string { return values[name] })
		for _, a := range args {
			again, err := parse("x " + quote(a))
			if got := expand(again, nil); err != nil || len(got) != 2 || got[1] != a {
				t.Errorf("%q quoted is %s, which is %q (%v)", a, quote(a), got, err)
			}
		}
		// A shell would split what variables hold, expand ~ and *, take comments, and end at a NUL.
		if len(args) == 0 || strings.ContainsAny(text, "$~*?[{}#!\x00\r") || !strings.HasPrefix(text, "a ") {
			return
		}
		out, err := exec.Command("sh", "-c", "printf '%s\\0' "+strings.TrimPrefix(text, "a ")).Output()
		if err != nil {
			return
		}
		want := strings.Join(args[1:], "\x00") + "\x00"
		if string(out) != want {
			t.Errorf("%q: words %q, of a shell %q", text, args, out)
		}
	})
}
