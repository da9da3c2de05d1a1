package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

// The test binary runs in namespaces of its own, and is cni-bridge where a script runs that.
func TestMain(m *testing.M) {
	nstest.Main(func() int {
		testscript.Main(m, map[string]func(){"cni-bridge": main})
		return 0
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TOWPATH_NSTEST_INSIDE", os.Getenv("TOWPATH_NSTEST_INSIDE"))
			return nil
		},
	})
}
