//go:build netns

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) {
	nstest.Program(main)
	nstest.Programs(m, map[string]func(){"vxlan-setup": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata"}) }

// node is a namespace with an uplink eth0 and a run directory.
type node struct {
	*nstest.Namespace
	t   *testing.T
	run state.Dir
}

func newNode(t *testing.T) node {
	n := node{Namespace: nstest.New(t, "node"), t: t, run: state.Dir(t.TempDir())}
	n.NoDAD()
	n.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
	n.Run("ip", "link", "set", "far0", "up")
	n.Run("ip", "link", "set", "eth0", "up")
	n.Run("ip", "addr", "add", "192.168.0.11/24", "dev", "eth0")
	n.Run("ip", "addr", "add", "fd00::11/64", "dev", "eth0", "nodad")
	return n
}

func (n node) write(in state.BackendInput) {
	n.t.Helper()
	if _, err := state.Save(n.run.Backend(backend), in); err != nil {
		n.t.Fatal(err)
	}
}

// do runs the program and returns standard output, standard error and the exit status.
func (n node) do(args ...string) (stdout, stderr string, code exit.Code) {
	n.t.Helper()
	cmd := n.Self(append(args, "--run-dir", string(n.run))...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited { //nolint:errorlint // exec's own, not wrapped
		n.t.Fatal(err)
	}
	return out.String(), errs.String(), exit.Code(cmd.ProcessState.ExitCode())
}

func (n node) apply(args ...string) string {
	n.t.Helper()
	out, errs, code := n.do(append([]string{"apply"}, args...)...)
	if code != exit.OK {
		n.t.Fatalf("apply: exit %d\n%s%s", code, out, errs)
	}
	if out, _, code := n.do("plan"); out != "" || code != exit.OK {
		n.t.Errorf("plan after apply: exit %d\n%s", code, out)
	}
	return out
}

func (n node) link() state.Link {
	n.t.Helper()
	l, err := state.Load[state.Link](n.run.Link())
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

func (n node) detail() string { return n.Run("ip", "-d", "link", "show", "flannel.1") }

func dual() state.BackendInput {
	in := input()
	in.Subnet.IPv6 = netip.MustParsePrefix("fd00:10:1::/64")
	in.PublicIP.IPv6 = netip.MustParseAddr("fd00::11")
	in.Interface.IP.IPv6 = netip.MustParseAddr("fd00::11")
	return in
}

func TestDeviceIsFlannels(t *testing.T) {
	n := newNode(t)
	before := n.Snapshot()
	n.write(dual())
	n.apply()
	for _, part := range []string{"mtu 1450 ", "link/ether 02:00:00:00:00:01", "vxlan id 1 local 192.168.0.11 dev eth0", "dstport 8472 nolearning", " udpcsum ", "alias towpath"} {
		if !strings.Contains(n.detail(), part) {
			t.Errorf("no %q in\n%s", part, n.detail())
		}
	}
	v6 := n.Run("ip", "-d", "addr", "show", "flannel-v6.1")
	for _, part := range []string{"mtu 1430 ", "local fd00::11 dev eth0", "inet6 fd00:10:1::/128 scope global"} {
		if !strings.Contains(v6, part) {
			t.Errorf("no %q in\n%s", part, v6)
		}
	}
	if out := n.Run("ip", "-4", "-br", "addr", "show", "flannel.1"); strings.Join(strings.Fields(out)[2:], " ") != "10.244.1.0/32" {
		t.Errorf("addresses: %s", out)
	}
	if ra := n.Run("cat", "/proc/sys/net/ipv6/conf/flannel.1/accept_ra"); strings.TrimSpace(ra) != "0" {
		t.Errorf("accept_ra %s", ra)
	}
	l := n.link()
	if l.MTU != 1430 || l.Uplink != "eth0" || string(l.Publish.Data) == "" || l.Device.IPv4 != (state.Device{Name: "flannel.1", MTU: 1450, VNI: 1, VtepMAC: macOld}) {
		t.Errorf("link.json %+v", l)
	}
	if _, errs, code := n.do("down"); code != exit.OK {
		t.Fatal(errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("down leaves (-before +after)\n%s", d)
	}
	if _, err := os.Stat(n.run.Link()); err == nil {
		t.Error("down leaves link.json")
	}
}

// TestTakesFlannelsDevice: no packet is lost, since the device stays the same one.
func TestTakesFlannelsDevice(t *testing.T) {
	n := newNode(t)
	n.Run("ip", "link", "add", "flannel.1", "address", macNew, "mtu", "1400", "type", "vxlan", "id", "1", "dev", "eth0", "local", "192.168.0.11", "dstport", "8472", "nolearning")
	n.Run("ip", "addr", "add", "10.244.1.0/32", "dev", "flannel.1")
	n.Run("ip", "link", "set", "flannel.1", "up")
	index := n.Run("cat", "/sys/class/net/flannel.1/ifindex")
	n.write(input())
	want := "ip link set dev flannel.1 alias towpath\nip link set dev flannel.1 mtu 1450\n"
	if out := n.apply(); !strings.HasPrefix(out, want) {
		t.Errorf("changes:\n%s", out)
	}
	if again := n.Run("cat", "/sys/class/net/flannel.1/ifindex"); again != index {
		t.Error("the device was made anew")
	}
	if mac := n.link().Device.IPv4.VtepMAC; mac != macNew {
		t.Errorf("published %s instead of the MAC that the other nodes know, %s", mac, macNew)
	}
}

func TestMadeAnewWithItsMAC(t *testing.T) {
	n := newNode(t)
	in := input()
	in.Previous = state.Published{}
	n.write(in)
	n.apply()
	mac := n.link().Device.IPv4.VtepMAC
	in.Backend.Port, in.Backend.GBP = 4789, true
	n.write(in)
	n.apply()
	if out := n.detail(); !strings.Contains(out, mac) || !strings.Contains(out, "dstport 4789") || !strings.Contains(out, "gbp") {
		t.Errorf("MAC %s lost or port not set:\n%s", mac, out)
	}
	in.Backend.VNI = 2
	n.write(in)
	n.apply()
	if out, err := n.Try("ip", "link", "show", "flannel.1"); err == nil {
		t.Errorf("the device of the old VNI stays:\n%s", out)
	}
}

func TestForeignDeviceStays(t *testing.T) {
	n := newNode(t)
	n.Run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "4789")
	before := n.Snapshot()
	n.write(input())
	if _, errs, code := n.do("apply"); code != exit.Refused || !strings.Contains(errs, "\nhint: ") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Error(d)
	}
	n.apply("--take-over")
}

func TestDriftIsRepaired(t *testing.T) {
	n := newNode(t)
	n.write(dual())
	start(t, n)
	n.Eventually(20*time.Second, func() string {
		if _, err := os.Stat(n.run.Link()); err != nil {
			return err.Error()
		}
		return ""
	})
	good := func() string {
		plan, errs, code := n.do("plan")
		if plan != "" || code != exit.OK {
			return fmt.Sprintf("exit %d %s%s", code, plan, errs)
		}
		return ""
	}
	n.Eventually(20*time.Second, good)
	for _, drift := range []string{
		"ip link del flannel.1", "ip link del flannel-v6.1", "ip link set flannel.1 mtu 1000", "ip link set flannel.1 down",
		"ip addr del 10.244.1.0/32 dev flannel.1", "ip addr add 10.9.9.9/32 dev flannel.1", "ip link set flannel.1 address " + macNew,
		"ip link set eth0 mtu 1400", "ip link set flannel.1 name vx0", "ip link set eth0 mtu 1500", "rm " + n.run.Link(),
	} {
		words := strings.Fields(drift)
		n.Run(words[0], words[1:]...)
		took := n.Eventually(20*time.Second, good)
		t.Logf("%-45s repaired in %s", drift, took.Round(time.Millisecond))
	}
	if mac := n.link().Device.IPv4.VtepMAC; mac != macOld {
		t.Errorf("MAC %s after all that, want %s", mac, macOld)
	}
}

// start runs watch until the test ends.
func start(t *testing.T, n node) {
	cmd := n.Self("watch", "--run-dir", string(n.run))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("watch: %v", err)
		}
		if t.Failed() {
			t.Logf("watch:\n%s", log.String())
		}
	})
}

func TestBadInput(t *testing.T) {
	good, err := json.Marshal(input())
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	before := n.Snapshot()
	path := n.run.Backend(backend)
	for _, tc := range []struct {
		name, text string
		code       exit.Code
		says       string
	}{
		{"empty", "", exit.BadInput, "empty"},
		{"truncated", string(good[:len(good)/2]), exit.BadInput, "truncated"},
		{"not JSON", "<html>", exit.BadInput, "line 1"},
		{"a list", "[]", exit.BadInput, "array"},
		{"huge", strings.Repeat(" ", state.MaxSize) + string(good), exit.BadInput, "larger"},
		{"newer", strings.Replace(string(good), `"version":1`, `"version":99`, 1), exit.BadInput, `key "version"`},
		{"no version", `{}`, exit.BadInput, `key "version"`},
		{"wrong type", strings.Replace(string(good), `"vni":1`, `"vni":"one"`, 1), exit.BadInput, `key "backend.vni"`},
		{"no address", strings.Replace(string(good), `10.244.1.0/24`, `10.244.1/24`, 1), exit.BadInput, `key "subnet`},
		{"host bits", strings.Replace(string(good), `10.244.1.0/24`, `10.244.1.7/24`, 1), exit.BadInput, `key "subnet.ipv4"`},
		{"name of an interface", strings.Replace(string(good), `"eth0"`, `"../../eth0"`, 1), exit.TryAgain, `../../eth0`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"plan", "apply"} {
				out, errs, code := n.do(verb)
				if code != tc.code || !strings.Contains(errs, tc.says) || tc.code == exit.BadInput && !strings.Contains(errs, filepath.Base(path)) || out != "" {
					t.Errorf("%s: exit %d, want %d saying %q: %s%s", verb, code, tc.code, tc.says, out, errs)
				}
			}
		})
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := n.do("apply"); code != exit.TryAgain || !strings.Contains(errs, "vxlan.json") {
		t.Errorf("missing: exit %d %s", code, errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("kernel touched (-before +after)\n%s", d)
	}
}
