package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Programs(m, map[string]func(){"masq-sync": main}) }

// TestScripts runs testdata/script, each with a network namespace of its own named in $NS.
func TestScripts(t *testing.T) {
	nstest.Scripts(t, testscript.Params{Dir: "testdata/script", UpdateScripts: *update, Setup: nstest.InNamespace})
}
