package nstest

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// Node is a namespace that stands for a node, with the program under test (see Program) and a directory for its files.
type Node struct {
	*Namespace
	Dir state.Dir
}

// NewNode makes a node that is gone when the test ends, with duplicate address detection off.
func NewNode(t testing.TB) Node {
	t.Helper()
	n := Node{Namespace: New(t, "node"), Dir: state.Dir(t.TempDir())}
	n.NoDAD()
	return n
}

// Uplink gives the namespace a device eth0 that leads nowhere, with the given addresses, as for Connect.
func (n *Namespace) Uplink(addrs string) {
	n.t.Helper()
	n.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
	n.Run("ip", "link", "set", "far0", "up")
	n.Run("ip", "link", "set", "eth0", "up")
	n.assign("eth0", addrs)
	n.carried("eth0")
	n.carried("far0")
}

// Program is the program as a process of the node, at its directory.
func (n Node) Program(args ...string) *exec.Cmd {
	n.t.Helper()
	return n.Self(append(args, "--run-dir", string(n.Dir))...)
}

// Exec runs the program and returns standard output, standard error and the exit status.
func (n Node) Exec(args ...string) (stdout, stderr string, code exit.Code) {
	n.t.Helper()
	return Finish(n.t, n.Program(args...))
}

// Must is Exec that ends the test where the exit status is not 0, and returns standard output.
func (n Node) Must(args ...string) string {
	n.t.Helper()
	out, errs, code := n.Exec(args...)
	if code != exit.OK {
		n.t.Fatalf("%s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// Save writes a file of towpath's.
func (n Node) Save(path string, v any) {
	n.t.Helper()
	if _, err := state.Save(path, v); err != nil {
		n.t.Fatal(err)
	}
}

// Finish runs a command to its end, whatever its exit status.
func Finish(t testing.TB, cmd *exec.Cmd) (stdout, stderr string, code exit.Code) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exited *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), exit.Code(cmd.ProcessState.ExitCode())
}
