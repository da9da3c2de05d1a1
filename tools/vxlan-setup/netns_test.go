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
	"sync"
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
	nstest.Node
	t *testing.T
}

func newNode(t *testing.T) node {
	n := node{nstest.NewNode(t), t}
	n.Uplink("192.168.0.11/24 fd00::11/64")
	return n
}

func (n node) write(in state.BackendInput) {
	n.t.Helper()
	n.Save(n.Dir.Backend(backend), in)
}

func (n node) apply(args ...string) string {
	n.t.Helper()
	out, errs, code := n.Exec(append([]string{"apply"}, args...)...)
	if code != exit.OK {
		n.t.Fatalf("apply: exit %d\n%s%s", code, out, errs)
	}
	if out, _, code := n.Exec("plan"); out != "" || code != exit.OK {
		n.t.Errorf("plan after apply: exit %d\n%s", code, out)
	}
	return out
}

func (n node) link() state.Link {
	n.t.Helper()
	l, err := state.Load[state.Link](n.Dir.Link())
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

// TestIPv6IsSwitchedOn: where new devices have no IPv6, or somebody takes it off ours, the one for IPv6 has it.
func TestIPv6IsSwitchedOn(t *testing.T) {
	n := newNode(t)
	n.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
	n.write(dual())
	const set = "sysctl -w net/ipv6/conf/flannel-v6.1/disable_ipv6=0\n"
	if out := n.apply(); strings.Count(out, "disable_ipv6") != 1 || !strings.Contains(out, set) {
		t.Errorf("apply:\n%s", out)
	}
	n.Run("sysctl", "-qw", "net/ipv6/conf/flannel-v6.1/disable_ipv6=1") // takes the address too
	if out := n.apply(); !strings.Contains(out, set+"ip -6 addr add fd00:10:1::/128 dev flannel-v6.1 nodad\n") {
		t.Errorf("apply:\n%s", out)
	}
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
	if _, errs, code := n.Exec("down"); code != exit.OK {
		t.Fatal(errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("down leaves (-before +after)\n%s", d)
	}
	if _, err := os.Stat(n.Dir.Link()); err == nil {
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
}

// TestOldDeviceStays: what peers that have not changed yet send to is there until route-sync removes it, with all that it has, and comes
// back as it is when the change is taken back.
func TestOldDeviceStays(t *testing.T) {
	n := newNode(t)
	in := input()
	n.write(in)
	n.apply()
	n.Run("ip", "route", "add", "10.244.9.0/24", "via", "10.244.9.0", "dev", "flannel.1", "onlink", "proto", "116")
	before := n.Snapshot()
	change := func(f func(*state.Backend)) {
		t.Helper()
		f(&in.Backend)
		n.write(in)
		n.apply()
		if again := n.apply(); again != "" {
			t.Errorf("once more:\n%s", again)
		}
	}
	change(func(b *state.Backend) { b.VNI = 2 })
	change(func(b *state.Backend) { b.Port = 4789 })
	change(func(b *state.Backend) { b.VNI = 1 })
	route := n.Run("ip", "route", "show", "10.244.9.0/24")
	if all := n.Run("ip", "-br", "link", "show", "type", "vxlan"); strings.Count(all, "\n") != 4 || !strings.Contains(route, "dev retired") {
		t.Errorf("the devices are\n%sand the route is\n%s", all, route)
	}
	if data := string(n.link().Publish.Data); !strings.Contains(data, "4789") {
		t.Errorf("published: %s", data)
	}
	change(func(b *state.Backend) { b.Port = 8472 })
	for line := range strings.Lines(n.Run("ip", "-br", "link", "show", "type", "vxlan")) {
		if dev, _, _ := strings.Cut(line, " "); dev != "flannel.1" {
			n.Run("ip", "link", "del", dev) // as route-sync does
		}
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("there and back (-before +after):\n%s", d)
	}
}

// TestAddressChanges: the device follows the node's address and uplink with traffic on it.
func TestAddressChanges(t *testing.T) {
	n := newNode(t)
	n.write(dual())
	n.apply()
	before := n.Run("ip", "-br", "link", "show", "type", "vxlan")
	n.Run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
	n.Run("ip", "addr", "add", "192.168.0.12/24", "dev", "eth1")
	n.Run("ip", "addr", "add", "fd00::12/64", "dev", "eth1", "nodad")
	n.Run("ip", "link", "set", "eth1", "up")
	in := dual()
	in.Interface.Name = "eth1"
	in.Interface.IP = state.Pair[netip.Addr]{IPv4: netip.MustParseAddr("192.168.0.12"), IPv6: netip.MustParseAddr("fd00::12")}
	in.PublicIP = in.Interface.IP
	in.Backend.Learning = true
	n.write(in)
	out := n.apply()
	for dev, local := range map[string]string{"flannel.1": "192.168.0.12", "flannel-v6.1": "fd00::12"} {
		if !strings.Contains(out, "ip link set dev "+dev+" type vxlan dev eth1 local "+local+" learning\n") {
			t.Errorf("the plan for %s:\n%s", dev, out)
		}
		is := n.Run("ip", "-d", "link", "show", dev)
		if !strings.Contains(is, "local "+local+" dev eth1") || strings.Contains(is, "nolearning") {
			t.Errorf("%s", is)
		}
	}
	if after := n.Run("ip", "-br", "link", "show", "type", "vxlan"); after != before {
		t.Errorf("made anew:\n%s%s", before, after)
	}
	if again := n.apply(); again != "" {
		t.Errorf("once more:\n%s", again)
	}
}

func TestForeignDeviceStays(t *testing.T) {
	n := newNode(t)
	n.Run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "4789")
	before := n.Snapshot()
	n.write(input())
	if _, errs, code := n.Exec("apply"); code != exit.Refused || !strings.Contains(errs, "\nhint: ") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Error(d)
	}
	n.apply("--take-over")
}

// TestLeavingsGo: flannel's devices go with another back end, told to, and nobody else's do.
func TestLeavingsGo(t *testing.T) {
	n := newNode(t)
	for i, name := range []string{"flannel.7", "flannel-v6.8", "flannel.x", "mine.1"} {
		n.Run("ip", "link", "add", name, "type", "vxlan", "id", fmt.Sprint(i+1), "dev", "eth0", "dstport", "8472")
	}
	if out, errs, code := n.Exec("down"); code != exit.OK || out != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if out, errs, code := n.Exec("down", "--take-over"); code != exit.OK || out != "ip link del flannel-v6.8\nip link del flannel.7\n" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// TestHandsBack: the device stays as it is, less the mark, and is taken again as it is.
func TestHandsBack(t *testing.T) {
	n := newNode(t)
	n.write(dual())
	n.apply()
	before := n.Run("ip", "-d", "addr")
	out, errs, code := n.Exec("down", "--hand-back")
	want := "ip link set dev flannel-v6.1 alias \"\"\nip link set dev flannel.1 alias \"\"\nremove " + n.Dir.Link() + "\n"
	if code != exit.OK || out != want {
		t.Errorf("exit %d, want\n%s\ngot\n%s%s", code, want, out, errs)
	}
	if d := cmp.Diff(strings.ReplaceAll(before, "    alias towpath\n", ""), n.Run("ip", "-d", "addr")); d != "" {
		t.Error(d)
	}
	if out, _, _ := n.Exec("down", "--hand-back"); out != "" {
		t.Errorf("a second down: %s", out)
	}
	n.apply()
	if d := cmp.Diff(before, n.Run("ip", "-d", "addr")); d != "" {
		t.Errorf("taken again: %s", d)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	n := newNode(t)
	n.write(dual())
	n.watch()
	n.Eventually(20*time.Second, func() string {
		if _, err := os.Stat(n.Dir.Link()); err != nil {
			return err.Error()
		}
		return ""
	})
	good := func() string {
		plan, errs, code := n.Exec("plan")
		if plan != "" || code != exit.OK {
			return fmt.Sprintf("exit %d %s%s", code, plan, errs)
		}
		return ""
	}
	n.Eventually(20*time.Second, good)
	for _, drift := range []string{
		"ip link del flannel.1", "ip link del flannel-v6.1", "ip link set flannel.1 mtu 1000", "ip link set flannel.1 down",
		"ip addr del 10.244.1.0/32 dev flannel.1", "ip addr add 10.9.9.9/32 dev flannel.1", "ip link set flannel.1 address " + macNew,
		"ip link set eth0 mtu 1400", "ip link set flannel.1 name vx0", "ip link set eth0 mtu 1500", "rm " + n.Dir.Link(),
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

// watch runs watch until the test ends, or stop is called, which returns its log.
func (n node) watch(args ...string) (stop func() string) {
	n.t.Helper()
	cmd := n.Program(append([]string{"watch"}, args...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	stop = sync.OnceValue(func() string {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("watch: %v", err)
		}
		return log.String()
	})
	n.t.Cleanup(func() {
		if log := stop(); n.t.Failed() {
			n.t.Logf("watch:\n%s", log)
		}
	})
	return stop
}

func TestBadInput(t *testing.T) {
	good, err := json.Marshal(input())
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	before := n.Snapshot()
	path := n.Dir.Backend(backend)
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
				out, errs, code := n.Exec(verb)
				if code != tc.code || !strings.Contains(errs, tc.says) || tc.code == exit.BadInput && !strings.Contains(errs, filepath.Base(path)) || out != "" {
					t.Errorf("%s: exit %d, want %d saying %q: %s%s", verb, code, tc.code, tc.says, out, errs)
				}
			}
		})
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := n.Exec("apply"); code != exit.TryAgain || !strings.Contains(errs, "vxlan.json") {
		t.Errorf("missing: exit %d %s", code, errs)
	}
	if d := cmp.Diff(before, n.Snapshot()); d != "" {
		t.Errorf("kernel touched (-before +after)\n%s", d)
	}
}

// TestReadOnlySysctl: in a container that is not privileged the device is made all the same, and what is left undone is said.
func TestReadOnlySysctl(t *testing.T) {
	n := newNode(t)
	n.write(input())
	sys := t.TempDir()
	script := fmt.Sprintf("mount --rbind /proc/sys %[1]s && mount -o remount,ro,bind %[1]s && exec \"$@\"", sys)
	readOnly := func(verb string) (stdout, stderr string) {
		t.Helper()
		self := n.Program(verb, "--sysctl-root", sys)
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh"}, self.Args...)...)
		cmd.Env = self.Env
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", verb, err, errs.String())
		}
		return out.String(), errs.String()
	}
	out, log := readOnly("apply")
	if strings.Contains(out, "sysctl") || !strings.Contains(out, "flannel.1") || !strings.Contains(log, "--sysctl-root") {
		t.Errorf("apply printed\n%s%s", out, log)
	}
	if out, _ := readOnly("plan"); out != "" {
		t.Errorf("plan after apply:\n%s", out)
	}
	if out := n.apply(); !strings.Contains(out, "accept_ra=0") {
		t.Errorf("apply with parameters that can be written: %q", out)
	}
}
