//go:build netns

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/state"
)

// TestRestartWritesNothing counts what the kernel tells of while the program starts on a machine
// that is as it should be.
func TestRestartWritesNothing(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, true, false).alone()
	n.device()
	n.files()
	for i := 2; i <= 50; i++ {
		n.knows(dualPeer(i))
	}
	w := n.watch()
	n.ready()
	if err := w.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.Wait()
	told, err := os.Create(filepath.Join(t.TempDir(), "told"))
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	heard := func() string {
		text, err := os.ReadFile(told.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	monitor := n.Command("ip", "monitor", "all")
	monitor.Stdout = told
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	n.Eventually(deadline, func() string { // it hears from here on
		n.Run("ip", "link", "add", "first", "type", "bridge")
		n.Run("ip", "link", "del", "first")
		if !strings.Contains(heard(), "first") {
			return "ip monitor hears nothing"
		}
		return ""
	})
	n.watch()
	n.ready()
	n.Run("ip", "link", "add", "last", "type", "bridge") // comes after everything else
	n.Eventually(deadline, func() string {
		if !strings.Contains(heard(), "last") {
			return "ip monitor is silent"
		}
		return ""
	})
	_ = monitor.Process.Kill()
	_ = monitor.Wait()
	for line := range strings.Lines(heard()) {
		if strings.Contains(line, "flannel") {
			t.Errorf("written: %s", line)
		}
	}
	if r := n.routes(); r.Repaired != 0 || r.Peers != 49 {
		t.Errorf("routes.json: %+v", r)
	}
}

// TestTakesOverFromFlannel: untagged entries as flannel makes them become ours, the device's others
// are told of, and go only on request.
func TestTakesOverFromFlannel(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	n.device()
	n.files().knows(peerOf(2))
	for i := 2; i <= 3; i++ {
		base := fmt.Sprintf("10.244.%d.0", i)
		n.Run("ip", "neigh", "add", base, "lladdr", mac(i), "dev", "flannel.1", "nud", "permanent")
		n.Run("bridge", "fdb", "add", mac(i), "dev", "flannel.1", "dst", fmt.Sprintf("192.168.0.%d", i), "self", "permanent")
		n.Run("ip", "route", "add", base+"/24", "via", base, "dev", "flannel.1", "onlink")
	}
	out := n.apply()
	want := `ip route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink proto 116
ip neigh del 10.244.3.0 dev flannel.1
bridge fdb del 02:00:00:00:00:03 dev flannel.1 dst 192.168.0.3 self
`
	if !strings.HasPrefix(out, want) {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if r := n.routes(); len(r.Foreign) != 1 || !strings.HasPrefix(r.Foreign[0], "10.244.3.0/24 ") {
		t.Errorf("routes.json: %+v", r)
	}
	if out := n.apply("--take-over"); !strings.HasPrefix(out, "ip route del 10.244.3.0/24") {
		t.Errorf("taken over:\n%s", out)
	}
}

// TestWaitsForTheDevice: started too early, it waits without routes.json and goes on by itself.
func TestWaitsForTheDevice(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, false, false).alone()
	w := n.watch()
	n.knows(peerOf(2))
	n.files()
	n.Eventually(deadline, func() string { // it has seen the files when the plan is about the device only
		if why := n.planned(); !strings.Contains(why, `device "flannel.1": no such device`) {
			return why
		}
		return ""
	})
	if _, err := os.Stat(n.Dir.Routes()); err == nil {
		t.Error("routes.json is there before the device")
	}
	n.device()
	n.ready()
	n.Eventually(deadline, n.planned)
	w.stop(t)
	if r, err := state.Load[state.Routes](n.Dir.Routes()); err != nil || r.Peers != 1 {
		t.Errorf("routes.json: %+v %v", r, err)
	}
}

// TestVerify is the look that is taken every 30 s: it must see what no event told of.
func TestVerify(t *testing.T) {
	n := newNode(t, 1, typeVXLAN, true, true).alone()
	n.device()
	n.files()
	for i := 2; i <= 9; i++ {
		p := dualPeer(i)
		p.PublicIP.IPv4 = netip.MustParseAddr(fmt.Sprintf("172.16.0.%d", i)) // not on-link: tunnelled
		n.knows(p)
	}
	n.Run("ip", "route", "add", "default", "via", "192.168.0.9")
	n.apply()
	conn, socket := n.sockets()
	e := &engine{files: files{run: n.Dir}, failed: map[string]string{}}
	observe := func() {
		t.Helper()
		if err := e.files.readHead(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.files.readPeers(); err != nil {
			t.Fatal(err)
		}
		if err := e.observe(conn, socket); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(what string, want bool) {
		t.Helper()
		same, err := e.verify(conn, socket)
		if err != nil || same != want {
			t.Errorf("%s: same %v, want %v (%v)", what, same, want, err)
		}
	}
	observe()
	verify("nothing changed", true)
	for _, drift := range []string{
		"ip route del 10.244.2.0/24", "ip -6 route del fd00:10:0:3::/64", "ip neigh del 10.244.4.0 dev flannel.1",
		"bridge fdb replace 02:00:00:00:00:05 dev flannel.1 dst 192.168.0.77 self permanent",
		"ip neigh add 10.244.99.0 lladdr 02:ff:ff:ff:ff:ff dev flannel.1 nud permanent",
		"ip route add 10.244.99.0/24 via 192.168.0.9", "ip link set flannel.1 down", "ip link set flannel-v6.1 alias mine",
		"ip route add 172.16.0.0/24 dev eth0",
	} {
		words := strings.Fields(drift)
		n.Run(words[0], words[1:]...)
		verify(drift, false)
		observe()
		verify("after "+drift, true)
	}
}
