// Package nstest gives a test binary a machine of its own: network, mount and process namespaces,
// with /run, /etc/cni and /var/lib/cni empty. Whatever the tests make in there (namespaces, links,
// rules, processes, files under /run) is gone when the binary ends, however it ends, because the
// kernel throws the namespaces away with their last process. Only tests import it.
//
//	func TestMain(m *testing.M) { nstest.Main(m.Run) }
package nstest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside marks the process that runs in the namespaces; outside, why none could be made.
const (
	inside  = "TOWPATH_NSTEST_INSIDE"
	outside = "TOWPATH_NSTEST_OUTSIDE"
	require = "REQUIRE_NETNS"
)

// Main runs the tests (m.Run, or a function that wraps it) inside fresh namespaces and exits with
// their status. A process that is not a test binary under its own name (a program that testscript
// runs under another) is left as it is. Without the right to make namespaces, Need skips the tests
// that need them, or fails them where REQUIRE_NETNS is set.
func Main(run func() int) {
	switch {
	case os.Getenv(inside) != "" || !strings.HasSuffix(os.Args[0], ".test"):
		os.Exit(run())
	case os.Geteuid() != 0:
		os.Setenv(outside, "not root")
		os.Exit(run())
	}
	runtime.LockOSThread() // Pdeathsig is the thread's
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=setup")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "nstest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func init() {
	if os.Getenv(inside) != "setup" {
		return
	}
	os.Setenv(inside, "yes")
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "nstest:", err)
		os.Exit(1)
	}
}

// furnish mounts what belongs to the new namespaces.
func furnish() error {
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("proc", "/proc", "proc", 0, "") },
		func() error { return unix.Mount("sysfs", "/sys", "sysfs", 0, "") },
		func() error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") },
		func() error { return os.MkdirAll("/run/tmp", 0o1777) },
		func() error { return os.Setenv("TMPDIR", "/run/tmp") },
		func() error { return exec.Command("ip", "link", "set", "lo", "up").Run() },
	}
	for _, dir := range []string{"/etc/cni", "/var/lib/cni", "/etc/towpath"} {
		if _, err := os.Stat(dir); err == nil {
			steps = append(steps, func() error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") })
		}
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("set up step %d: %w", i, err)
		}
	}
	return nil
}

// Need ends the test where namespaces could not be made: skipped on a laptop, failed where
// REQUIRE_NETNS is set.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) != "" {
		return
	}
	why := os.Getenv(outside)
	if why == "" {
		why = "TestMain does not call nstest.Main"
	}
	if os.Getenv(require) != "" {
		t.Fatalf("network namespaces needed: %s", why)
	}
	t.Skipf("network namespaces needed: %s", why)
}

var count atomic.Int32

// Namespace is a network namespace below /run/netns, with lo up.
type Namespace struct {
	Name string
	Path string
	t    testing.TB
}

// New makes a network namespace that is deleted when the test ends.
func New(t testing.TB, hint string) *Namespace {
	t.Helper()
	Need(t)
	name := fmt.Sprintf("%s-%d", hint, count.Add(1))
	n := &Namespace{Name: name, Path: filepath.Join("/run/netns", name), t: t}
	Run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() }) //nolint:errcheck // gone with the namespaces at the latest
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// Command is exec.Command inside the namespace.
func (n *Namespace) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
}

// Run runs a command inside the namespace and returns its standard output; a failure ends the test.
func (n *Namespace) Run(name string, args ...string) string {
	n.t.Helper()
	return finish(n.t, n.Command(name, args...))
}

// Try runs a command inside the namespace and returns both outputs together and its error.
func (n *Namespace) Try(name string, args ...string) (string, error) {
	out, err := n.Command(name, args...).CombinedOutput()
	return string(out), err
}

// Do runs f on a thread that is inside the namespace. The thread is thrown away afterwards. f must
// not start goroutines that count on the namespace; sockets opened in it stay in it.
func (n *Namespace) Do(f func()) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := os.Open(n.Path)
		if err == nil {
			err = unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
			fd.Close()
		}
		if err == nil {
			defer close(done)
			f()
			return
		}
		done <- err
	}()
	if err := <-done; err != nil {
		n.t.Fatalf("enter network namespace %s: %v", n.Name, err)
	}
}

// Run runs a command in the test's own namespace and returns its standard output; a failure ends the
// test.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return finish(t, exec.Command(name, args...))
}

func finish(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return string(out)
}

// Connect joins two namespaces with a veth pair, devices a and b, both up, with the given addresses
// ("192.168.9.1/24"; several are separated by spaces, IPv6 ones without duplicate address detection).
func Connect(a *Namespace, devA, addrsA string, b *Namespace, devB, addrsB string) {
	a.t.Helper()
	a.Run("ip", "link", "add", devA, "type", "veth", "peer", "name", devB, "netns", b.Name)
	for _, end := range []struct {
		n          *Namespace
		dev, addrs string
	}{{a, devA, addrsA}, {b, devB, addrsB}} {
		end.n.assign(end.dev, end.addrs)
		end.n.Run("ip", "link", "set", end.dev, "up")
	}
	a.carried(devA)
	b.carried(devB)
}

// carried waits until the kernel has taken in that a device has its carrier, a moment after both ends are up: the device's state, its
// link-local address and its multicast routes come then.
func (n *Namespace) carried(dev string) {
	n.t.Helper()
	n.Eventually(20*time.Second, func() string {
		out := n.Run("ip", "-br", "link", "show", "dev", dev)
		if f := strings.Fields(out); len(f) < 2 || f[1] != "UP" {
			return "no carrier yet: " + out
		}
		return ""
	})
}

func (n *Namespace) assign(dev, addrs string) {
	n.t.Helper()
	for _, addr := range strings.Fields(addrs) {
		args := []string{"addr", "add", addr, "dev", dev}
		if strings.Contains(addr, ":") {
			args = append(args, "nodad")
		}
		n.Run("ip", args...)
	}
}
