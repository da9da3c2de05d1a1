package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSaveSurvivesKill kills a process that saves two texts in turn, at many moments, and looks
// whether a reader ever finds anything but one of the two.
func TestSaveSurvivesKill(t *testing.T) {
	const child = "TOWPATH_STATE_SAVE_FOREVER"
	texts := [2][]byte{}
	for i := range texts {
		texts[i], _ = Marshal(map[string]any{"version": 1, "fill": strings.Repeat(fmt.Sprint(i), 200_000)})
	}
	if path := os.Getenv(child); path != "" {
		for i := 0; ; i++ {
			if _, err := WriteFile(path, texts[i%2], 0o644); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			if i == 1 {
				fmt.Println("running")
			}
		}
	}
	path := filepath.Join(t.TempDir(), "big.json")
	for round := range 20 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSaveSurvivesKill$")
		cmd.Env = append(os.Environ(), child+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(round) * 237 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, texts[0]) && !bytes.Equal(data, texts[1]) {
			t.Fatalf("round %d: neither text, %d bytes, valid JSON %v", round, len(data), json.Valid(data))
		}
	}
	// What a killed writer leaves is not taken for a state file.
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if e.Name() != "big.json" && (!strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".tmp")) {
			t.Errorf("left %q", e.Name())
		}
	}
}
