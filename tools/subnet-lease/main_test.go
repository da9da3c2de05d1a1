package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

func TestMain(m *testing.M) {
	nstest.Programs(m, map[string]func(){"subnet-lease": main})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// node is a network namespace with an uplink, and a run directory.
type node struct {
	*nstest.Namespace
	t       testing.TB
	name    string
	run     state.Dir
	store   string
	netConf string
	uplink  string
	env     []string
}

// newNode makes a node with the addresses 192.168.7.HOST/24 and fd00:7::HOST/64 and default routes.
func newNode(t testing.TB, name, host, store string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{
		Namespace: nstest.New(t, name), t: t, name: name, store: store,
		run: state.Dir(filepath.Join(dir, "run")), netConf: filepath.Join(dir, "net-conf.json"),
	}
	write(t, n.netConf, plain)
	n.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
	n.Run("ip", "addr", "add", "192.168.7."+host+"/24", "dev", "eth0")
	n.Run("ip", "addr", "add", "fd00:7::"+host+"/64", "dev", "eth0", "nodad")
	n.Run("ip", "link", "set", "far", "up")
	n.Run("ip", "link", "set", "eth0", "up")
	n.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	n.Run("ip", "-6", "route", "add", "default", "via", "fd00:7::fe")
	return n
}

// newMember makes a node in the test's own namespace, where servers are: an uplink uHOST and a run directory.
func newMember(t testing.TB, name string, host int, store string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t: t, name: name, store: store, run: state.Dir(filepath.Join(dir, "run")), netConf: filepath.Join(dir, "net-conf.json"), uplink: fmt.Sprintf("u%d", host)}
	write(t, n.netConf, plain)
	n.env = []string{"TOWPATH_IFACE=" + n.uplink}
	run(t, "ip", "link", "add", n.uplink, "type", "veth", "peer", "name", "far-"+n.uplink)
	t.Cleanup(func() { try("ip", "link", "del", n.uplink) })
	run(t, "ip", "addr", "add", fmt.Sprintf("192.168.7.%d/24", host), "dev", n.uplink)
	run(t, "ip", "addr", "add", fmt.Sprintf("fd00:7::%d/64", host), "dev", n.uplink, "nodad")
	run(t, "ip", "link", "set", "far-"+n.uplink, "up")
	run(t, "ip", "link", "set", n.uplink, "up")
	return n
}

func (n *node) args(verb string, more ...string) []string {
	store := n.store
	if store != state.Kube && !strings.Contains(store, "://") {
		store = "file:" + store
	}
	args := []string{verb, "--run-dir", string(n.run), "--store", store}
	if verb != "list" && n.name != "" {
		args = append(args, "--node", n.name)
	}
	if verb != "release" && verb != "list" && n.netConf != "" {
		args = append(args, "--net-conf", n.netConf)
	}
	return append(args, more...)
}

// command is a verb in the node's namespace, or in the test's own.
func (n *node) command(verb string, more ...string) *exec.Cmd {
	if n.Namespace != nil {
		return n.Command("subnet-lease", n.args(verb, more...)...)
	}
	cmd := exec.Command("subnet-lease", n.args(verb, more...)...)
	cmd.Env = append(os.Environ(), n.env...)
	return cmd
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	nstest.Run(t, name, args...)
}

func try(name string, args ...string) { exec.Command(name, args...).Run() }

// exec runs a verb and returns how it ended.
func (n *node) exec(verb string, more ...string) (code int, stdout, stderr string) {
	n.t.Helper()
	stdout, stderr, ended := nstest.Finish(n.t, n.command(verb, more...))
	return int(ended), stdout, stderr
}

// logged waits until the log of watch tells of operations: of each once it is done, so a little later than it can be seen.
func logged(t *testing.T, log *nstest.Log, ops ...string) {
	t.Helper()
	for _, op := range ops {
		eventually(t, op+" is logged", func() bool {
			return slices.ContainsFunc(strings.Split(log.String(), "\n"), func(line string) bool { return strings.Contains(line, "msg=changed") && strings.Contains(line, op) })
		})
	}
}

// must runs a verb that has to end 0 and returns what it printed.
func (n *node) must(verb string, more ...string) string {
	n.t.Helper()
	code, out, errs := n.exec(verb, more...)
	if code != 0 {
		n.t.Fatalf("%s: subnet-lease %s: exit status %d\n%s%s", n.name, verb, code, out, errs)
	}
	return out
}

// watch starts the watch verb, waits until its lease stands, and stops it when the test ends.
func (n *node) watch(more ...string) (log *nstest.Log, cmd *exec.Cmd) {
	n.t.Helper()
	log = &nstest.Log{}
	cmd = n.command("watch", more...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("%s:\n%s", n.name, log)
		}
	})
	eventually(n.t, n.name+" has its lease", func() bool { return exists(n.run.PeersSynced()) })
	return log, cmd
}

func (n *node) lease() state.Lease {
	l, _ := state.Load[state.Lease](n.run.Lease())
	return l
}

func (n *node) peer(name string) state.Peer {
	p, _ := state.Load[state.Peer](n.run.Peer(name))
	return p
}

// record is a node's record in the store; its zero value when there is none.
func (n *node) record(name string) Record {
	var r Record
	if data, err := os.ReadFile(filepath.Join(n.store, name+".json")); err == nil {
		json.Unmarshal(data, &r)
	}
	r.Backend = canonical(r.Backend)
	return r
}

// link writes link.json as the back end's setup tool would.
func (n *node) link(backend, data string) {
	n.t.Helper()
	l := state.Link{Version: 1, Uplink: "eth0", MTU: 1450, Publish: state.Published{Type: backend, Data: json.RawMessage(data)}}
	l.Device.IPv4 = state.Device{Name: "flannel.1", MTU: 1450}
	if _, err := state.Save(n.run.Link(), l); err != nil {
		n.t.Fatal(err)
	}
}

// eventually waits until ok, for at most a time that only a broken program needs.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, limit, what, ok)
}

// limit is longer than the longest delay of a node, with what a request may take.
const limit = 90 * time.Second

// within waits until something is so, and returns how long that took.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if ok() {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("not so within %s: %s", limit, what)
		}
	}
	return 0
}

func TestScripts(t *testing.T) {
	n := newNode(t, "scripts", "1", "")
	nstest.Scripts(t, testscript.Params{
		Dir: "testdata", RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// lease WANT [ARG…] runs subnet-lease in a node's namespace; it has to end with status WANT.
			"lease": func(ts *testscript.TestScript, _ bool, args []string) {
				if len(args) < 2 {
					ts.Fatalf("usage: lease STATUS ARG…")
				}
				status := "0"
				err := ts.Exec("ip", append([]string{"netns", "exec", n.Name, "subnet-lease"}, args[1:]...)...)
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					status = strconv.Itoa(exit.ExitCode())
				} else {
					ts.Check(err)
				}
				if status != args[0] {
					ts.Fatalf("exit status %s, want %s\n%s", status, args[0], ts.ReadFile("stderr"))
				}
			},
		},
	})
}
