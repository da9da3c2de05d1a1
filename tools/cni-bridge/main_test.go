package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

// The test binary runs in namespaces of its own, and is cni-bridge where a script runs that.
func TestMain(m *testing.M) { nstest.Programs(m, map[string]func(){"cni-bridge": main}) }

func TestScripts(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata/script"}) }
