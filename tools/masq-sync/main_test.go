package main

import (
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) { nstest.Programs(m, map[string]func(){"masq-sync": main}) }

var scripts atomic.Int32

// TestScripts runs testdata/script, each with a network namespace of its own named in $NS.
func TestScripts(t *testing.T) {
	nstest.Scripts(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			ns := "script-" + strconv.Itoa(int(scripts.Add(1)))
			if err := exec.Command("ip", "netns", "add", ns).Run(); err != nil {
				return err
			}
			e.Defer(func() { exec.Command("ip", "netns", "del", ns).Run() })
			e.Setenv("NS", ns)
			return nil
		},
	})
}
