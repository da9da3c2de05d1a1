package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

var update = flag.Bool("update", false, "write golden files anew")

func TestMain(m *testing.M) { nstest.Programs(m, map[string]func(){"policy-render": main}) }

func TestScripts(t *testing.T) {
	nstest.Scripts(t, testscript.Params{Dir: "testdata/script", UpdateScripts: *update})
}
