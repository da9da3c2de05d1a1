package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Programs(m, map[string]func(){"policy-denied": main}) }

func TestScripts(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata/script"}) }
