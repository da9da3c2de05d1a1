//go:build netns

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) {
	nstest.Program(main)
	nstest.Programs(m, map[string]func(){"hostgw-setup": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata"}) }

func newNode(t *testing.T) nstest.Node {
	n := nstest.NewNode(t)
	n.Uplink("192.168.0.11/24")
	return n
}

func TestFollowsTheInterface(t *testing.T) {
	n := newNode(t)
	n.Save(n.Dir.Backend(backend), input())
	watch := n.Program("watch")
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch.Wait()
	defer watch.Process.Kill()
	mtu := func(want int) {
		n.Eventually(20*time.Second, func() string {
			l, err := state.Load[state.Link](n.Dir.Link())
			if err != nil {
				return err.Error()
			}
			if l.MTU != want {
				return "MTU of another interface"
			}
			return ""
		})
	}
	mtu(1500)
	n.Run("ip", "link", "set", "eth0", "mtu", "1400")
	mtu(1400)
	if err := os.Remove(n.Dir.Link()); err != nil {
		t.Fatal(err)
	}
	mtu(1400)
}

// TestAddressComesBack: started while the interface is without its IPv6 address, as after the link was down, it waits.
func TestAddressComesBack(t *testing.T) {
	n := newNode(t)
	in := input()
	in.Subnet.IPv6, in.PublicIP.IPv6 = netip.MustParsePrefix("fd00:1::/64"), netip.MustParseAddr("fd00::11")
	in.Interface.IP = in.PublicIP
	n.Save(n.Dir.Backend(backend), in)
	for _, verb := range []string{"plan", "apply"} {
		out, err := n.Program(verb).CombinedOutput()
		if err == nil || err.Error() != "exit status 75" || !strings.Contains(string(out), `address fd00::11: "eth0" has lost it`) {
			t.Errorf("%s: %v: %s", verb, err, out)
		}
	}
	watch := n.Program("watch")
	log, err := watch.StderrPipe()
	if err == nil {
		err = watch.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Wait()
	defer watch.Process.Kill()
	for lines := bufio.NewScanner(log); lines.Scan() && !strings.Contains(lines.Text(), "has lost it"); {
	}
	go io.Copy(io.Discard, log)
	n.Run("ip", "addr", "add", "fd00::11/64", "dev", "eth0", "nodad")
	n.Eventually(20*time.Second, func() string {
		if l, err := state.Load[state.Link](n.Dir.Link()); err != nil || !l.Device.Has(state.IPv6) {
			return fmt.Sprintf("link.json: %+v, %v", l, err)
		}
		return ""
	})
}

func TestBadInput(t *testing.T) {
	good, err := json.Marshal(input())
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	before := n.Snapshot()
	for name, tc := range map[string]struct {
		text string
		code string
		says string
	}{
		"empty":        {"", "65", "empty"},
		"truncated":    {string(good[:len(good)/2]), "65", "truncated"},
		"not JSON":     {"<html>", "65", "line 1"},
		"huge":         {strings.Repeat(" ", state.MaxSize) + string(good), "65", "larger"},
		"newer":        {strings.Replace(string(good), `"version":1`, `"version":99`, 1), "65", `key "version"`},
		"wrong type":   {strings.Replace(string(good), `"mtu":1500`, `"mtu":"big"`, 1), "65", `key "interface.mtu"`},
		"not our IP":   {strings.Replace(string(good), `192.168.0.11`, `192.168.0.99`, 1), "78", "192.168.0.99"},
		"no interface": {strings.Replace(string(good), `eth0`, `eth9`, 1), "75", "eth9"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(n.Dir.Backend(backend), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"plan", "apply"} {
				out, err := n.Program(verb).CombinedOutput()
				if err == nil || err.Error() != "exit status "+tc.code || !strings.Contains(string(out), tc.says) || tc.code == "65" && !strings.Contains(string(out), "host-gw.json") {
					t.Errorf("%s: %v, want exit %s saying %q: %s", verb, err, tc.code, tc.says, out)
				}
			}
			if _, err := os.Stat(n.Dir.Link()); err == nil {
				t.Error("link.json written")
			}
		})
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Error(d)
	}
}
