package etcdtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Bin is the directory of the cluster's programs, seen from the repository's top; the variable TOWPATH_CLUSTER_BIN names another.
const Bin = "bin/cluster"

// Program finds a program of the cluster.
func Program(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TOWPATH_CLUSTER_BIN")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; ; at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "go.work")); err == nil {
				dir = filepath.Join(at, Bin)
				break
			}
			if at == "/" {
				t.Fatal("no go.work above the working directory")
			}
		}
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	const why = "no %s in %s: run make cluster-api"
	if os.Getenv("REQUIRE_NETNS") != "" {
		t.Fatalf(why, name, dir)
	}
	t.Skipf(why, name, dir)
	return ""
}

// Process is a program that ends with the test.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Run starts a program; what it prints goes to the end of a log.
func Run(t testing.TB, log, program string, args ...string) *Process {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &Process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait() //nolint:errcheck // how it ended is in its log
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	return p
}

// Ended says whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Kill ends the process, if it has not ended.
func (p *Process) Kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-p.done
}

// FreePort is a TCP port that nobody listens on.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was written
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
