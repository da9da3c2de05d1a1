//go:build cluster

package cluster

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// flow is a ping, 100 a second and more where the machine is not busy, from a pod's network namespace; from outside the pod, so that nothing of the API is in its way.
type flow struct {
	what string
	cmd  *exec.Cmd
	out  replies
}

// replies takes in what ping prints.
type replies struct {
	n, last int    // how many, and which the last one was for
	part    []byte // of a line
	said    []byte // all other lines
}

var sequence = regexp.MustCompile(` icmp_seq=(\d+) .*time=`)

func (a *replies) Write(b []byte) (int, error) {
	a.part = append(a.part, b...)
	for {
		line, rest, whole := bytes.Cut(a.part, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		if found := sequence.FindSubmatch(line); found != nil {
			seq, _ := strconv.Atoi(string(found[1]))
			a.n, a.last = a.n+1, max(a.last, seq)
		} else {
			a.said = append(append(a.said, line...), '\n')
		}
		a.part = bytes.Clone(rest)
	}
}

// ping starts a flow from a pod, or with an empty one from a node, to an address.
func ping(t *testing.T, from *pod, node, to string) *flow {
	t.Helper()
	var args []string
	what := node
	if from != nil {
		args = []string{"nsenter", "-n", "-t", from.pid(t)}
		what = from.name
	}
	f := &flow{what: fmt.Sprintf("%s to %s", what, to)}
	f.cmd = background(t, &f.out, node, append(args, "ping", "-n", "-i", "0.004", to)...)
	return f
}

// background starts a command in a part of the cluster; it ends with the test.
func background(t *testing.T, out io.Writer, part string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("./in", append([]string{name + "/" + part}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			tell(cmd, syscall.SIGKILL)
			cmd.Wait()
		}
	})
	return cmd
}

// tell signals a command and the nsenter around it.
func tell(cmd *exec.Cmd, s syscall.Signal) {
	syscall.Kill(-cmd.Process.Pid, s)
}

var summary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// underWay is how many packets may have no answer yet when a flow is ended; 40 ms of them.
const underWay = 10

// lost ends the flow and returns how many packets were sent and how many got no answer.
func (f *flow) lost(t *testing.T) (sent, lost int) {
	t.Helper()
	tell(f.cmd, syscall.SIGINT)
	f.cmd.Wait()
	found := summary.FindSubmatch(f.out.said)
	if found == nil {
		t.Fatalf("ping %s: %s", f.what, f.out.said)
	}
	sent, _ = strconv.Atoi(string(found[1]))
	if sent-f.out.last <= underWay {
		sent = f.out.last
	}
	return sent, sent - f.out.n
}

// none fails the test for a packet that was lost, and for a flow that hardly flowed in the time since it began.
func none(t *testing.T, since time.Time, flows ...*flow) {
	t.Helper()
	for _, f := range flows {
		took := time.Since(since)
		sent, lost := f.lost(t)
		t.Logf("%s: %d sent in %.0f s, %d lost", f.what, sent, took.Seconds(), lost)
		if lost != 0 || sent < int(took.Seconds()) { // less than none: one came twice
			t.Errorf("%s: %d of %d packets lost", f.what, lost, sent)
		}
	}
}
