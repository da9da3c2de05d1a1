//go:build cluster

// Package cluster tests towpath as the network of a real Kubernetes cluster, which TestMain brings up with the scripts beside it and
// takes down, whatever happens. MODE and PROXY are as for `make cluster`; CLUSTER_OUTAGE=600s is how long the API server is away;
// CLUSTER_TEST=NAME uses a cluster that is up (with AUDIT=1) and leaves it. Run it by `make cluster-test`.
package cluster

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// name is the cluster's.
var name = os.Getenv("CLUSTER_TEST")

// daemonset says that towpath runs in pods; else `towpath supervise` runs on each node.
func daemonset() bool { return cmp.Or(os.Getenv("MODE"), "daemonset") == "daemonset" }

// stateDir holds the state of every cluster.
func stateDir() string {
	return cmp.Or(os.Getenv("CLUSTER_DIR"), filepath.Join("..", "..", ".cache", "cluster"))
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if name != "" {
		return m.Run()
	}
	name = fmt.Sprintf("test-%d", os.Getpid())
	env := append(os.Environ(), "CLUSTER="+name, "AUDIT=1")
	script := func(program string) error {
		cmd := exec.Command("./" + program)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
		return cmd.Run()
	}
	down := func() int {
		if err := script("down"); err != nil {
			fmt.Fprintln(os.Stderr, "cluster: down:", err)
			return 1
		}
		return 0
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		down()
		os.Exit(1)
	}()
	if err := script("up"); err != nil {
		fmt.Fprintln(os.Stderr, "cluster: up:", err)
		logs()
		down()
		return 1
	}
	code := m.Run()
	if code != 0 {
		logs()
	}
	return max(code, down())
}

// logs prints what tells most about a failure, before the cluster is gone.
func logs() {
	for _, args := range [][]string{
		{"get", "nodes,pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--field-selector", "type=Warning"},
		{"-n", "towpath", "logs", "-l", "app.kubernetes.io/name=towpath", "--tail", "20", "--prefix"},
	} {
		out, _ := try("api", append([]string{"kubectl"}, args...)...)
		fmt.Fprintf(os.Stderr, "--- kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

// try runs a command in a part of the cluster and returns what it printed on both.
func try(part string, args ...string) (string, error) {
	out, err := exec.Command("./in", append([]string{name + "/" + part}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("in %s %s: %w\n%s", part, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// in is try that fails the test.
func in(t *testing.T, part string, args ...string) string {
	t.Helper()
	out, err := try(part, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return in(t, "api", append([]string{"kubectl"}, args...)...)
}

// script runs one of the scripts beside this file, such as reboot.
func script(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("./"+args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// apply gives objects to the API server.
func apply(t *testing.T, yaml string) {
	t.Helper()
	cmd := exec.Command("./in", name+"/api", "kubectl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(yaml)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// poll tries until f returns nil; a slow machine gets time.
func poll(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; <-time.After(200 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// nodes are the names of the cluster's nodes, the master first.
func nodes(t *testing.T) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
}

// ready waits until every node is.
func ready(t *testing.T) {
	t.Helper()
	poll(t, "nodes Ready", func() error {
		_, err := try("api", "kubectl", "wait", "--for", "condition=Ready", "node", "--all", "--timeout", "1s")
		return err
	})
}
