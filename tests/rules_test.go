package tests

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/towpath/towpath/lib/state"
)

const module = "github.com/towpath/towpath/"

// root is the top of the repository, seen from this package.
const root = ".."

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// packages lists the packages of this repository with what each imports, directly and at any depth.
func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "urfave_cli_no_docs", "-json=ImportPath,Imports,Deps", "work")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

// within says whether an import path is the package path or below it.
func within(imported, path string) bool {
	return imported == path || strings.HasPrefix(imported, strings.TrimSuffix(path, "/")+"/")
}

func TestLinkRules(t *testing.T) {
	programOf := func(importPath string) string { // tools/NAME, supervisor, or ""
		rest, ok := strings.CutPrefix(importPath, module)
		if !ok {
			return ""
		}
		parts := strings.Split(rest, "/")
		switch {
		case parts[0] == "tools" && len(parts) > 1:
			return "tools/" + parts[1]
		case parts[0] == "supervisor":
			return "supervisor"
		}
		return ""
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		forbid := func(list []string, why string, paths ...string) {
			for _, imported := range list {
				if slices.ContainsFunc(paths, func(path string) bool { return within(imported, path) }) {
					t.Errorf("%s links %s: %s", name, imported, why)
				}
			}
		}
		if programOf(p.ImportPath) == "tools/cni-bridge" {
			forbid(p.Deps, "the plugin is started for every pod", "k8s.io", "sigs.k8s.io", "net/http", "github.com/urfave/cli")
		}
		if within(name, "lib") {
			forbid(p.Deps, "lib never imports programs", module+"tools", module+"supervisor", module+"tests")
		}
		if !within(name, "lib/kube") {
			forbid(p.Imports, "only lib/kube talks to the API server", "k8s.io/client-go")
		}
		if !within(name, "tools/subnet-lease") {
			forbid(p.Deps, "only subnet-lease talks to etcd, whose client brings gRPC", "go.etcd.io/etcd", "google.golang.org/grpc")
		}
		if !within(name, "lib/nl") {
			forbid(p.Imports, "only lib/nl talks to the kernel", "github.com/vishvananda/netlink")
		}
		if !within(name, "tools/policy-load") {
			forbid(p.Imports, "rules are text everywhere else; only policy-load also writes them by netlink", "github.com/google/nftables")
		}
		if !within(name, "tools/policy-render") && !within(name, "lib/kube") && !within(name, "tests") {
			forbid(p.Imports, "only policy-render understands Kubernetes objects", "k8s.io/api", "k8s.io/apimachinery")
		}
		if !within(name, "lib/tool") {
			forbid(p.Imports, "lib/tool wraps it once", "github.com/urfave/cli")
		}
		if own := programOf(p.ImportPath); own != "" {
			for _, imported := range p.Deps {
				if other := programOf(imported); other != "" && other != own {
					t.Errorf("%s links %s: programs talk through files", name, imported)
				}
			}
		}
	}
}

// programs are the folders of tools.
func programs(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(root, "tools", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for i := range dirs {
		dirs[i] = filepath.Base(dirs[i])
	}
	return dirs
}

func TestEveryProgramHasItsReadme(t *testing.T) {
	heading := regexp.MustCompile(`(?m)^## ([A-Z][A-Z ]+)$`)
	want := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "INPUTS", "OUTPUTS", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"}
	for _, p := range append(programs(t), "") {
		path := filepath.Join(root, "tools", p, "README.md")
		if p == "" {
			path = filepath.Join(root, "supervisor", "README.md")
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		var have []string
		for _, m := range heading.FindAllSubmatch(text, -1) {
			have = append(have, string(m[1]))
		}
		at := 0
		for _, w := range want { // in this order; others may stand between
			i := slices.Index(have[at:], w)
			if i < 0 {
				t.Errorf("%s: section %q is missing or out of order: %q", path, w, have)
				break
			}
			at += i
		}
	}
}

// TestStageFilesAgreeWithRegistry: every file that a stage names is in lib/state, with the stage's
// program as producer of its outputs and consumer of its inputs.
func TestStageFilesAgreeWithRegistry(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(root, "packaging", "stages.d", "*.toml"))
	for _, p := range programs(t) {
		run := func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && bytes.Contains(text, []byte(`program = ["`+p+`"`))
		}
		if p != "policy-denied" && !slices.ContainsFunc(files, run) { // it prints to a person, and is part of no chain
			t.Errorf("no stage file runs %s", p)
		}
	}
	for _, path := range files {
		var stage struct {
			Program, Inputs, Optional, Outputs []string
		}
		if _, err := toml.DecodeFile(path, &stage); err != nil {
			t.Error(err)
			continue
		}
		if len(stage.Program) == 0 || !slices.Contains(programs(t), stage.Program[0]) {
			t.Errorf("%s: program %q is none of tools/", path, stage.Program)
			continue
		}
		program := stage.Program[0]
		if program == "cni-bridge" {
			program += " conf"
		}
		look := func(what string, names []string, list func(state.File) []string) {
			for _, n := range names {
				if !slices.ContainsFunc(state.Registry, func(f state.File) bool { return matches(n, f.Name) && slices.Contains(list(f), program) }) {
					t.Errorf("%s: %s %q is not in lib/state with %s", path, what, n, program)
				}
			}
		}
		look("input", append(stage.Inputs, stage.Optional...), func(f state.File) []string { return f.Consumers })
		look("output", stage.Outputs, func(f state.File) []string { return f.Producers })
	}
}

var defaulted = regexp.MustCompile(`\$\{[A-Z_]+:-([^}]*)\}`)

// matches says whether a stage's name of a file ("peers/" for a directory, ${VAR:-default} allowed) is
// a registered file.
func matches(stage, registered string) bool {
	stage = defaulted.ReplaceAllString(stage, "$1")
	return stage == registered || strings.HasSuffix(stage, "/") && strings.HasPrefix(registered, stage)
}

// TestNoFileHoldsTwoThings keeps source files below 400 lines and shell scripts below 110.
func TestNoFileHoldsTwoThings(t *testing.T) {
	var names []string
	for _, top := range []string{"lib", "packaging", "scripts", "supervisor", "tests", "tools", ".ci"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && (filepath.Ext(path) == ".go" || top == "scripts" || top == ".ci") {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) < 50 {
		t.Fatalf("only %d files found", len(names))
	}
	for _, name := range names {
		limit := 110
		if strings.HasSuffix(name, ".go") {
			limit = 400
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for s := bufio.NewScanner(f); s.Scan(); n++ {
		}
		f.Close()
		if n > limit && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s has %d lines, more than %d", name, n, limit)
		}
	}
}
