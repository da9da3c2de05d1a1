package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/supervisor/process"
)

// keeper appends what reaches its socket to the file seen. It stores the socket, so that what is sent while it does not
// run waits there.
func keeper() {
	err := func() error {
		dir := os.Getenv("TOWPATH_RUN_DIR")
		keep.Take()
		var conn *net.UnixConn
		if f := keep.Stored("box"); f != nil {
			c, err := net.FilePacketConn(f)
			if err != nil {
				return err
			}
			conn = c.(*net.UnixConn)
		} else {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "box"), Net: "unixgram"})
			if err != nil {
				return err
			}
			conn = c
		}
		seen, err := os.OpenFile(filepath.Join(dir, "seen"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if err := keep.Store("box", conn); err != nil {
			return err
		}
		changes, err := watch.New(context.Background(), watch.Options{Files: keep.Supervisor()})
		if err != nil {
			return err
		}
		keep.Ready()
		go func() {
			for n := 0; ; n++ {
				<-changes
				keep.Status("told %d times", n)
			}
		}()
		for buf := make([]byte, 100); ; {
			n, err := conn.Read(buf)
			if err == nil {
				_, err = seen.Write(buf[:n])
			}
			if err != nil {
				return err
			}
		}
	}()
	fmt.Fprintln(os.Stderr, "keeper:", err)
	os.Exit(1)
}

// TestStoredDescriptors: what a process stored reaches its next run, also when the supervisor was killed in between, until
// the stage may not run any longer.
func TestStoredDescriptors(t *testing.T) {
	n := newNode(t, map[string]string{"a": "command = [\"keeper\"]\ninputs = [\"in\"]\nbackoff-initial = \"10ms\"\non-change = \"none\"\n"})
	n.put("in", "1")
	n.start()
	pid := n.becomes("a", "ready").PID
	sent := 0
	send := func() error {
		to, err := net.Dial("unixgram", filepath.Join(string(n.dir), "box"))
		if err != nil {
			return err
		}
		defer to.Close()
		if _, err = fmt.Fprintln(to, sent); err == nil {
			sent++
		}
		return err
	}
	must := func() {
		t.Helper()
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	complete := func() {
		t.Helper()
		n.until("all arrived", func() bool { return len(strings.Fields(n.get("seen"))) == sent })
		var want []string
		for i := range sent {
			want = append(want, fmt.Sprint(i))
		}
		if got := strings.Fields(n.get("seen")); !slices.Equal(got, want) {
			t.Errorf("arrived %v", got)
		}
	}
	restart := func() {
		t.Helper()
		complete() // what it has read and not yet written is lost with it
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		n.until("it runs again", func() bool {
			must() // all the while
			s := n.read("a")
			return s.State == "ready" && s.PID != pid
		})
		pid = n.read("a").PID
	}
	must()
	restart()
	restart()
	complete()
	n.kill()
	must()
	n.start()
	n.until("the next supervisor has it", func() bool { s := n.read("a"); return s.PID == pid && strings.HasPrefix(s.Status, "told") })
	restart()
	complete()
	n.put("in", "")
	n.becomes("a", "waiting")
	if err := send(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("once the stage may not run: %v", err)
	}
	n.stop()
}

// TestStoreHasALimit: what is too much is closed and said, and what is there stays.
func TestStoreHasALimit(t *testing.T) {
	n := newNode(t, map[string]string{"a": "command = [\"hoarder\"]\nrestart = \"never\"\n"})
	n.start()
	n.becomes("a", "held")
	n.until("it is said", func() bool {
		return strings.Count(n.log.String(), "stage keeps too much") == 2 && strings.Contains(n.log.String(), `store descriptor \"extra1\": 16 are stored already`)
	})
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	held := slices.DeleteFunc(fds, func(fd os.DirEntry) bool {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", n.cmd.Process.Pid, fd.Name()))
		return to != "/dev/zero"
	})
	if len(held) != process.MaxStored {
		t.Errorf("%d descriptors are held, want %d", len(held), process.MaxStored)
	}
	n.stop()
}

// hoarder stores more than it may, and ends.
func hoarder() {
	zero, err := os.Open("/dev/zero")
	for i := range process.MaxStored {
		err = errors.Join(err, keep.Store(fmt.Sprint(i), zero))
	}
	for i := range 2 {
		err = errors.Join(err, keep.Store(fmt.Sprintf("extra%d", i), zero))
	}
	err = errors.Join(err, keep.Store("0", zero)) // in the place of another
	fmt.Fprintln(os.Stderr, "hoarder:", err)
	os.Exit(1)
}
