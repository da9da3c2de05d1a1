//go:build netns

package nft

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

func TestGoldensPassNFT(t *testing.T) {
	nstest.Need(t)
	files, _ := filepath.Glob("testdata/*.nft")
	if len(files) == 0 {
		t.Fatal("no golden files")
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), string(text)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	if out := nstest.Run(t, "nft", "list", "ruleset"); out != "" {
		t.Errorf("Check changed the kernel:\n%s", out)
	}
}

func TestReplaceAndCommandsGiveOneTable(t *testing.T) {
	n := nstest.New(t, "nft")
	n.Do(func() {
		var listed [2]string
		for i, text := range []string{sample.Replace(), strings.Join(sample.Commands(), "\n")} {
			for range 2 { // over nothing, and over itself
				if err := Load(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if listed[i], err = List(t.Context(), "inet", "towpath-test"); err != nil {
				t.Fatal(err)
			}
		}
		if listed[0] != listed[1] || !strings.Contains(listed[0], "jump shared") {
			t.Errorf("block:\n%s\ncommands:\n%s", listed[0], listed[1])
		}
	})
}

func TestRefusals(t *testing.T) {
	n := nstest.New(t, "nft")
	n.Do(func() {
		err := Load(t.Context(), "table inet a {\n\tchain b {\n\t\ttyp filter\n\t}\n}\n")
		var e *Error
		if !errors.As(err, &e) || e.Line != 3 || e.Source != "typ filter" || exit.Of(err) != exit.Refused {
			t.Errorf("bad syntax: %v (%+v), exit %d", err, e, exit.Of(err))
		}
		err = Load(t.Context(), "add table inet a\ndelete table inet nothere\n")
		if !errors.As(err, &e) || e.Line != 2 || !strings.Contains(e.Message, "No such file") || exit.Of(err) != exit.Refused {
			t.Errorf("refused by the kernel: %v, exit %d", err, exit.Of(err))
		}
		if _, err := List(t.Context(), "inet", "a"); exit.Of(err) != exit.Refused || !strings.Contains(err.Error(), "list nftables table inet a") {
			t.Errorf("half of a refused transaction is there, or the error is unclear: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Load(ctx, "add table inet a\n"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		t.Setenv("PATH", t.TempDir())
		err = Check(t.Context(), "")
		if hints := exit.Hints(err); exit.Of(err) != exit.Unavailable || len(hints) != 1 || !strings.Contains(hints[0], "nftables") {
			t.Errorf("no nft: %v, exit %d, hints %q", err, exit.Of(err), hints)
		}
	})
}

// TestHostileComments: nft itself must see one comment, and give it back as it was quoted.
func TestHostileComments(t *testing.T) {
	n := nstest.New(t, "nft")
	n.Do(func() {
		for _, s := range hostile {
			table := Table{Family: "inet", Name: "q", Comment: s, Chains: []Chain{{Name: "c", Rules: []Rule{{Text: "accept", Comment: s}}}}}
			if err := Load(t.Context(), table.Replace()); err != nil {
				t.Errorf("comment %q: %v", s, err)
				continue
			}
			listed, err := List(t.Context(), "inet", "q")
			if err != nil {
				t.Fatal(err)
			}
			if s != "" && !strings.Contains(listed, "accept comment "+Quote(s)+"\n") {
				t.Errorf("comment %q came back otherwise:\n%s", s, listed)
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	nstest.Need(b)
	text := sample.Replace()
	for b.Loop() {
		if err := Load(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}
