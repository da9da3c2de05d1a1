package keep

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asProgram makes the test binary print what it finds stored.
const asProgram = "TOWPATH_KEEP_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	os.Unsetenv(asProgram)
	Take()
	for _, name := range []string{"a", "b"} {
		text := "nothing"
		if f := Stored(name); f != nil {
			var buf [100]byte
			n, err := f.Read(buf[:])
			flags, _ := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			text = fmt.Sprintf("%s %v cloexec=%t", buf[:n], err, flags&unix.FD_CLOEXEC != 0)
		}
		fmt.Printf("%s: %s, then %v\n", name, text, Stored(name))
	}
	fmt.Println(slices.ContainsFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LISTEN_") }))
	os.Exit(0)
}

func TestStored(t *testing.T) {
	const both = "a: A <nil> cloexec=true, then <nil>\nb: B <nil> cloexec=true, then <nil>\nfalse\n"
	const none = "a: nothing, then <nil>\nb: nothing, then <nil>\nfalse\n"
	self := `LISTEN_PID=$$ exec "$0"`
	for _, tc := range []struct {
		name, shell string
		env         []string
		leader      bool
		want        string
	}{
		{"as systemd does", self, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"}, false, both},
		{"as towpath does", `exec "$0"`, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "TOWPATH_STAGE=1:2:x"}, true, both},
		{"a child of a stage", `"$0"; true`, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "TOWPATH_STAGE=1:2:x"}, true, none},
		{"nobody's", `exec "$0"`, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"}, true, none},
		{"for another", `LISTEN_PID=1 exec "$0"`, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "TOWPATH_STAGE=1:2:x"}, true, none},
		{"no names", self, []string{"LISTEN_FDS=2"}, false, none},
		{"not that many", self, []string{"LISTEN_FDS=3", "LISTEN_FDNAMES=a:b:c"}, false, both},
		{"no number", self, []string{"LISTEN_FDS=two", "LISTEN_FDNAMES=a:b"}, false, none},
	} {
		t.Run(tc.name, func(t *testing.T) {
			me, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", tc.shell, me)
			cmd.Env = append(append(os.Environ(), asProgram+"=1"), tc.env...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: tc.leader}
			for _, text := range []string{"A", "B"} {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if _, err := w.WriteString(text); err != nil {
					t.Fatal(err)
				}
				w.Close()
				cmd.ExtraFiles = append(cmd.ExtraFiles, r)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != tc.want {
				t.Errorf("%v\n%swant\n%s", err, out, tc.want)
			}
		})
	}
}

// listener is a supervisor's socket.
func listener(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	os.Remove(path) // it may be none
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// message returns the next message and what the file that came with it holds.
func message(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf, rights := make([]byte, 4096), make([]byte, 4096)
	n, c, _, _, err := conn.ReadMsgUnix(buf, rights)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(buf[:n]), "\n", " ")
	messages, _ := unix.ParseSocketControlMessage(rights[:c])
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "came")
			n, _ := f.ReadAt(buf, 0)
			text += " (" + string(bytes.TrimSpace(buf[:n])) + ")"
			f.Close()
		}
	}
	return text
}

// TestStore: what is stored reaches the supervisor, and the next one as soon as it is told anything.
func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	file := func(text string) *os.File {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := listener(t, path)
	expect := func(conn *net.UnixConn, want ...string) {
		t.Helper()
		for _, w := range want {
			if got := message(t, conn); got != w {
				t.Errorf("%q, want %q", got, w)
			}
		}
	}
	for _, text := range []string{"one", "two"} {
		if err := Store("x", file(text)); err != nil {
			t.Fatal(err)
		}
	}
	expect(first, "FDSTORE=1 FDNAME=x (one)", "FDSTOREREMOVE=1 FDNAME=x", "FDSTORE=1 FDNAME=x (two)")
	if err := Store("y", file("other")); err != nil {
		t.Fatal(err)
	}
	Status("ok")
	expect(first, "FDSTORE=1 FDNAME=y (other)", "STATUS=ok")
	first.Close()
	Status("nobody is there")
	second := listener(t, path)
	Status("ok")
	Status("still")
	expect(second, "FDSTORE=1 FDNAME=x (two)", "FDSTORE=1 FDNAME=y (other)", "STATUS=ok", "STATUS=still")
	Forget("x")
	expect(second, "FDSTOREREMOVE=1 FDNAME=x")
	second.Close()
	third := listener(t, path)
	Status("ok")
	expect(third, "FDSTORE=1 FDNAME=y (other)", "STATUS=ok")
	if got := Supervisor(); !slices.Equal(got, []string{path}) {
		t.Errorf("to watch: %q", got)
	}
	Forget("y")
}
