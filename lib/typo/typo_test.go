package typo

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"backend", "Backend", 1},
		{"SubnetLen", "SubnetLne", 2},
		{"kitten", "sitting", 3},
		{strings.Repeat("x", 300), "x", 300},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := Distance(pair[0], pair[1]); got != c.want {
				t.Errorf("Distance(%.20q, %.20q) = %d, want %d", pair[0], pair[1], got, c.want)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"inputs", "outputs", "gates", "mode"}
	for word, want := range map[string]string{"input": "inputs", "gate": "gates", "mdoe": "mode", "colour": "", "": "", "outptus": "outputs"} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
