package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
)

// step is a program whose machine is a number of ops still to do.
type step struct {
	left  int
	stuck bool
	fail  error
}

func (s *step) Plan(context.Context) ([]plan.Op, error) {
	var ops []plan.Op
	for i := range s.left {
		ops = append(ops, plan.Func{Text: fmt.Sprintf("op %d", i), Run: func(context.Context) error {
			if !s.stuck {
				s.left--
			}
			return s.fail
		}})
	}
	return ops, nil
}
func (s *step) Down(ctx context.Context) ([]plan.Op, error) { return s.Plan(ctx) }

func runStep(t *testing.T, s *step, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := Program{
		Name: "demo-step", Summary: "test",
		Flags: []Flag{{Name: "iface-regex", Usage: "r", Default: []string(nil)}, {Name: "ttl", Usage: "t", Default: time.Hour}},
		Open:  func(*Env) (Step, error) { return s, nil },
		Verbs: []Verb{{Name: "show", Usage: "print flags", Run: func(_ context.Context, env *Env) error {
			fmt.Fprintf(env.Stdout, "%q %s\n", env.Strings("iface-regex"), env.Duration("ttl"))
			return nil
		}}},
	}
	code = Run(t.Context(), p, args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestVerbs(t *testing.T) {
	dir := "--run-dir=" + t.TempDir()
	s := &step{left: 2}
	if code, out, errs := runStep(t, s, "plan", dir); code != 0 || out != "op 0\nop 1\n" || s.left != 2 {
		t.Errorf("plan: %d %q %q", code, out, errs)
	}
	if code, out, errs := runStep(t, s, "apply", dir); code != 0 || out != "op 0\nop 1\n" || s.left != 0 {
		t.Errorf("apply: %d %q %q", code, out, errs)
	}
	if code, out, errs := runStep(t, s, "apply", dir); code != 0 || out != "" {
		t.Errorf("second apply: %d %q %q", code, out, errs)
	}
	if code, _, errs := runStep(t, &step{left: 1, stuck: true}, "apply", dir); code != int(exit.TryAgain) || !strings.Contains(errs, "three times") {
		t.Errorf("apply that does not settle: %d %q", code, errs)
	}
	if code, _, errs := runStep(t, &step{left: 1, fail: os.ErrPermission}, "apply", dir); code != int(exit.NoPermission) || !strings.Contains(errs, "demo-step: op 0: ") {
		t.Errorf("apply that fails: %d %q", code, errs)
	}
}

func TestUsageErrors(t *testing.T) {
	dir := "--run-dir=" + t.TempDir()
	for _, args := range [][]string{
		{},
		{"aply"},
		{"plan", "--no-such"},
		{"plan", "extra"},
		{"plan", dir, "extra"},
		{"plan", "--ttl=soon"},
		{"plan", "--log-level=loud"},
		{"plan", "--log-format=xml"},
		{"--no-such", "plan"},
	} {
		code, out, errs := runStep(t, &step{}, args...)
		if code != int(exit.Usage) || out != "" || !strings.HasPrefix(errs, "demo-step: ") {
			t.Errorf("%q: exit status %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
	if code, out, _ := runStep(t, &step{}, "plan", "--help"); code != 0 || !strings.Contains(out, "TOWPATH_IFACE_REGEX") {
		t.Errorf("help: %d %q", code, out)
	}
}

func TestFlagsAndVariables(t *testing.T) {
	if _, out, _ := runStep(t, &step{}, "show", "--iface-regex=^eth{1,2}$", "--iface-regex", "b"); out != "[\"^eth{1,2}$\" \"b\"] 1h0m0s\n" {
		t.Errorf("got %q", out)
	}
	t.Setenv("TOWPATH_IFACE_REGEX", "^eth{1,2}$\nb\n")
	if _, out, _ := runStep(t, &step{}, "show"); out != "[\"^eth{1,2}$\" \"b\"] 1h0m0s\n" {
		t.Errorf("variable of several lines: got %q", out)
	}
	if _, out, _ := runStep(t, &step{}, "show", "--iface-regex=c"); out != "[\"c\"] 1h0m0s\n" {
		t.Errorf("command line over variable: got %q", out)
	}
	t.Setenv("TOWPATH_IFACE_REGEX", "")
	t.Setenv("TOWPATH_TTL", "3s")
	if _, out, _ := runStep(t, &step{}, "show"); out != "[] 3s\n" {
		t.Errorf("variable: got %q", out)
	}
	if _, out, _ := runStep(t, &step{}, "show", "--ttl=4s"); out != "[] 4s\n" {
		t.Errorf("command line over variable: got %q", out)
	}
}

func TestLockKeepsTheSecondOut(t *testing.T) {
	dir := t.TempDir()
	l, err := lock.Try(state.Dir(dir).Lock("demo-step"), "demo-step watch")
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs := runStep(t, &step{left: 1}, "apply", "--run-dir", dir)
	if code != int(exit.TryAgain) || !strings.Contains(errs, fmt.Sprintf("%d demo-step watch", os.Getpid())) {
		t.Errorf("apply beside watch: %d %q", code, errs)
	}
	if code, _, _ := runStep(t, &step{left: 1}, "plan", "--run-dir", dir); code != 0 {
		t.Errorf("plan beside watch: %d", code)
	}
	l.Release()
	if code, _, errs := runStep(t, &step{left: 1}, "apply", "--run-dir", dir); code != 0 {
		t.Errorf("apply after watch: %d %q", code, errs)
	}
}

func TestWatchEndsOnWhatWaitingCannotMend(t *testing.T) {
	bad := exit.Errorf(exit.BadConfig, "key %q: no", "Network")
	code, _, _ := runStep(t, &step{left: 1, fail: bad}, "watch", "--run-dir", t.TempDir())
	if code != int(exit.BadConfig) {
		t.Errorf("exit status %d", code)
	}
}

func TestBackoff(t *testing.T) {
	var b Backoff
	last := time.Duration(0)
	for range 20 {
		last = b.Next()
		if last < 50*time.Millisecond || last > 30*time.Second {
			t.Fatalf("delay %s", last)
		}
	}
	if last < 15*time.Second {
		t.Errorf("does not grow: %s", last)
	}
	b.Reset()
	if d := b.Next(); d > 100*time.Millisecond {
		t.Errorf("after reset: %s", d)
	}
}

func TestLockError(t *testing.T) {
	var held *lock.HeldError
	path := filepath.Join(t.TempDir(), "l")
	a, err := lock.Try(path, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Release()
	if _, err := lock.Try(path, "b"); !errors.As(err, &held) {
		t.Errorf("second holder: %v", err)
	}
}

// TestLastWords: why a program ended reaches the supervisor.
func TestLastWords(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	if code := Run(t.Context(), Program{Name: "prog"}, []string{"nonsense"}, nil, io.Discard, io.Discard); code != int(exit.Usage) {
		t.Errorf("ended with %d", code)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, `STATUS=failing: unknown verb "nonsense"`) {
		t.Errorf("%q, %v", got, err)
	}
}
