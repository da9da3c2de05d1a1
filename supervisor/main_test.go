package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/supervisor/process"
)

// The tests run in a process namespace of their own where they may: whatever a supervisor that was
// killed left running ends with it.
func TestMain(m *testing.M) {
	nstest.Programs(m, map[string]func(){"towpath": main, "sdnotify": sdnotify, "waitfor": waitfor, "probe": probe, "keeper": keeper, "hoarder": hoarder})
}

// sdnotify sends its arguments, a line each, the way a program does that uses lib/tool.
func sdnotify() {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(os.Args[1:], "\n")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sdnotify:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// waitfor STAGE STATE waits until the stage is in that state.
func waitfor() {
	deadline := time.After(time.Minute)
	for {
		s, _ := state.Load[state.Stage](state.Dir(os.Getenv("TOWPATH_RUN_DIR")).Stage(os.Args[1]))
		if s.State == os.Args[2] {
			os.Exit(0)
		}
		select {
		case <-deadline:
			fmt.Fprintf(os.Stderr, "%s is %q, not %q\n", os.Args[1], s.State, os.Args[2])
			os.Exit(1)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// probe PATH STATUS [TEXT] asks the supervisor's health until it answers with the status, and a text that matches, and prints what
// it says.
func probe() {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(os.Getenv("TOWPATH_HEALTH"), "unix:"))
	}}}
	want := regexp.MustCompile(strings.Join(os.Args[3:], ""))
	last := "no answer"
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		answer, err := client.Get("http://health" + os.Args[1])
		if err != nil {
			last = err.Error()
			continue
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if last = fmt.Sprintf("%d %s", answer.StatusCode, text); strconv.Itoa(answer.StatusCode) == os.Args[2] && want.Match(bytes.TrimSpace(text)) {
			fmt.Print(string(text))
			os.Exit(0)
		}
	}
	fmt.Fprintln(os.Stderr, "probe:", last)
	os.Exit(1)
}

func TestScripts(t *testing.T) {
	nstest.Scripts(t, testscript.Params{
		Dir: "testdata", Setup: func(env *testscript.Env) error {
			env.Setenv("TOWPATH_RUN_DIR", filepath.Join(env.WorkDir, "run"))
			env.Setenv("TOWPATH_STAGES", filepath.Join(env.WorkDir, "stages"))
			return nil
		},
	})
}

// node is a run directory, a directory of stage files, and the supervisor that works on them.
type node struct {
	t      *testing.T
	dir    state.Dir
	stages string
	wrap   []string // what the supervisor is run under
	unread bool     // nobody reads its log
	cmd    *exec.Cmd
	log    *nstest.Log
	ended  chan error
}

// prelude gives the shell scripts of the tests what all of them use.
const prelude = `cd "$TOWPATH_RUN_DIR"; forever() { while :; do sleep 1000 & wait $!; done; }; `

// script is a stage file that runs a shell script.
func script(text, keys string) string {
	return fmt.Sprintf("command = [\"sh\", \"-c\", '''%s''']\n%s\n", strings.ReplaceAll(prelude+text, "$", "$$"), keys)
}

// daemonScript says it is ready and stays until it is told to end.
const daemonScript = `trap 'exit 0' TERM; sdnotify READY=1; forever`

func newNode(t *testing.T, stages map[string]string) *node {
	t.Helper()
	base := t.TempDir()
	n := &node{t: t, dir: state.Dir(filepath.Join(base, "run")), stages: filepath.Join(base, "stages"), log: &nstest.Log{}}
	for _, dir := range []string{string(n.dir), n.stages} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range stages {
		n.stage(name, text)
	}
	t.Cleanup(func() {
		n.kill()
		n.sweep()
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
	return n
}

// sweep ends what a killed supervisor left, and waits until it is gone.
func (n *node) sweep() {
	mark, err := process.MarkOf(string(n.dir))
	if err != nil {
		n.t.Error(err)
		return
	}
	n.until("every process is gone", func() bool {
		found := process.Running(mark)
		for _, f := range found {
			syscall.Kill(f.PID, syscall.SIGKILL)
		}
		return len(found) == 0
	})
}

func (n *node) start(env ...string) {
	n.t.Helper()
	args := append(append([]string{}, n.wrap...), "towpath", "supervise", "--run-dir", string(n.dir), "--stages", n.stages)
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe() // not through exec.Cmd, whose Wait would wait for the stages too
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd.Stderr = w
	go func() {
		defer r.Close()
		buf := make([]byte, 4096)
		for !n.unread {
			size, err := r.Read(buf)
			if err != nil {
				return
			}
			n.log.Write(buf[:size])
		}
	}()
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	w.Close()
	n.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(n.cmd, n.ended)
}

// stop ends the supervisor the usual way; nothing may run on.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if err := n.wait(); err != nil {
		n.t.Errorf("the supervisor ends with %v", err)
	}
	mark, err := process.MarkOf(string(n.dir))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, f := range process.Running(mark) {
		n.t.Errorf("stage %s: process %d runs on", f.Stage, f.PID)
	}
}

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) wait() error {
	n.t.Helper()
	select {
	case err := <-n.ended:
		n.cmd = nil
		return err
	case <-time.After(time.Minute):
		n.t.Fatal("the supervisor does not end")
		return nil
	}
}

// kill is what an out-of-memory killer does.
func (n *node) kill() {
	if n.cmd != nil {
		n.cmd.Process.Kill()
		<-n.ended
		n.cmd = nil
	}
}

func (n *node) until(what string, is func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			n.t.Fatalf("not after a minute: %s\n%s", what, n.log)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func (n *node) read(stage string) state.Stage {
	s, err := state.Load[state.Stage](n.dir.Stage(stage))
	if err != nil && !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		n.t.Fatal(err)
	}
	return s
}

// becomes waits until a stage is in a state and returns what is known of it.
func (n *node) becomes(stage, want string) state.Stage {
	n.t.Helper()
	var s state.Stage
	n.until(stage+" is "+want, func() bool {
		s = n.read(stage)
		return s.State == want
	})
	return s
}

func (n *node) ran(stage string, runs int) state.Stage {
	n.t.Helper()
	n.until(fmt.Sprintf("%s ran %d times and is done", stage, runs), func() bool {
		s := n.read(stage)
		return s.Runs >= runs && s.State == "done"
	})
	s := n.read(stage)
	if s.Runs != runs {
		n.t.Errorf("%s ran %d times, want %d", stage, s.Runs, runs)
	}
	return s
}

func (n *node) stage(name, text string) {
	n.t.Helper()
	if _, err := state.WriteFile(filepath.Join(n.stages, name+".toml"), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) put(name, text string) {
	n.t.Helper()
	path := filepath.Join(string(n.dir), name)
	if text == "" {
		if err := os.Remove(path); err != nil {
			n.t.Fatal(err)
		}
		return
	}
	if _, err := state.WriteFile(path, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) get(name string) string {
	data, _ := os.ReadFile(filepath.Join(string(n.dir), name))
	return strings.TrimSpace(string(data))
}

func (n *node) alive(pid string) bool {
	var id int
	fmt.Sscan(pid, &id)
	_, err := process.Identify(id)
	return err == nil
}
