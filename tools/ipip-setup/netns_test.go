//go:build netns

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
)

func TestMain(m *testing.M) {
	nstest.Program(main)
	nstest.Programs(m, map[string]func(){"ipip-setup": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata"}) }

type node struct{ nstest.Node }

func newNode(t *testing.T) node {
	n := node{nstest.NewNode(t)}
	n.Uplink("192.168.0.11/24")
	return n
}

// TestOnThisKernel makes the device where the kernel has IPIP, and sees that it is told clearly where it has not: either
// way something is tested.
func TestOnThisKernel(t *testing.T) {
	n := newNode(t)
	before := n.Snapshot()
	n.Save(n.Dir.Backend(backend), input())
	_, lacks := n.Try("ip", "link", "add", "probe", "type", "ipip", "local", "127.0.0.9")
	if lacks == nil {
		n.Run("ip", "link", "del", "probe")
		n.lifecycle(t, n.Snapshot())
		return
	}
	out, errs, code := n.Exec("apply")
	if code != exit.Refused || out != "" || !strings.Contains(errs, "this kernel has no IPIP devices") ||
		!strings.Contains(errs, "\nhint: modprobe ipip") || !strings.Contains(errs, "another back end") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(n.Dir.Link()); err == nil {
		t.Error("link.json names a device that is not there")
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("left behind (-before +after)\n%s", d)
	}
	if out, errs, code := n.Exec("down"); code != exit.OK || out != "" {
		t.Errorf("down: exit %d\n%s%s", code, out, errs)
	}
}

func (n node) lifecycle(t *testing.T, before string) {
	good := func() string {
		if out, errs, code := n.Exec("plan"); out != "" || code != exit.OK {
			return out + errs
		}
		return ""
	}
	if out, errs, code := n.Exec("apply"); code != exit.OK || !strings.HasPrefix(out, fresh) || good() != "" {
		t.Fatalf("exit %d\n%s%s%s", code, out, errs, good())
	}
	if out := n.Run("ip", "-d", "link", "show", deviceName); !strings.Contains(out, "mtu 1480 ") || !strings.Contains(out, "ipip remote any local 192.168.0.11") {
		t.Error(out)
	}
	watch := n.Program("watch")
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	for _, drift := range []string{
		"ip link del flannel.ipip", "ip link set flannel.ipip mtu 1000", "ip link set flannel.ipip down", "ip addr del 10.244.1.0/32 dev flannel.ipip",
		"ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500", "ip link set flannel.ipip name tun9",
	} {
		words := strings.Fields(drift)
		n.Run(words[0], words[1:]...)
		n.Eventually(20*time.Second, good)
	}
	_ = watch.Process.Kill()
	_ = watch.Wait()
	if out, errs, code := n.Exec("down"); code != exit.OK {
		t.Errorf("down: %s%s", out, errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("down leaves (-before +after)\n%s", d)
	}
}

func TestBadInput(t *testing.T) {
	good, err := json.Marshal(input())
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	path := n.Dir.Backend(backend)
	for _, tc := range []struct {
		name, text string
		code       exit.Code
		says       string
	}{
		{"empty", "", exit.BadInput, "empty"},
		{"truncated", string(good[:len(good)/2]), exit.BadInput, "truncated"},
		{"newer", strings.Replace(string(good), `"version":1`, `"version":99`, 1), exit.BadInput, `key "version"`},
		{"wrong type", strings.Replace(string(good), `"mtu":1500`, `"mtu":"big"`, 1), exit.BadInput, `key "interface.mtu"`},
		{"another interface", strings.Replace(string(good), `"eth0"`, `"eth9"`, 1), exit.TryAgain, `"eth9"`},
	} {
		if err := os.WriteFile(path, []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"plan", "apply"} {
			out, errs, code := n.Exec(verb)
			if code != tc.code || !strings.Contains(errs, tc.says) || tc.code == exit.BadInput && !strings.Contains(errs, filepath.Base(path)) || out != "" {
				t.Errorf("%s: %s: exit %d, want %d saying %q: %s%s", tc.name, verb, code, tc.code, tc.says, out, errs)
			}
		}
	}
}
