//go:build netns

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// TestBadInput breaks each file in each way. The kernel is not touched, except by the other peers of a
// broken one.
func TestBadInput(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files()
	n.knows(peerOf(2))
	n.knows(peerOf(3))
	n.apply()
	before := n.Snapshot()
	for _, path := range []string{n.Dir.Lease(), n.Dir.Link(), n.Dir.PeersSynced(), n.Dir.Peer("n3")} {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string]struct{ text, says string }{
			"empty":      {"", "empty"},
			"truncated":  {string(good[:len(good)/2]), ""},
			"not JSON":   {"<html>", "line 1"},
			"huge":       {strings.Repeat(" ", state.MaxSize) + string(good), "larger"},
			"newer":      {strings.Replace(string(good), `"version": 1`, `"version": 99`, 1), `key "version"`},
			"no version": {"{}", `key "version"`},
		}
		if path == n.Dir.Peer("n3") {
			bad["other node"] = struct{ text, says string }{strings.Replace(string(good), `"n3"`, `"n2"`, 1), `key "node"`}
			bad["no prefix"] = struct{ text, says string }{strings.Replace(string(good), "10.244.3.0/24", "10.244.3/24", 1), `key "subnet`}
			bad["junk MAC"] = struct{ text, says string }{strings.Replace(string(good), "02:00:00:00:00:03", "02:00", 1), `key "backend.data.VtepMAC"`}
		}
		for name, b := range bad {
			t.Run(filepath.Base(path)+" "+name, func(t *testing.T) {
				if err := os.WriteFile(path, []byte(b.text), 0o644); err != nil {
					t.Fatal(err)
				}
				for _, verb := range []string{"plan", "apply"} {
					out, errs, code := n.Exec(verb)
					if code != exit.BadInput || !strings.Contains(errs, b.says) || !strings.Contains(errs, path) {
						t.Errorf("%s: exit %d: %s", verb, code, errs)
					}
					if strings.Contains(out, " del ") || strings.Contains(out, "replace") {
						t.Errorf("%s: changes:\n%s", verb, out)
					}
				}
				if d := cmp.Diff(before, n.Snapshot()); d != "" {
					t.Errorf("kernel touched (-before +after)\n%s", d)
				}
			})
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out := n.apply(); !strings.HasPrefix(out, "write ") && out != "" {
		t.Errorf("after all is good again:\n%s", out)
	}
}

// TestBrokenWhileWatching: what was read last goes on, and is repaired too; a good file ends it.
func TestBrokenWhileWatching(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files()
	n.knows(peerOf(2))
	n.knows(peerOf(3))
	n.watch()
	n.ready()
	for _, path := range []string{n.Dir.Peer("n2"), n.Dir.Lease(), n.Dir.Link(), n.Dir.PeersSynced()} {
		if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n.Eventually(deadline, func() string {
		if r := n.routes(); !strings.Contains(r.LeftOut["n2"], "JSON") {
			b, _ := json.Marshal(r)
			return string(b)
		}
		return ""
	})
	os.Remove(n.Dir.Peer("n3"))
	n.Run("ip", "route", "del", "10.244.2.0/24")
	n.Eventually(deadline, func() string {
		if out := n.Run("ip", "route", "show", "proto", "116"); strings.Count(out, "\n") != 2 {
			return out
		}
		return ""
	})
	n.files()
	p := peerOf(2)
	p.Backend.Data = vtep("02:00:00:00:aa:aa")
	n.knows(p)
	n.Eventually(deadline, n.planned)
	if out := n.Run("ip", "route", "show", "proto", "116"); strings.Count(out, "\n") != 1 {
		t.Errorf("n3 left, its route did not:\n%s", out)
	}
}

// TestMissingInput: nothing there is nothing to do, and never to remove.
func TestMissingInput(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files().knows(peerOf(2))
	n.apply()
	before := n.Snapshot()
	for _, path := range []string{n.Dir.Link(), n.Dir.Lease()} {
		os.Remove(path)
		if out, errs, code := n.Exec("apply"); code != exit.TryAgain || out != "" || !strings.Contains(errs, path) || !strings.Contains(errs, "\nhint: ") {
			t.Errorf("exit %d: %s%s", code, out, errs)
		}
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Error(d)
	}
}
