package state

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	mine := fmt.Sprintf(".a.json.%d.tmp", os.Getpid())
	for name, stays := range map[string]bool{
		".a.json.99999999.tmp": false, mine: true, "a.json": true, ".synced": true, ".a.json.x.tmp": true, "b.99999999.tmp": true,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != stays {
				t.Errorf("%s: stays %t: %v", name, stays, err)
			}
		}()
	}
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
	if err := Sweep(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}
