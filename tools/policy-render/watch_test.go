package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// watched is a run of policy-render watch on directories of its own.
type watched struct {
	t        *testing.T
	dir      state.Dir
	objects  string
	notify   *net.UnixConn
	said     []string // READY and STATUS lines
	log      *nstest.Log
	cmd      *exec.Cmd
	patience time.Duration
}

func newWatched(t *testing.T) *watched {
	w := &watched{t: t, dir: state.Dir(t.TempDir()), objects: t.TempDir(), log: &nstest.Log{}, patience: 20 * time.Second}
	w.write(w.dir.Lease(), dualLease)
	return w
}

// write replaces a file in one step, as programs do.
func (w *watched) write(path, text string) {
	w.t.Helper()
	if _, err := state.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) start(args ...string) {
	w.t.Helper()
	socket := filepath.Join(w.t.TempDir(), "notify")
	var err error
	if w.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		w.t.Fatal(err)
	}
	w.cmd = exec.Command("policy-render", append([]string{"watch", "--run-dir", string(w.dir), "--objects", w.objects, "--cut=false"}, args...)...)
	w.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	w.cmd.Stderr = w.log
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		w.stop()
		w.notify.Close()
		if w.t.Failed() {
			w.t.Logf("policy-render watch said:\n%s", w.log)
		}
	})
}

func (w *watched) stop() {
	if w.cmd != nil {
		_ = w.cmd.Process.Signal(syscall.SIGTERM)
		if err := w.cmd.Wait(); err != nil {
			w.t.Errorf("policy-render watch: %v", err)
		}
		w.cmd = nil
	}
}

// says waits until the program tells the supervisor something that holds text.
func (w *watched) says(text string) {
	w.t.Helper()
	w.eventually(text, func() bool {
		buf := make([]byte, 4096)
		for {
			w.notify.SetReadDeadline(time.Now().Add(time.Millisecond))
			k, err := w.notify.Read(buf)
			if err != nil {
				break
			}
			w.said = append(w.said, string(buf[:k]))
		}
		for i, line := range w.said {
			if strings.Contains(line, text) {
				w.said = w.said[i+1:]
				return true
			}
		}
		return false
	})
}

func (w *watched) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(w.patience); !ok(); <-time.After(5 * time.Millisecond) {
		var ended unix.Siginfo
		if w.cmd != nil && unix.Waitid(unix.P_PID, w.cmd.Process.Pid, &ended, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil) == nil && ended.Signo != 0 {
			w.t.Fatalf("%s: the program ended; said %q", what, w.said)
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %s; said %q", what, w.patience, w.said)
		}
	}
}

// file is a file below policy/, empty while it is not there.
func (w *watched) file(path string) string {
	text, _ := os.ReadFile(filepath.Join(w.dir.Policy(), path))
	return string(text)
}

// manifest waits for a policy.nft that ok accepts, all of whose files are there.
func (w *watched) manifest(what string, ok func(m *ruleset.Manifest) bool) *ruleset.Manifest {
	w.t.Helper()
	var m *ruleset.Manifest
	w.eventually(what, func() bool {
		text, err := os.ReadFile(w.dir.PolicyNFT())
		if err != nil {
			return false
		}
		if m, err = ruleset.ParseManifest(w.dir.Policy(), text); err != nil {
			w.t.Fatal(err)
		}
		for _, e := range m.Entries {
			if ruleset.Digest([]byte(w.file(e.Path))) != e.Digest {
				return false
			}
		}
		return ok(m)
	})
	return m
}

func hasFile(m *ruleset.Manifest, path string) bool {
	for _, e := range m.Entries {
		if e.Path == path {
			return true
		}
	}
	return false
}

func podYAML(name, uid, ip string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: dev, uid: %s, labels: {app: %s}}\nspec: {nodeName: n1, containers: [{name: c}]}\nstatus: {podIPs: [{ip: %s}]}\n", name, uid, name, ip)
}

func policyYAML(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: dev}\nspec: %s\n", name, spec)
}

const allowWeb = "inet/chains/pi-dev_allow-web.nft"

func TestWatchFollowsItsInputs(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.write(w.objects+"/pods.yaml", podYAML("web", "u1", "10.244.1.2"))
	w.write(filepath.Join(w.dir.Policy(), "inet/chains/left-from-before.nft"), "x")
	w.start()
	w.says("READY=1")
	w.manifest("first", func(m *ruleset.Manifest) bool { return hasFile(m, "inet/chains/forward.nft") })
	w.says("1 pods, 0 policies")

	w.write(w.objects+"/allow-web.yaml", policyYAML("allow-web", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"))
	first := w.manifest("policy", func(m *ruleset.Manifest) bool { return hasFile(m, allowWeb) })
	w.eventually("what nothing names goes with the next write", func() bool { return w.file("inet/chains/left-from-before.nft") == "" })
	before, err := os.Stat(filepath.Join(w.dir.Policy(), "inet/chains/forward.nft"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(w.objects+"/allow-web.yaml", policyYAML("allow-web", "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 443}]}]}"))
	w.manifest("port", func(m *ruleset.Manifest) bool {
		return m.Generation() != first.Generation() && strings.Contains(w.file(allowWeb), "@port-")
	})
	if after, err := os.Stat(filepath.Join(w.dir.Policy(), "inet/chains/forward.nft")); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that did not change was written: %v", err)
	}

	// An endpoint comes before its pod is known: it is guarded, closed, and covered once the pod is there.
	endpoint := `{"version": 1, "containerID": "c7", "interface": "eth0", "namespace": "dev", "pod": "late", "uid": "u7",
		"ip": {"ipv4": "10.244.1.7"}, "mac": "0a:58:0a:f4:01:07", "bridge": "cni0", "hostVeth": "veth7"}`
	w.write(w.dir.Endpoint("c7", "eth0"), endpoint)
	w.says("1 waiting")
	w.manifest("guarded", func(m *ruleset.Manifest) bool {
		return len(m.Endpoints) == 0 && strings.Contains(w.file("bridge/sets/port4.nft"), `"veth7"`) && !strings.Contains(w.file("inet/maps/ingress4.nft"), "10.244.1.7")
	})
	w.write(w.objects+"/late.yaml", podYAML("late", "u7", "10.244.1.99"))
	w.manifest("covered", func(m *ruleset.Manifest) bool {
		return len(m.Endpoints) == 1 && m.Endpoints[0] == "c7-eth0" && strings.Contains(w.file("inet/maps/ingress4.nft"), `10.244.1.7 comment "dev/late" : goto gi-`)
	})
	if names := w.file("pods/10.244.1.0-24"); names != "10.244.1.2 dev/web\n10.244.1.7 dev/late\n" {
		t.Errorf("names: %q", names)
	}

	// What cannot be read leaves what was, and is said; a policy that changes meanwhile is followed.
	w.write(w.objects+"/late.yaml", "apiVersion: v1\nkind: Pod\nmetadata: [")
	w.says(state.Failing + "1 bad inputs")
	w.write(w.dir.Endpoint("c8", "eth0"), `{"version": 1, "hostVeth": `)
	w.says(state.Failing + "2 bad inputs")
	w.write(w.dir.Lease(), "{")
	w.says(state.Failing + "3 bad inputs")
	w.write(w.objects+"/allow-web.yaml", policyYAML("allow-web", "{podSelector: {}, ingress: [{ports: [{port: 7}]}]}"))
	w.manifest("policy beside bad inputs", func(m *ruleset.Manifest) bool {
		return strings.Contains(w.file(allowWeb), "tcp dport 7 ") && strings.Contains(w.file("inet/maps/ingress4.nft"), "dev/late") && len(m.Endpoints) == 1
	})
	os.Remove(w.dir.Endpoint("c8", "eth0"))
	w.write(w.objects+"/late.yaml", podYAML("late", "u7", "10.244.1.99"))
	w.write(w.dir.Lease(), strings.Replace(dualLease, "10.244.1.0/24", "10.244.3.0/24", 1))
	w.says("STATUS=2 pods, 1 policies")
	w.manifest("another subnet", func(*ruleset.Manifest) bool {
		return strings.Contains(w.file("inet/chains/egress.nft"), "10.244.3.0/24")
	})

	// Files that went stay until policy-load says that it has the new ones, or until the next write.
	os.Remove(w.objects + "/allow-web.yaml")
	m := w.manifest("policy gone", func(m *ruleset.Manifest) bool { return !hasFile(m, allowWeb) })
	if w.file(allowWeb) == "" {
		t.Error("a file went while policy-load may still read it")
	}
	if _, err := state.Save(w.dir.PolicyLoaded(), state.PolicyLoaded{Version: state.Version, Generation: m.Generation()}); err != nil {
		t.Fatal(err)
	}
	w.eventually("loaded: the file goes", func() bool { return w.file(allowWeb) == "" })

	// The objects' directory goes away: that is no word of any object.
	if err := os.Rename(w.objects, w.objects+".away"); err != nil {
		t.Fatal(err)
	}
	w.says(state.Failing)
	if err := os.Rename(w.objects+".away", w.objects); err != nil {
		t.Fatal(err)
	}
	w.says("STATUS=2 pods, 0 policies")
	if now := w.manifest("as before", func(*ruleset.Manifest) bool { return true }); now.Generation() != m.Generation() {
		t.Error("the ruleset changed while the directory was away")
	}
	w.stop()
	w.start()
	w.says("READY=1")
	if now := w.manifest("after a restart", func(*ruleset.Manifest) bool { return true }); now.Generation() != m.Generation() {
		t.Error("another ruleset after a restart")
	}
}

// TestWatchWaits: without a lease or objects there is nothing to say, and bad objects at the start end the program: what was
// loaded before is narrower than what is left of them.
func TestWatchWaits(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.objects += "/none"
	os.Remove(w.dir.Lease())
	w.start()
	w.says(state.Failing)
	w.write(w.dir.Lease(), dualLease)
	w.says(`no such file`)
	if _, err := os.Stat(w.dir.PolicyNFT()); err == nil {
		t.Error("policy.nft without objects")
	}
	w.write(w.objects+"/pods.yaml", podYAML("web", "u1", "10.244.1.2"))
	w.says("READY=1")
	w.stop()

	w.write(w.objects+"/bad.yaml", "kind: [")
	cmd := exec.Command("policy-render", "watch", "--run-dir", string(w.dir), "--objects", w.objects, "--cut=false")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 65 || !strings.Contains(string(out), "bad.yaml") {
		t.Errorf("bad objects at the start: exit %d\n%s", code, out)
	}
}
