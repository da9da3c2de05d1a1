package stage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadReplacesAndMasks(t *testing.T) {
	lib, etc := t.TempDir(), t.TempDir()
	write(t, lib, map[string]string{
		"a.toml": `command = ["lib"]`, "b.toml": `command = ["lib"]`, "c.toml": `command = ["lib"]`, "d.toml": `command = ["lib"]`,
		"README": "no stage", ".b.toml": "an editor's", "b.toml.dpkg-old": "a packager's",
	})
	write(t, etc, map[string]string{"b.toml": `command = ["etc"]`, "c.toml": "", "e.toml": `command = ["etc"]`})
	if err := os.Symlink(os.DevNull, filepath.Join(etc, "d.toml")); err != nil {
		t.Fatal(err)
	}
	set, err := Load([]string{lib, etc}, noVariables)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range set.Stages {
		got[s.Name] = s.Command[0]
	}
	if diff := cmp.Diff(map[string]string{"a": "lib", "b": "etc", "e": "etc"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c", "d"}, set.Masked); diff != "" {
		t.Error(diff)
	}
	if len(set.Hidden) != 2 || set.Hidden[0].Name != "c" || set.Hidden[0].Command[0] != "lib" {
		t.Errorf("what is masked: %+v", set.Hidden)
	}
}

func TestLoadRefuses(t *testing.T) {
	good := map[string]string{"a.toml": `command = ["a"]`}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"none", nil, "no stage file in"},
		{"all masked", map[string]string{"a.toml": ""}, "no stage file in"},
		{"two at fault", map[string]string{"a.toml": "x", "b.toml": "mode = 1"}, "b.toml"},
		{"name", map[string]string{"A b.toml": `command = ["a"]`}, "no stage name"},
		{"blank", map[string]string{"a.toml": "\n"}, "empty file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, c.files)
			_, err := Load([]string{dir}, noVariables)
			if err == nil || !strings.Contains(err.Error(), c.want) || exit.Of(err) != exit.BadConfig {
				t.Errorf("error %v, exit status %d", err, exit.Of(err))
			}
		})
	}
	dir := t.TempDir()
	write(t, dir, good)
	if _, err := Load([]string{dir, filepath.Join(dir, "none")}, noVariables); err == nil {
		t.Error("a missing --stages directory is accepted")
	}
	if err := os.Mkdir(filepath.Join(dir, "b.toml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{dir}, noVariables); err == nil || exit.Of(err) != exit.BadConfig {
		t.Errorf("a directory as a stage file: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "b.toml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "c.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{dir}, noVariables); err == nil || exit.Of(err) != exit.BadConfig {
		t.Errorf("a dangling link as a stage file: %v", err)
	}
}
