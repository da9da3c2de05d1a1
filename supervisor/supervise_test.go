package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/supervisor/process"
)

func TestChainOfThreeByFiles(t *testing.T) {
	link := func(from, to string) string {
		return script(fmt.Sprintf("cp %s %s.new; mv %s.new %s", from, to, to, to),
			fmt.Sprintf("mode = \"oneshot\"\ninputs = [%q]\noutputs = [%q]", from, to))
	}
	n := newNode(t, map[string]string{"a": link("3", "4"), "b": link("2", "3"), "c": link("1", "2")})
	n.start()
	n.becomes("c", "waiting")
	if s := n.becomes("a", "waiting"); len(s.WaitsFor) != 1 || s.WaitsFor[0] != "3" || s.Runs != 0 {
		t.Errorf("a: %+v", s)
	}
	n.put("1", "one")
	n.ran("a", 1)
	if got := n.get("4"); got != "one" {
		t.Errorf("at the end of the chain: %q", got)
	}
	n.put("1.new", "one") // the same bytes, as another file
	if err := os.Rename(filepath.Join(string(n.dir), "1.new"), filepath.Join(string(n.dir), "1")); err != nil {
		t.Fatal(err)
	}
	n.put("1", "two")
	n.until("the change is through", func() bool { return n.get("4") == "two" })
	for _, name := range []string{"a", "b", "c"} {
		n.ran(name, 2)
	}
	n.stop()
}

func TestChangesAreCoalescedAndNotLost(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(
		`cat in >>seen; touch begun; while [ ! -e go ]; do sleep 0.01; done`, "mode = \"oneshot\"\ninputs = [\"in\"]")})
	n.put("in", "0\n")
	n.start()
	n.until("the first run has begun", func() bool { return n.get("seen") == "0" })
	for i := range 20 {
		n.put("in", fmt.Sprintln(i+1))
	}
	if s := n.read("a"); s.Runs != 1 || s.State != "running" {
		t.Errorf("%+v", s)
	}
	n.put("go", "1")
	if s := n.ran("a", 2); s.LastReason != "in changed" {
		t.Errorf("reason %q", s.LastReason)
	}
	if got := n.get("seen"); got != "0\n20" {
		t.Errorf("it saw %q", got)
	}
	n.stop()
}

func TestCrashBackoff(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(`date +%s%N >>starts; kill -9 $$`, "backoff-initial = \"100ms\"\nbackoff-cap = \"400ms\"")})
	n.start()
	n.until("six runs", func() bool { return len(strings.Fields(n.get("starts"))) >= 6 })
	if s := n.becomes("a", "backoff"); s.LastExit != "signal: killed" || s.NextRetry == "" || s.PID != 0 {
		t.Errorf("%+v", s)
	}
	starts := strings.Fields(n.get("starts"))
	for i, least := range []time.Duration{50, 100, 200, 200, 200} { // half of 100, 200, 400, 400, 400
		a, _ := strconv.ParseInt(starts[i], 10, 64)
		b, _ := strconv.ParseInt(starts[i+1], 10, 64)
		if d := time.Duration(b - a); d < least*time.Millisecond {
			t.Errorf("delay %d is %s, less than %d ms", i+1, d, least)
		}
	}
	n.stop()
}

func TestHeldUntilInputChanges(t *testing.T) {
	for _, code := range []int{65, 78} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			n := newNode(t, map[string]string{
				"a": script(fmt.Sprintf(`grep -q good in || exit %d; %s`, code, daemonScript), "inputs = [\"in\"]\non-change = \"none\""),
				"b": script("true", "inputs = [\"in\"]\nmode = \"oneshot\""),
			})
			n.put("in", "bad")
			n.start()
			s := n.becomes("a", "held")
			if !strings.HasPrefix(s.LastExit, fmt.Sprint(code)) || len(s.WaitsFor) != 2 || s.WaitsFor[0] != "a change of in" {
				t.Errorf("%+v", s)
			}
			n.put("in", "worse")
			n.ran("b", 2) // so the change was seen
			n.until("it is held again", func() bool { s := n.read("a"); return s.State == "held" && s.Runs == 2 })
			n.put("in", "good")
			n.becomes("a", "ready")
			n.stop()
		})
	}
}

// TestGroupIsEnded: what a stage started ends with it, whether it cares for TERM or not.
func TestGroupIsEnded(t *testing.T) {
	deaf := `(trap '' TERM; exec sleep 1000) & echo $! >child; `
	n := newNode(t, map[string]string{
		"polite": script(`mkdir -p p; cd p; `+deaf+daemonScript, "gates = [\"gate\"]\nstop-timeout = \"1m\""),
		"deaf":   script(`mkdir -p d; cd d; trap '' TERM; `+deaf+`sdnotify READY=1; forever`, "gates = [\"gate\"]\nstop-timeout = \"200ms\""),
		"dies":   script(`mkdir -p c; cd c; `+deaf+`sdnotify READY=1; wait`, "gates = [\"gate\"]\nrestart = \"never\""),
	})
	n.put("gate", "1")
	n.start()
	for _, name := range []string{"polite", "deaf", "dies"} {
		n.becomes(name, "ready")
	}
	pids := []string{n.get("p/child"), n.get("d/child"), n.get("c/child")}
	for _, pid := range pids {
		if !n.alive(pid) {
			t.Fatalf("process %s is not there", pid)
		}
	}
	syscall.Kill(n.read("dies").PID, syscall.SIGKILL)
	n.becomes("dies", "held")
	if n.alive(pids[2]) {
		t.Error("the child of a process that died runs on")
	}
	n.put("gate", "")
	n.becomes("polite", "waiting")
	s := n.becomes("deaf", "waiting")
	if s.LastExit != "signal: killed" {
		t.Errorf("deaf ended with %s", s.LastExit)
	}
	for _, pid := range pids {
		if n.alive(pid) {
			t.Errorf("process %s runs on", pid)
		}
	}
	n.stop()
}

func TestConflictOfProducers(t *testing.T) {
	text := func(gate string) string {
		return script(`test ! -e busy || touch both; trap 'rm busy; exit 0' TERM; touch busy; sdnotify READY=1; forever`,
			fmt.Sprintf("inputs = [%q]\noutputs = [\"link.json\"]\non-change = \"none\"", gate))
	}
	n := newNode(t, map[string]string{"vx": text("vx.json"), "gw": text("gw.json")})
	n.put("vx.json", "1")
	n.start()
	n.becomes("vx", "ready")
	n.put("gw.json", "1")
	if s := n.becomes("gw", "held"); len(s.WaitsFor) != 1 || s.WaitsFor[0] != "stage vx" {
		t.Errorf("gw: %+v", s)
	}
	n.put("vx.json", "")
	n.becomes("gw", "ready")
	if s := n.becomes("vx", "waiting"); s.WaitsFor[0] != "vx.json" {
		t.Errorf("vx: %+v", s)
	}
	if _, err := os.Stat(filepath.Join(string(n.dir), "both")); err == nil {
		t.Error("both ran at once")
	}
	n.stop()
}

func TestReloadAndMask(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(daemonScript, ""), "b": script(daemonScript, "")})
	n.start()
	n.becomes("a", "ready")
	pid := n.becomes("b", "ready").PID
	n.stage("c", script(daemonScript, "")) // noticed without being told
	n.becomes("c", "ready")
	n.stage("a", "")
	n.becomes("a", "masked")
	n.stage("d", "comand = []")
	n.until("the fault is in the log", func() bool { return strings.Contains(n.log.String(), "did you mean") })
	if err := os.Remove(filepath.Join(n.stages, "d.toml")); err != nil {
		t.Fatal(err)
	}
	n.signal(syscall.SIGHUP)
	if err := os.Remove(filepath.Join(n.stages, "c.toml")); err != nil {
		t.Fatal(err)
	}
	n.until("c is gone", func() bool { return n.read("c").State == "" })
	n.stage("a", script(daemonScript, ""))
	n.becomes("a", "ready")
	if s := n.read("b"); s.PID != pid || s.State != "ready" {
		t.Errorf("b was process %d and is %+v", pid, s)
	}
	n.stop()
}

// TestUnderSystemd: readiness, a line of status and the beats of the watchdog go to $NOTIFY_SOCKET,
// none of which the stages see.
func TestUnderSystemd(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(`env >env; `+daemonScript, "[env]\nMINE = \"1\"")})
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n.start("NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=100000", "TOWPATH_LOG_FORMAT=json")
	wanted := map[string]bool{"READY=1": true, "STATUS=1 of 1 stages at work": true, "WATCHDOG=1": true}
	buf := make([]byte, 4096)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	expect := func() {
		t.Helper()
		for len(wanted) > 0 {
			size, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("not said: %v", wanted)
			}
			delete(wanted, string(buf[:size]))
		}
	}
	expect()
	n.becomes("a", "ready")
	env := "\n" + n.get("env") + "\n"
	for _, want := range []string{
		"\nMINE=1\n", "\nTOWPATH_RUN_DIR=" + string(n.dir) + "\n", "\nTOWPATH_LOG_FORMAT=json\n", "\nNOTIFY_SOCKET=" + n.dir.StageSocket("a") + "\n",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("the stage's environment lacks %q", want)
		}
	}
	for _, not := range []string{"WATCHDOG_USEC", socket, "TOWPATH_STAGES"} {
		if strings.Contains(env, not) {
			t.Errorf("the stage's environment has %q", not)
		}
	}
	n.signal(syscall.SIGTERM)
	wanted = map[string]bool{"STOPPING=1": true}
	expect()
	if err := n.wait(); err != nil {
		t.Error(err)
	}
}

// TestInterrupt: Ctrl-C reaches the supervisor alone, which ends its stages; twice, at once.
func TestInterrupt(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(daemonScript, ""), "b": script(`trap '' TERM; sdnotify READY=1; forever`, "stop-timeout = \"10m\"")})
	n.start()
	n.becomes("a", "ready")
	pid := n.becomes("b", "ready").PID
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("process %d is in group %d: Ctrl-C would reach it (%v)", pid, group, err)
	}
	n.signal(syscall.SIGINT)
	n.becomes("b", "stopping")
	n.signal(syscall.SIGINT)
	if err := n.wait(); err != nil {
		t.Error(err)
	}
	if n.alive(fmt.Sprint(pid)) {
		t.Error("told twice, it leaves a process")
	}
}

// TestNobodyReadsTheLog: a pipe whose reader is gone ends neither the supervisor nor the stages.
func TestNobodyReadsTheLog(t *testing.T) {
	n := newNode(t, map[string]string{
		"a": script("cp in out", "inputs = [\"in\"]\nmode = \"oneshot\""),
		"b": "command = [\"towpath\", \"supervise\"]\n[env]\nTOWPATH_RUN_DIR = \"${OTHER}\"\nTOWPATH_STAGES = \"${OTHER}\"",
	})
	n.unread = true
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "x.toml"), []byte(script(daemonScript, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	n.start("OTHER=" + other)
	pid := n.becomes("b", "ready").PID
	for i := range 3 {
		n.put("in", fmt.Sprint(i))
		n.ran("a", i+1)
	}
	if s := n.read("b"); s.PID != pid || s.Runs != 1 || s.State != "ready" {
		t.Errorf("b: %+v", s)
	}
	n.stop()
}

// TestOneSupervisor of a run directory, even where the other is slow to take its lock.
func TestOneSupervisor(t *testing.T) {
	n := newNode(t, map[string]string{"a": script(daemonScript, "")})
	n.start()
	n.becomes("a", "ready")
	out, err := exec.Command("towpath", "supervise", "--run-dir", string(n.dir), "--stages", n.stages).CombinedOutput()
	if code := exitCode(err); code != 75 || !strings.Contains(string(out), "held by process "+fmt.Sprint(n.cmd.Process.Pid)) {
		t.Errorf("a second one: %d, %s", code, out)
	}
	n.stop()
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var e *exec.ExitError
	if ee, ok := err.(*exec.ExitError); ok { //nolint:errorlint // exec returns it as it is
		e = ee
		return e.ExitCode()
	}
	return -1
}

func TestMarksOfTwoNodesDiffer(t *testing.T) {
	a, errA := process.MarkOf(t.TempDir())
	b, errB := process.MarkOf(t.TempDir())
	if errA != nil || errB != nil || a == b {
		t.Errorf("%q and %q (%v, %v)", a, b, errA, errB)
	}
}
