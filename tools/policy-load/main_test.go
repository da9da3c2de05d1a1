package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	nstest.Programs(m, map[string]func(){"policy-load": main, "render": render})
}

// render stands for policy-render in scripts: it writes one of a few small policies into a run directory.
func render() {
	which, dir := os.Args[1], state.Dir(os.Args[2])
	object := func(kind ruleset.Kind, name, head string, lines ...string) *ruleset.Object {
		o := &ruleset.Object{ID: ruleset.ID{Family: "inet", Kind: kind, Name: name}, Lines: lines}
		if head != "" {
			o.Head = strings.Split(head, "\n")
		}
		return o
	}
	objects := []*ruleset.Object{
		object(ruleset.Set, "local4", "type ipv4_addr\nflags interval", "10.244.1.0/24"),
		object(ruleset.Chain, "deny", "", `counter drop comment "closed"`),
		object(ruleset.Map, "egress4", "type ipv4_addr : verdict", `10.244.1.2 comment "dev/a" : goto deny`),
		object(ruleset.Chain, "forward", "type filter hook forward priority filter; policy accept;",
			"ct state established,related accept", "ip saddr vmap @egress4", "ip saddr @local4 drop"),
	}
	var endpoints []string
	if which == "endpoint" {
		endpoints = []string{"c1-eth0"}
	}
	if which == "refused" {
		objects[1].Lines = []string{"counter drop", "this is no rule"}
	}
	err := writeObjects(dir, endpoints, objects)
	if which == "half" {
		objects[2].Lines = nil
		err = os.WriteFile(filepath.Join(dir.Policy(), objects[2].Path()), objects[2].Text(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScripts runs testdata/script, each with a network namespace of its own named in $NS.
func TestScripts(t *testing.T) {
	nstest.Scripts(t, testscript.Params{Dir: "testdata/script", UpdateScripts: *update, Setup: nstest.InNamespace})
}
