package node

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/state"
)

// Binary is the path of one of our programs, as make build leaves it.
func Binary(t testing.TB, name string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run the tests with make test", err)
	}
	return path
}

// Must runs a program in the node, which has to end 0, and returns what it printed.
func (n *Node) Must(name string, args ...string) string {
	n.T.Helper()
	return n.Namespace.Run(Binary(n.T, name), args...)
}

func (n *Node) args(name, verb string) []string {
	args := []string{verb, "--run-dir", string(n.Run)}
	if name == "policy-render" {
		args = append(append(args, "--objects", n.Objects), n.Flags...)
	}
	return args
}

// Apply renders the policies once and loads them; when it returns the kernel has them.
func (n *Node) Apply() {
	n.T.Helper()
	n.Must("policy-render", n.args("policy-render", "apply")...)
	n.Must("policy-load", n.args("policy-load", "apply")...)
}

// Process is a program that keeps running.
type Process struct {
	*exec.Cmd
	n    *Node
	name string
	log  string // file, not a pipe, which what it starts could hold open
}

// Watch starts a program with its verb watch. It is killed when the test ends; where the test has failed its log is
// printed.
func (n *Node) Watch(name string, more ...string) *Process {
	n.T.Helper()
	// nsenter becomes the program, so that the process we know is the program's own.
	args := append([]string{"--net=" + n.Path, "--", Binary(n.T, name)}, append(n.args(name, "watch"), more...)...)
	log, err := os.CreateTemp(n.dir, name+"-*.log")
	if err != nil {
		n.T.Fatal(err)
	}
	defer log.Close()
	p := &Process{Cmd: exec.Command("nsenter", args...), n: n, name: name, log: log.Name()}
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		n.T.Fatal(err)
	}
	n.T.Cleanup(func() {
		p.Kill()
		if n.T.Failed() {
			text, _ := os.ReadFile(p.log)
			n.T.Logf("%s, its log's end:\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// Kill kills it at once, as kill -9 does.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop ends it in order.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(signal os.Signal) {
	if p.ProcessState == nil {
		p.Process.Signal(signal) //nolint:errcheck // it may have ended by itself
		p.Wait()                 //nolint:errcheck // by the signal
	}
}

// PeakRSS is the most memory that the process has had, in bytes.
func (p *Process) PeakRSS() int64 { return peak(p.n.T, p.Process.Pid) }

func peak(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return atoi(strings.Fields(value)[0]) << 10
		}
	}
	t.Fatalf("process %d has no VmHWM", pid)
	return 0
}

// Loaded is policy.loaded.json; empty while there is none.
func (n *Node) Loaded() state.PolicyLoaded {
	n.T.Helper()
	loaded, err := state.Load[state.PolicyLoaded](n.Run.PolicyLoaded())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.T.Fatal(err)
	}
	return loaded
}

// Policies starts policy-render and policy-load and waits until the kernel has rules.
func (n *Node) Policies() (render, load *Process) {
	n.T.Helper()
	render, load = n.Watch("policy-render"), n.Watch("policy-load")
	n.Eventually(30*time.Second, func() string {
		if n.Loaded().Generation == "" {
			return "nothing is loaded"
		}
		return ""
	})
	return render, load
}
