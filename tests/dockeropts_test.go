//go:build netns

package tests

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
)

// TestDockerOpts runs scripts/docker-opts, here and not beside it since it reads and writes below /run.
func TestDockerOpts(t *testing.T) {
	scripts, err := filepath.Abs(filepath.Join(root, "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	nstest.Scripts(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		e.Setenv("PATH", scripts+string(os.PathListSeparator)+e.Getenv("PATH"))
		return nil
	}})
}
