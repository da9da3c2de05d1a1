//go:build peer

package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
)

// Where the nodes' uplinks end is also where etcd is, in the test's own namespace.
const (
	underlay  = "underlay"
	etcdURL   = "http://192.168.7.9:2379"
	etcdStore = "etcd://192.168.7.9:2379"
)

// root of the repository, from here.
const root = "../.."

// site is a cluster of two nodes and its etcd.
type site struct {
	t    *testing.T
	dir  string
	etcd *process
}

// newSite starts etcd with the network's configuration in it.
func newSite(t *testing.T, conf string) *site {
	t.Helper()
	nstest.Need(t)
	s := &site{t: t, dir: t.TempDir()}
	nstest.Run(t, "ip", "link", "add", underlay, "type", "bridge")
	t.Cleanup(func() { exec.Command("ip", "link", "del", underlay).Run() }) //nolint:errcheck // gone with the namespaces at the latest
	nstest.Run(t, "ip", "addr", "add", "192.168.7.9/24", "dev", underlay)
	nstest.Run(t, "ip", "link", "set", underlay, "up")
	s.etcd = start(t, exec.Command(ours(t, "cluster/etcd"), "--data-dir", filepath.Join(s.dir, "etcd"), "--listen-client-urls", etcdURL,
		"--advertise-client-urls", etcdURL, "--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"))
	eventually(t, 30*time.Second, func() error {
		answer, err := http.Get(etcdURL + "/health")
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
	s.configure(conf)
	return s
}

// configure writes the network's configuration through etcd's JSON gateway.
func (s *site) configure(conf string) {
	s.t.Helper()
	const key = "/coreos.com/network/config"
	body, err := json.Marshal(map[string][]byte{"key": []byte(key), "value": []byte(conf)}) // base64, as it wants them
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.Post(etcdURL+"/v3/kv/put", "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("put %s: %s", key, answer.Status)
	}
}

// ours is the path of one of our programs, as make build leaves it.
func ours(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run the tests with make interop", err)
	}
	return path
}

// peers is the directory of flannel's programs.
func peers(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("PEER_FLANNEL_DIR")
	if dir == "" {
		t.Fatal("PEER_FLANNEL_DIR=DIR is missing: flanneld and cni/{flannel,bridge,host-local} are not part of this repository")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a program that keeps running; its log is printed where the test has failed.
type process struct {
	*exec.Cmd
	log   string
	ended chan struct{}
}

// start starts a program, and ends it with the test.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(cmd.Path))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p := &process{Cmd: cmd, log: log.Name(), ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait() //nolint:errcheck // it is stopped, or its log says why
		close(p.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill() //nolint:errcheck // as above
			<-p.ended
		}
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), tail(p.text(), 40))
		}
	})
	return p
}

func (p *process) text() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// stop ends it as systemd would.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not end:\n%s", p.Path, tail(p.text(), 40))
	}
}

func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// eventually polls until check returns nil.
func eventually(t testing.TB, limit time.Duration, check func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := check()
		switch took := time.Since(begin); {
		case err == nil:
			return took
		case took > limit:
			t.Fatalf("not within %s: %v", limit, err)
		}
		<-time.After(20 * time.Millisecond)
	}
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

// output runs a command to its end.
func output(cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, tail(out.String(), 10), errs.String())
	}
	return out.String(), nil
}
