//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	nstest.Programs(m, map[string]func(){"extension-setup": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata"}) }

// hostGW leads packets as the back end host-gw does, and tells what it was told.
var hostGW = map[string]string{
	keyPost:     `sh -c 'echo post $NETWORK $SUBNET $IPV6SUBNET $PUBLIC_IP $PUBLIC_IPV6 >>LOG'`,
	keyAdd:      `sh -c 'ip route add "$SUBNET" via "$PUBLIC_IP" && ip route add "$IPV6SUBNET" via "$PUBLIC_IPV6" && echo add "$SUBNET" >>LOG'`,
	keyRemove:   `sh -c 'ip route del "$SUBNET" via "$PUBLIC_IP" && ip route del "$IPV6SUBNET" via "$PUBLIC_IPV6" && echo remove "$SUBNET" >>LOG'`,
	keyShutdown: `sh -c 'echo shutdown >>LOG'`,
}

// TestPacketsArrive: two nodes, two programs, pings; peers come and go; the program is killed, and what it did is not done again.
func TestPacketsArrive(t *testing.T) {
	a, b := newNode(t, 1, hostGW), newNode(t, 2, hostGW)
	nstest.Connect(a.Namespace, "eth0", a.addrs(), b.Namespace, "eth0", b.addrs())
	for _, n := range []*node{a, b} {
		n.Run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
		n.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.9/32", n.number), "dev", "lo")
		n.Run("ip", "addr", "add", fmt.Sprintf("fd00:10:0:%x::9/128", n.number), "dev", "lo", "nodad")
		n.Eventually(deadline, func() string { // it comes with the carrier
			if n.Run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "link") == "" {
				return "no link-local address"
			}
			return ""
		})
		n.files()
	}
	before := map[*node]string{a: a.Snapshot(), b: b.Snapshot()}
	b.knows(peer(1))
	b.apply()
	a.knows(peer(2), peer(3))
	post := "post 10.244.0.0/16 10.244.1.0/24 fd00:10:0:1::/64 192.168.0.1 fd00::1"
	first, _ := a.watch()
	a.eventually("add 10.244.2.0/24", "add 10.244.3.0/24", post)
	a.Run("ping", "-c1", "-W5", "-I", "10.244.1.9", "10.244.2.9")
	a.Run("ping", "-6", "-c1", "-W5", "-I", "fd00:10:0:1::9", "fd00:10:0:2::9")
	link, err := state.Load[state.Link](a.Dir.Link())
	if err != nil || link.MTU != 1500 || link.Uplink != "eth0" || link.Publish.Type != backend || string(link.Publish.Data) != "null" {
		t.Errorf("link.json %+v: %v", link, err)
	}

	a.knows(peer(4))
	a.eventually("add 10.244.2.0/24", "add 10.244.3.0/24", "add 10.244.4.0/24", post)
	a.forgets(3)
	a.eventually("add 10.244.2.0/24", "add 10.244.3.0/24", "add 10.244.4.0/24", post, "remove 10.244.3.0/24")

	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	a.forgets(4)
	a.knows(peer(5))
	a.Run("ping", "-c1", "-W5", "-I", "10.244.1.9", "10.244.2.9") // nobody had to be there for this
	a.watch()
	want := []string{
		"add 10.244.2.0/24", "add 10.244.3.0/24", "add 10.244.4.0/24", "add 10.244.5.0/24", post, "remove 10.244.3.0/24", "remove 10.244.4.0/24",
	}
	a.eventually(want...)
	a.Eventually(deadline, func() string { // what was killed while it ran is settled, too
		out, errs, code := a.Exec("plan")
		if out == "" && code == exit.OK {
			return ""
		}
		return out + errs
	})

	// A peer that moves to another address.
	moved := peer(5)
	moved.PublicIP.IPv4 = netip.MustParseAddr("192.168.0.77")
	a.knows(moved)
	want = append(want, "add 10.244.5.0/24", "remove 10.244.5.0/24")
	slices.Sort(want)
	a.eventually(want...)
	if out := a.Run("ip", "route", "show", "10.244.5.0/24"); !strings.Contains(out, "via 192.168.0.77") {
		t.Error(out)
	}
	if d := cmp.Diff(before[a], a.Snapshot()); d == "" {
		t.Error("nothing was done")
	}
	b.Must("down")
	if d := cmp.Diff(before[b], b.Snapshot()); d != "" {
		t.Errorf("down leaves (-before +after)\n%s", d)
	}
	if d := cmp.Diff([]string{"add 10.244.1.0/24", "post 10.244.0.0/16 10.244.2.0/24 fd00:10:0:2::/64 192.168.0.2 fd00::2", "remove 10.244.1.0/24", "shutdown"}, b.did()); d != "" {
		t.Errorf("b did (-want +got)\n%s", d)
	}
	if out := b.Must("down"); out != "" {
		t.Errorf("a second down: %s", out)
	}
	if left, _ := filepath.Glob(string(b.Dir) + "/extension/*"); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

// TestWithoutSynced: a peer that is not there has not gone before a full listing says so.
func TestWithoutSynced(t *testing.T) {
	n := newNode(t, 1, hostGW).alone()
	n.knows(peer(2), peer(3))
	n.apply()
	done := n.did()
	if err := os.Remove(n.Dir.PeersSynced()); err != nil {
		t.Fatal(err)
	}
	n.forgets(3)
	n.knows(peer(4))
	out, errs, code := n.Exec("apply")
	if code != exit.TryAgain || !strings.Contains(errs, "peers/.synced") || strings.Contains(out, "route del") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	want := append([]string{"add 10.244.4.0/24"}, done...)
	slices.Sort(want)
	if d := cmp.Diff(want, n.did()); d != "" {
		t.Error(d)
	}
}

// TestOneFailsNoneWaits: among the peers are one whose command fails and one whose command hangs. The others are there at once, each
// of the two is tried again alone, and what they say is in the log line by line.
func TestOneFailsNoneWaits(t *testing.T) {
	n := newNode(t, 1, map[string]string{keyAdd: `sh -c '
		case $SUBNET in
		10.244.2.0/24) echo "no way to
there" >&2; exit 3 ;;
		10.244.3.0/24) echo hang >>LOG; exec sleep 100 ;;
		esac
		echo add $SUBNET >>LOG'`}).alone()
	for i := 2; i <= 30; i++ {
		n.knows(peer(i))
	}
	start := time.Now()
	_, log := n.watch("--time-limit", "2s", "--jobs", "2")
	n.Eventually(deadline, func() string {
		if got := len(slices.DeleteFunc(n.did(), func(l string) bool { return l == "hang" })); got != 27 {
			return fmt.Sprintf("%d of 27 peers", got)
		}
		return ""
	})
	t.Logf("27 peers beside one that fails and one that hangs: %s", time.Since(start).Round(time.Millisecond))
	n.Eventually(deadline, func() string {
		text := log.String()
		for _, part := range []string{
			`msg="the command says" program=extension-setup command=SubnetAddCommand node=n2 line="no way to"`, `node=n2 line=there`,
			"exit status 3: there", "not done within 2s: killed", "node=n3",
		} {
			if !strings.Contains(text, part) {
				return "the log lacks " + part
			}
		}
		if strings.Count(text, "exit status 3") < 3 {
			return "not tried again"
		}
		return ""
	})
	// A peer that comes now does not wait either.
	n.knows(peer(31))
	start = time.Now()
	n.Eventually(deadline, func() string {
		if !slices.Contains(n.did(), "add 10.244.31.0/24") {
			return "not there"
		}
		return ""
	})
	t.Logf("a peer that came later: %s", time.Since(start).Round(time.Millisecond))
	out, errs, code := n.Exec("plan")
	if strings.Count(out, "\n") < 2 || code != exit.OK || !strings.Contains(out, "SUBNET=10.244.2.0/24 ") {
		t.Errorf("plan: exit %d\n%s%s", code, out, errs)
	}
}

// TestPublishes: what PreStartupCommand prints is published, and is what the others' commands read.
func TestPublishes(t *testing.T) {
	n := newNode(t, 1, map[string]string{
		keyPre:    `sh -c 'echo pre "[$SUBNET]" >>LOG; echo note >&2; echo "  key of this <node> "'`,
		keyAdd:    `sh -c 'read data; echo "add $data" >>LOG'`,
		keyRemove: `sh -c 'read data; echo "remove $data" >>LOG'`,
	}).alone()
	other := peer(2)
	other.Backend.Data = json.RawMessage(`"key of n2"`)
	bad := peer(3)
	bad.Backend.Data = json.RawMessage(`{"VNI":1}`)
	n.knows(other, bad)
	out := n.apply()
	for _, part := range []string{"echo 'key of n2' | SUBNET=10.244.2.0/24 IPV6SUBNET=fd00:10:0:2::/64 PUBLIC_IP=192.168.0.2 PUBLIC_IPV6=fd00::2 sh -c "} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	link, err := state.Load[state.Link](n.Dir.Link())
	var data string
	if err == nil {
		err = json.Unmarshal(link.Publish.Data, &data)
	}
	if err != nil || data != "key of this <node>" || string(link.Publish.DataV6) != "null" {
		t.Errorf("published %q and %s: %v", data, link.Publish.DataV6, err)
	}
	n.forgets(2)
	n.apply()
	if d := cmp.Diff([]string{"add key of n2", "pre []", "remove key of n2"}, n.did()); d != "" {
		t.Error(d)
	}
}

// TestChanges: another start-up command, another address of this node: all that was run is taken back as it was run, and run anew.
// Another command for peers: theirs alone. Another command for the end: nothing.
func TestChanges(t *testing.T) {
	log := func(word string) string { return "sh -c 'echo " + word + " $SUBNET >>LOG'" }
	n := newNode(t, 1, map[string]string{keyPre: log("pre"), keyPost: log("post"), keyAdd: log("add"), keyRemove: log("remove"), keyShutdown: log("shutdown")}).alone()
	n.knows(peer(2))
	n.apply()
	change := func(name string, f func(), want ...string) {
		t.Helper()
		if err := os.Remove(n.log); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		f()
		n.files()
		n.apply()
		slices.Sort(want)
		if d := cmp.Diff(want, n.did()); d != "" && len(want)+len(n.did()) > 0 {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
	set := func(key, word string) func() {
		return func() { n.commands[key] = strings.ReplaceAll(log(word), "LOG", n.log) }
	}
	change("nothing", func() {})
	change("the end", set(keyShutdown, "end"))
	change("what takes back", set(keyRemove, "takeback"))
	change("what adds", set(keyAdd, "add2"), "takeback 10.244.2.0/24", "add2 10.244.2.0/24")
	change("what starts", set(keyPost, "post2"), "takeback 10.244.2.0/24", "end 10.244.1.0/24", "pre", "post2 10.244.1.0/24", "add2 10.244.2.0/24")
	change("this node's subnet", func() { n.number = 9 }, "takeback 10.244.2.0/24", "end 10.244.1.0/24", "pre", "post2 10.244.9.0/24", "add2 10.244.2.0/24")
	change("start-up that fails", func() { n.commands[keyPost] = "" }, "takeback 10.244.2.0/24", "end 10.244.9.0/24", "pre", "add2 10.244.2.0/24")
	change("this node's subnet, and nobody was told", func() { n.number = 1 })

	// Another boot, or another namespace: nothing that was run is there any more.
	var r state.ExtensionStartup
	r, err := state.Load[state.ExtensionStartup](n.Dir.ExtensionStartup())
	if err != nil {
		t.Fatal(err)
	}
	change("another boot", func() {
		r.Boot = "another"
		n.Save(n.Dir.ExtensionStartup(), r)
	}, "pre", "add2 10.244.2.0/24")
	if st, err := os.Stat(n.Dir.ExtensionPeer("n2")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("record: %v %v", st.Mode(), err)
	}
}

// TestHalfDone: a command that failed, or was killed with the program, is taken back before it is tried again, since nobody knows how far it came.
func TestHalfDone(t *testing.T) {
	n := newNode(t, 1, map[string]string{
		keyAdd: `sh -c 'ip route add "$SUBNET" via "$PUBLIC_IP" && cat LOG.go'`, keyRemove: `ip route del "$SUBNET" via "$PUBLIC_IP"`,
	}).alone()
	n.knows(peer(2))
	out, errs, code := n.Exec("apply")
	if code != exit.Refused || !strings.Contains(errs, "exit status 1: cat: ") || strings.Contains(out, "route add") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if err := os.WriteFile(n.log+".go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.apply()
	if out := n.Run("ip", "route", "show", "10.244.2.0/24"); !strings.Contains(out, "via 192.168.0.2") {
		t.Errorf("route: %s", out)
	}

	// down goes on when something is gone already, and says so.
	n.knows(peer(3))
	n.apply()
	n.Run("ip", "route", "del", "10.244.2.0/24")
	out, errs, code = n.Exec("down")
	if code != exit.OK || !strings.Contains(errs, "cannot take back, going on without") || !strings.Contains(errs, "node=n2") {
		t.Errorf("down: exit %d\n%s%s", code, out, errs)
	}
	if out := n.Run("ip", "route"); strings.Contains(out, "10.244") {
		t.Errorf("down leaves %s", out)
	}
}

// TestGoneForGood: a peer that cannot be taken back is given up after three tries.
func TestGoneForGood(t *testing.T) {
	n := newNode(t, 1, map[string]string{keyAdd: "true", keyRemove: `sh -c 'echo try >>LOG; exit 1'`}).alone()
	n.knows(peer(2))
	n.watch()
	n.Eventually(deadline, func() string {
		if r, err := state.Load[state.ExtensionPeer](n.Dir.ExtensionPeer("n2")); err != nil || !r.Done {
			return fmt.Sprint(r, err)
		}
		return ""
	})
	n.forgets(2)
	n.eventually("try", "try", "try")
	n.Eventually(deadline, func() string {
		if _, err := os.Stat(n.Dir.ExtensionPeer("n2")); !os.IsNotExist(err) {
			return "still remembered"
		}
		return ""
	})
}

// TestRefusals: what a shell alone can do is refused by name, before anything runs.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		key, text string
		code      exit.Code
		says      string
	}{
		{keyPre, "export A=b; touch LOG", exit.BadConfig, `key "backend.raw.PreStartupCommand": ';' is a shell's`},
		{keyAdd, "touch LOG && true", exit.BadConfig, `'&' is a shell's`},
		{keyShutdown, `touch "LOG`, exit.BadConfig, `a " is not closed`},
		{keyPost, "no-such-program LOG", exit.Unavailable, `no-such-program`},
		{keyPost, "sh -c 'echo why >&2; exit 7'", exit.Refused, "exit status 7: why"},
	} {
		n := newNode(t, 1, map[string]string{keyPre: "true", tc.key: tc.text}).alone()
		_, errs, code := n.Exec("apply")
		if code != tc.code || !strings.Contains(errs, tc.says) || tc.code != exit.Refused && !strings.Contains(errs, "\nhint: ") {
			t.Errorf("%s: exit %d: %s", tc.text, code, errs)
		}
		if _, err := os.Stat(n.Dir.Link()); err == nil || len(n.did()) > 0 {
			t.Errorf("%s: something was done: %v", tc.text, n.did())
		}
	}
}
