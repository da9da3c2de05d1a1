//go:build netns

package main

import (
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) {
	nstest.Program(main)
	nstest.Programs(m, map[string]func(){"wireguard-setup": main})
}

func TestReadme(t *testing.T) { nstest.Readme(t, nil) }

func TestScript(t *testing.T) { nstest.Scripts(t, testscript.Params{Dir: "testdata"}) }

// TestTraffic: pods reach each other in every mode and stack, and down leaves the namespace as it was.
func TestTraffic(t *testing.T) {
	for _, tc := range []struct{ stack, raw string }{
		{stackDual, `{"PSK":"` + psk + `"}`},
		{stackV4, `{}`},
		{stackV6, `{}`},
		{stackDual, `{"Mode":"auto"}`},
		{stackDual, `{"Mode":"ipv4","ListenPort":7777}`},
		{stackDual, `{"Mode":"ipv6"}`},
		{stackV6, `{"Mode":"auto","PersistentKeepaliveInterval":5}`},
	} {
		t.Run(tc.stack+" "+tc.raw, func(t *testing.T) {
			a, z := pair(t, tc.stack, tc.raw)
			before := a.Snapshot()
			up(t, a, z)
			reach(t, a, z)
			if text := a.wg(a.first(), "get=1\n"); strings.Contains(tc.raw, "Keepalive") != strings.Contains(text, "keepalive_interval=5\n") {
				t.Errorf("keepalive: %s", a.peer(a.first(), z.publicKey()))
			}
			a.kill()
			if out := a.must("down", "--remove-key"); !strings.Contains(out, "ip link del flannel-wg") || !strings.Contains(out, "remove "+a.key) {
				t.Errorf("down: %s", out)
			}
			a.Run("ip", "route", "flush", "proto", "116")
			a.Run("ip", "-6", "route", "flush", "proto", "116")
			if d := cmp.Diff(before, a.Snapshot()); d != "" {
				t.Errorf("down leaves (-before +after)\n%s", d)
			}
			for _, path := range []string{a.Dir.Link(), a.key} {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("down leaves %s", path)
				}
			}
		})
	}
}

// TestKnownLater: a node that another one began a handshake with before it knew of it begins one itself, with no packet to send.
func TestKnownLater(t *testing.T) {
	a, z := pair(t, stackV4, `{}`)
	a.start()
	z.start()
	begins := func(h *testNode) {
		t.Helper()
		h.Eventually(20*time.Second, func() string {
			if !strings.Contains(h.log.String(), "Sending handshake initiation") {
				return "it begins no handshake\n" + h.log.String()
			}
			return ""
		})
	}
	a.tell(z)
	begins(a)
	z.tell(a)
	begins(z)
	reach(t, a, z)
}

// TestPeersChange: key, port, a node that comes and goes.
func TestPeersChange(t *testing.T) {
	a, z := pair(t, stackV4, `{}`)
	up(t, a, z)
	reach(t, a, z)
	before := z.publicKey()

	// A new key of z: a has the new peer only, although nothing says that its listing is whole.
	if err := os.Remove(a.Dir.PeersSynced()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(z.key, []byte(keyOf(77).key().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	z.Eventually(5*time.Second, func() string {
		if l, err := state.Load[state.Link](z.Dir.Link()); err != nil || !strings.Contains(string(l.Publish.Data), public(77)) {
			return "the new key is not published"
		}
		return ""
	})
	link, err := state.Load[state.Link](z.Dir.Link())
	if err != nil {
		t.Fatal(err)
	}
	a.Save(a.Dir.Peer(z.in.Node), state.Peer{Version: 1, Node: z.in.Node, Subnet: z.in.Subnet, PublicIP: z.in.PublicIP, Backend: link.Publish})
	took := a.Eventually(5*time.Second, func() string {
		if a.peer(deviceName, z.publicKey()) == "" || a.peer(deviceName, before) != "" {
			return a.wg(deviceName, "get=1\n")
		}
		return ""
	})
	t.Logf("new key of a peer in its place after %s", took)
	reach(t, a, z)

	// Another port.
	z.in.Backend.Raw = []byte(`{"ListenPort":7777}`)
	z.write()
	z.Eventually(5*time.Second, func() string {
		if !strings.Contains(z.wg(deviceName, "get=1\n"), "listen_port=7777\n") {
			return "it listens elsewhere"
		}
		return ""
	})
	z.settled()
	a.tell(z)
	a.Eventually(5*time.Second, func() string {
		if p := a.peer(deviceName, z.publicKey()); !strings.Contains(p, "endpoint=192.168.0.12:7777\n") {
			return p
		}
		return ""
	})
	reach(t, a, z)

	// A node that goes, first without a full listing behind peers/.
	if err := os.Remove(a.Dir.PeersSynced()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.Dir.Peer(z.in.Node)); err != nil {
		t.Fatal(err)
	}
	if out := a.must("plan"); out != "" {
		t.Errorf("without .synced: %s", out)
	}
	if a.peer(deviceName, z.publicKey()) == "" {
		t.Error("a missing file means: delete everything")
	}
	a.Save(a.Dir.PeersSynced(), state.PeersSynced{Version: 1, Store: "test"})
	a.Eventually(5*time.Second, func() string { return a.peer(deviceName, z.publicKey()) })
}

// TestDrift: what somebody undoes is done again, by the kernel's word or by the next look.
func TestDrift(t *testing.T) {
	a, z := pair(t, stackV4, `{}`)
	up(t, a, z)
	for what, command := range map[string]string{
		"down": "ip link set flannel-wg down", "MTU": "ip link set flannel-wg mtu 1300", "address": "ip addr del 10.244.1.0/32 dev flannel-wg",
		"alias": "ip link set flannel-wg alias mine", "another address": "ip addr add 10.9.9.9/32 dev flannel-wg", "deleted": "ip link del flannel-wg",
	} {
		words := strings.Fields(command)
		a.Run(words[0], words[1:]...)
		took := a.Eventually(5*time.Second, func() string {
			out := a.Run("ip", "-d", "addr", "show", "up")
			for _, part := range []string{" flannel-wg: ", " mtu 1420 ", "alias towpath\n", "inet 10.244.1.0/32 "} {
				if !strings.Contains(out, part) {
					return command + ": no " + part + " in " + out
				}
			}
			if strings.Contains(out, "10.9.9.9") || a.peer(deviceName, z.publicKey()) == "" {
				return command + ": " + out
			}
			return ""
		})
		t.Logf("%s: right again after %s", what, took)
	}
	a.tell(z) // the routes went with the device
	reach(t, a, z)
	key := z.publicKey()
	if out := a.wg(deviceName, "set=1\npublic_key="+hex.EncodeToString(key[:])+"\nremove=true\n"); out != "errno=0\n" {
		t.Fatal(out)
	}
	took := a.Eventually(35*time.Second, func() string {
		if a.peer(deviceName, key) == "" {
			return "the peer is missing"
		}
		return ""
	})
	t.Logf("a peer removed by hand: back after %s", took)
	reach(t, a, z)
}

// TestRestart: the device stays the same one over kill -9, and down to the session everything is there again.
func TestRestart(t *testing.T) {
	a, z := pair(t, stackV4, `{"PSK":"`+psk+`"}`)
	up(t, a, z)
	reach(t, a, z)
	index := a.Run("cat", "/sys/class/net/flannel-wg/ifindex")
	key := a.publicKey()
	for _, from := range []*testNode{a, z} {
		other := map[*testNode]*testNode{a: z, z: a}[from]
		ping := from.Command("ping", "-i", "0.01", "-c", "500", "-W", "2", "-I", from.pod(state.IPv4).String(), other.pod(state.IPv4).String())
		out := new(nstest.Log)
		ping.Stdout = out
		if err := ping.Start(); err != nil {
			t.Fatal(err)
		}
		from.Eventually(5*time.Second, func() string {
			if !strings.Contains(out.String(), "icmp_seq=50 ") {
				return "no pings yet"
			}
			return ""
		})
		a.kill()
		a.begin()
		ping.Wait()
		_, summary, _ := strings.Cut(out.String(), "statistics ---\n")
		t.Logf("killed and started by hand, under ping from %s: %s", from.in.Node, strings.SplitN(summary, "\n", 2)[0])
		sent, received := counts(t, summary)
		if lost := sent - received; lost > 300 { // 3 s; sessions that are not made anew lose all of the 400 and more that follow
			t.Errorf("%d of %d packets lost", lost, sent)
		}
	}
	if again := a.Run("cat", "/sys/class/net/flannel-wg/ifindex"); again != index {
		t.Error("the device was made anew")
	}
	if a.publicKey() != key {
		t.Error("the key was made anew")
	}
}

func counts(t *testing.T, summary string) (sent, received int) {
	t.Helper()
	words := strings.Fields(summary)
	for i, w := range words {
		n, _ := strconv.Atoi(words[max(i-1, 0)])
		switch {
		case w == "packets" && sent == 0:
			sent = n
		case strings.HasPrefix(w, "received"):
			received = n
		}
	}
	if sent == 0 {
		t.Fatalf("no statistics in %q", summary)
	}
	return sent, received
}

// TestOtherPSK: WireGuard says nothing; the log and the status do.
func TestOtherPSK(t *testing.T) {
	a, z := pair(t, stackV4, `{"PSK":"`+psk+`"}`)
	z.in.Backend.Raw = []byte(`{"PSK":"` + wgtypes.Key{9: 9}.String() + `"}`)
	z.write()
	up(t, a, z)
	a.Try("ping", "-c1", "-W1", z.pod(state.IPv4).String())
	z.Try("ping", "-c1", "-W1", a.pod(state.IPv4).String())
	took := a.Eventually(50*time.Second, func() string {
		// The one that is asked knows that it was; the one that asks knows of no valid answer.
		told := 0
		for _, text := range []string{a.log.String(), z.log.String()} {
			if strings.Contains(text, "is PSK the same on both nodes?") || strings.Contains(text, "or its key or PSK is another") {
				told++
			}
		}
		if told < 2 {
			return a.log.String() + z.log.String()
		}
		return ""
	})
	t.Logf("told after %s", took)
	if !strings.Contains(a.log.String()+z.log.String(), "is PSK the same on both nodes?") {
		t.Error("neither suspects the PSK")
	}
	z.in.Backend.Raw = a.in.Backend.Raw
	z.write()
	z.settled()
	reachWithin(t, a, z, 20*time.Second) // WireGuard asks again every 5 s
}

// TestSecrets: the private key and the PSK are in their files and nowhere else.
func TestSecrets(t *testing.T) {
	a, z := pair(t, stackDual, `{"PSK":"`+psk+`"}`)
	out := a.must("plan") + a.must("apply")
	bare := func() {
		t.Helper()
		if err := os.Chmod(a.key, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bare()
	out += a.must("plan")
	if !strings.Contains(out, "chmod 0600 "+a.key) {
		t.Errorf("a key that others can read is not news: %s", out)
	}
	up(t, a, z)
	reach(t, a, z)
	bare()
	a.Run("ip", "link", "set", deviceName, "mtu", "1300") // a reason to look at everything
	a.Eventually(10*time.Second, func() string {
		for _, path := range []string{a.key, a.Dir.Backend(backend)} {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
				return path + ": " + st.Mode().String()
			}
		}
		return ""
	})
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(a.watch.Process.Pid) + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		out += string(text)
	}
	for _, path := range []string{a.Dir.Link(), a.Dir.Peer(z.in.Node)} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out += string(text)
	}
	out += a.log.String()
	if !strings.Contains(out, "UAPI: Updating preshared key") {
		t.Error("the log is not the whole one")
	}
	private, err := wgtypes.ParseKey(a.keyText())
	if err != nil {
		t.Fatal(err)
	}
	shared, err := wgtypes.ParseKey(psk)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]wgtypes.Key{"private key": private, "PSK": shared} {
		for _, form := range []string{key.String(), hex.EncodeToString(key[:]), key.String()[:20], string(key[:])} {
			if strings.Contains(out, form) {
				t.Errorf("the %s is told", what)
			}
		}
	}
	st, err := os.Stat("/proc/" + strconv.Itoa(a.pid) + "/root/run/wireguard/flannel-wg.sock")
	if err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("the control socket: %v, %v", st.Mode(), err)
	}
}

// TestKey: made once, flannel's where there is one, and never in the place of one that is broken.
func TestKey(t *testing.T) {
	a := newTestNode(t, 1, stackV4, `{}`)
	a.Run("ip", "link", "add", "eth0", "type", "bridge")
	flannels := keyOf(42).key().String()
	if err := os.MkdirAll(a.key[:strings.LastIndex(a.key, "/")], 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.key+".flannel", []byte(flannels), 0o400); err != nil {
		t.Fatal(err)
	}
	if out := a.must("apply"); !strings.Contains(out, "write "+a.key+" from "+a.key+".flannel\n") || a.keyText() != flannels {
		t.Errorf("flannel's key is not taken over: %s", out)
	}
	if err := os.Remove(a.key + ".flannel"); err != nil {
		t.Fatal(err)
	}
	if out := a.must("plan"); out != "" {
		t.Errorf("with flannel's key gone: %s", out)
	}
	if err := os.WriteFile(a.key, []byte("junk of a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := a.do("apply")
	if code != exit.BadInput || !strings.Contains(errs, a.key) || strings.Contains(out+errs, "junk") || !strings.Contains(errs, "hint: ") {
		t.Errorf("a broken key: exit %d, %s%s", code, out, errs)
	}
	if err := os.Remove(a.key); err != nil {
		t.Fatal(err)
	}
	a.must("apply")
	made := a.keyText()
	if made == flannels || a.must("apply") != "" || a.keyText() != made {
		t.Error("a key is made anew")
	}
	if st, err := os.Stat(a.key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	// The file is lost while the tunnel stands: the key that the others know is written again.
	a.start()
	if err := os.Remove(a.key); err != nil {
		t.Fatal(err)
	}
	a.Eventually(5*time.Second, func() string {
		if text, err := os.ReadFile(a.key); err != nil || strings.TrimSpace(string(text)) != made {
			return "the key's file is not there again"
		}
		return ""
	})
}

// TestPortInUse: it is said, and tried again.
func TestPortInUse(t *testing.T) {
	a, z := pair(t, stackV4, `{}`)
	hog := a.Command("python3", "-c", "import socket,time; s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); s.bind(('::',51820)); print('bound',flush=True); time.sleep(60)")
	told, err := hog.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}
	defer hog.Wait()
	defer hog.Process.Kill()
	told.Read(make([]byte, 8))
	a.begin()
	a.Eventually(10*time.Second, func() string {
		if text := a.log.String(); !strings.Contains(text, "listen-port 51820") || !strings.Contains(text, "address already in use") {
			return text
		}
		return ""
	})
	hog.Process.Kill()
	a.settled()
	z.start()
	a.tell(z)
	z.tell(a)
	a.settled()
	z.settled()
	reach(t, a, z)
}
