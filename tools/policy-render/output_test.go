package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scriptInto is the command that writes the script of one pod to path, and the script.
func scriptInto(t *testing.T, path string) (*exec.Cmd, string) {
	t.Helper()
	objects := filepath.Join(t.TempDir(), "pods.yaml")
	if err := os.WriteFile(objects, []byte(podYAML("web", "u1", "10.244.1.2")), 0o644); err != nil {
		t.Fatal(err)
	}
	apply := func(output string) *exec.Cmd {
		return exec.Command("policy-render", "apply", "--node", "n1", "--objects", objects, "--output", output)
	}
	script, err := apply("-").Output()
	if err != nil || !bytes.Contains(script, []byte("chain forward")) {
		t.Fatalf("script: %v\n%s", err, script)
	}
	return apply(path), string(script)
}

func TestOutputIntoFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, want := scriptInto(t, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("read %d of %d bytes, %v", len(got), len(want), err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the FIFO became %v, %v", st.Mode(), err)
	}
}

// TestOutputEndsWithoutReader: neither a FIFO that nobody opens nor one that nobody reads keeps the program from ending.
func TestOutputEndsWithoutReader(t *testing.T) {
	for _, opened := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if opened {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			conn, err := f.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			const setSize, small = 1031, 4096 // F_SETPIPE_SZ: less than the script takes
			if err := conn.Control(func(fd uintptr) {
				if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, fd, setSize, small); e != 0 {
					t.Error(e)
				}
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(make([]byte, small)); err != nil { // full
				t.Fatal(err)
			}
		}
		cmd, _ := scriptInto(t, path)
		cmd.Args = append(cmd.Args, "--log-level", "debug")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			t.Fatalf("opened %v: it ended before anybody read: %v", opened, err)
		case <-time.After(300 * time.Millisecond): // long enough to be waiting
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("opened %v: status 0 without a reader", opened)
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Fatalf("opened %v: SIGTERM did not end it", opened)
		}
	}
}

func TestOutputThroughLink(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "real.nft")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.nft", link); err != nil {
		t.Fatal(err)
	}
	cmd, want := scriptInto(t, link)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "write "+link+"\n" {
		t.Errorf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%d bytes behind the link, not %d: %v", len(got), len(want), err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real.nft" {
		t.Errorf("the link became %q, %v", to, err)
	}
}

// TestOutputIntoDevice uses a node of its own in the place of /dev/null, and a link to it.
func TestOutputIntoDevice(t *testing.T) {
	dir := t.TempDir()
	null, link := filepath.Join(dir, "null"), filepath.Join(dir, "link")
	if err := syscall.Mknod(null, syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("null", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{null, link} {
		cmd, _ := scriptInto(t, path)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "write "+path+"\n" {
			t.Errorf("%v: %s", err, out)
		}
	}
	st, err := os.Lstat(null)
	if err != nil || st.Mode().Type() != os.ModeDevice|os.ModeCharDevice || st.Sys().(*syscall.Stat_t).Rdev != 1<<8|3 {
		t.Errorf("the device became %v, %v", st.Mode(), err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link became %v, %v", st.Mode(), err)
	}
}

// TestOutputToStandardOutput: /dev/stdout is standard output, be it a pipe or a file.
func TestOutputToStandardOutput(t *testing.T) {
	cmd, want := scriptInto(t, "/dev/stdout")
	if got, err := cmd.Output(); err != nil || string(got) != want {
		t.Errorf("pipe: %d bytes, not %d: %v", len(got), len(want), err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("before\n"); err != nil {
		t.Fatal(err)
	}
	cmd, want = scriptInto(t, "/dev/stdout")
	cmd.Stdout = file
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); err != nil || string(got) != "before\n"+want {
		t.Errorf("file: %d bytes, %v: %s", len(got), err, strings.SplitN(string(got), "\n", 3))
	}
}
