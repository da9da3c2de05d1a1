package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

// TestKilledSupervisor: its processes run on, and the next supervisor takes them over as they are, or
// ends those that it would run in another way.
func TestKilledSupervisor(t *testing.T) {
	n := newNode(t, map[string]string{
		"kept":     script(daemonScript, "inputs = [\"in\"]\non-change = \"none\""),
		"changed":  script(daemonScript, ""),
		"inputs":   script(daemonScript, "inputs = [\"in\"]"),
		"gone":     script(daemonScript, ""),
		"unready":  script(`trap 'exit 0' TERM; forever`, "start-timeout = \"0s\""),
		"headless": script(`sleep 1000 & echo $! >child; `+daemonScript, ""),
	})
	n.put("in", "1")
	n.start()
	before := map[string]int{}
	for _, name := range []string{"kept", "changed", "inputs", "gone", "headless"} {
		before[name] = n.becomes(name, "ready").PID
	}
	before["unready"] = n.becomes("unready", "starting").PID
	n.kill()
	for name, pid := range before {
		if !n.alive(fmt.Sprint(pid)) {
			t.Errorf("%s died with the supervisor", name)
		}
	}
	syscall.Kill(before["headless"], syscall.SIGKILL)
	if err := os.Remove(filepath.Join(n.stages, "gone.toml")); err != nil {
		t.Fatal(err)
	}
	n.stage("changed", script(daemonScript, "stop-timeout = \"9s\""))
	n.put("in", "2")
	child := n.get("child")
	n.start()
	n.until("all are ready again", func() bool {
		for _, name := range []string{"changed", "inputs", "headless"} {
			if s := n.read(name); s.State != "ready" || s.PID == before[name] {
				return false
			}
		}
		return n.read("unready").PID != before["unready"]
	})
	if s := n.read("kept"); s.PID != before["kept"] || s.State != "ready" || s.Runs != 1 {
		t.Errorf("kept: process %d is now %+v", before["kept"], s)
	}
	n.until("its file is gone", func() bool { return n.read("gone").State == "" })
	for _, pid := range []string{fmt.Sprint(before["gone"]), fmt.Sprint(before["changed"]), fmt.Sprint(before["unready"]), child} {
		if n.alive(pid) {
			t.Errorf("process %s runs on", pid)
		}
	}
	// what was taken over is watched over: messages, end and restart
	syscall.Kill(before["kept"], syscall.SIGKILL)
	n.until("kept runs again", func() bool { s := n.read("kept"); return s.State == "ready" && s.PID != before["kept"] })
	if s := n.read("kept"); s.Runs != 2 || !strings.HasPrefix(s.LastExit, "unknown") {
		t.Errorf("kept: %+v", s)
	}
	n.stop()
}

// TestAdoptedIsStopped: a process that was taken over ends with its group like any other.
func TestAdoptedIsStopped(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(
		`(trap '' TERM; exec sleep 1000) & echo $! >child; trap 'sdnotify STATUS=ending; exit 0' TERM; sdnotify READY=1; forever`, "")})
	n.start()
	pid := n.becomes("a", "ready").PID
	n.kill()
	n.start()
	n.until("it is taken over", func() bool { return strings.Contains(n.log.String(), "took over running stage") })
	n.stop()
	if n.alive(fmt.Sprint(pid)) || n.alive(n.get("child")) {
		t.Error("it runs on")
	}
	if s := n.read("a"); s.State != "stopped" || s.Status != "ending" {
		t.Errorf("%+v", s)
	}
}

func TestFirstProcessOfAContainer(t *testing.T) {
	nstest.Need(t)
	// Each run leaves an orphan that outlives it, in a session of its own so that it is not ended with it.
	n := newNode(t, map[string]string{
		"ok":    script(`rm -f up; setsid sh -c 'echo $$ >>orphans; touch up; sleep 0.05' & while [ ! -e up ]; do sleep 0.01; done`, "mode = \"oneshot\"\ninputs = [\"in\"]"),
		"fails": script(`exit 3`, "mode = \"oneshot\"\ninputs = [\"in\"]\nrestart = \"never\""),
	})
	n.wrap = []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}
	n.start()
	for i := range 10 {
		n.put("in", fmt.Sprint(i))
		n.until("both ran", func() bool { return n.read("ok").Runs == i+1 && n.read("fails").Runs == i+1 })
		if s := n.ran("ok", i+1); s.LastExit != "0" {
			t.Errorf("ok ended with %s", s.LastExit)
		}
		if s := n.becomes("fails", "held"); s.LastExit != "3" {
			t.Errorf("fails ended with %s", s.LastExit)
		}
	}
	first := children(t, n.cmd.Process.Pid)[0]
	n.until("all orphans are reaped", func() bool {
		return len(strings.Fields(n.get("orphans"))) == 10 && len(children(t, first)) == 0
	})
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := n.wait(); err != nil {
		t.Errorf("as process 1 it ends with %v", err)
	}
}

// children is the processes whose parent is pid, zombies too.
func children(t *testing.T, pid int) []int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", fmt.Sprint(pid)).Output()
	if err != nil && len(out) > 0 {
		t.Fatal(err)
	}
	var pids []int
	for _, word := range strings.Fields(string(out)) {
		n, _ := strconv.Atoi(word)
		pids = append(pids, n)
	}
	return pids
}
