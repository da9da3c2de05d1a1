// Package process starts the stages' processes and learns of their end. Each is the leader of a
// process group of its own, so that Ctrl-C in a terminal does not reach it and whatever it starts
// can be ended with it. Nothing ties it to the supervisor's life: a killed supervisor leaves its
// processes running, and the next one finds them by the mark in their environment.
package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
)

// Command is what to run.
type Command struct {
	Stage  string
	Args   []string
	Env    []string // without what Start adds: the mark, NOTIFY_SOCKET, and LISTEN_FDS of what is stored
	Socket string   // where to listen for sd_notify messages
	Store  *Store   // what earlier runs stored, and this one may; nil: nothing is kept
}

// End is how a process ended.
type End struct {
	Known  bool // false: it was no child of this process
	Code   int
	Signal syscall.Signal // 0: it exited with Code
}

// String is "0", "75 (try again later)" or "signal: killed".
func (e End) String() string {
	switch {
	case !e.Known:
		return "unknown (it was started by an earlier supervisor)"
	case e.Signal != 0:
		return "signal: " + e.Signal.String()
	}
	if name := exit.Code(e.Code).String(); e.Code != 0 && !strings.HasPrefix(name, "exit ") {
		return fmt.Sprintf("%d (%s)", e.Code, name)
	}
	return fmt.Sprint(e.Code)
}

// Callbacks are called from other goroutines, ended last and once.
type Callbacks struct {
	Notified func(message string)
	Refused  func(error) // a descriptor is not stored
	Ended    func(End)
}

// Process is a running stage.
type Process struct {
	Identity
	fd  *os.File  // pidfd
	cmd *exec.Cmd // nil: adopted
}

// Runner starts processes.
type Runner struct {
	Mark   string // of this run directory, see MarkOf
	Stdout *os.File
	Stderr *os.File

	mu  sync.Mutex
	own map[int]bool // children that exec.Cmd waits for
}

// Find looks a program up: beside this executable, then in PATH. A name with a slash is a path.
func Find(program string) (string, error) {
	if self, err := os.Executable(); err == nil && !strings.Contains(program, "/") {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), program)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(program)
	var at *exec.Error // it and the path error within it name the program again
	var in *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if errors.As(err, &in) {
		err = in.Err
	}
	if err != nil {
		return "", fmt.Errorf("find program %q: %w", program, err)
	}
	return filepath.Abs(path)
}

// Start runs c. Standard output and standard error are this process's own files, not pipes: nothing
// is lost, nothing blocks, and the process does not die of a pipe whose reader is gone.
func (r *Runner) Start(c Command, on Callbacks) (*Process, error) {
	path, err := Find(c.Args[0])
	if err != nil {
		return nil, err
	}
	files, listen, err := c.Store.hand()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	notes, err := openNotes(c.Socket, c.Store, on)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: c.Args, Stdout: r.Stdout, Stderr: r.Stderr, ExtraFiles: files,
		Env:         append(append(c.Env, markName+"="+r.Mark+":"+c.Stage, "NOTIFY_SOCKET="+c.Socket), listen...),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	p := &Process{cmd: cmd}
	r.mu.Lock() // Reap must not see a child that is not in own yet
	err = cmd.Start()
	if err == nil {
		if r.own == nil {
			r.own = map[int]bool{}
		}
		r.own[cmd.Process.Pid] = true
	}
	r.mu.Unlock()
	if err == nil {
		p.fd, err = openPIDFD(cmd.Process.Pid) // not waited for yet: the number is its own
	}
	if err == nil {
		var f Found
		f, err = stat(cmd.Process.Pid) // it may have ended already: a zombie until it is waited for
		p.Identity = f.Identity
	}
	if err != nil {
		if cmd.Process != nil {
			unix.Kill(-cmd.Process.Pid, unix.SIGKILL) //nolint:errcheck // it may be gone
			cmd.Wait()                                //nolint:errcheck // killed
			r.forget(cmd.Process.Pid)
		}
		notes.close()
		return nil, fmt.Errorf("start %q: %w", path, err)
	}
	go notes.read()
	go func() {
		await(p.fd)
		unix.Kill(-p.PID, unix.SIGKILL) //nolint:errcheck // what is left of the group, while the leader's number is still taken
		cmd.Wait()                      //nolint:errcheck // ProcessState says it
		r.forget(p.PID)
		p.fd.Close()
		awaitGroup(p.PID)
		notes.drain()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		end := End{Known: true, Code: status.ExitStatus()}
		if status.Signaled() {
			end.Signal = status.Signal()
		}
		on.Ended(end)
	}()
	return p, nil
}

func (r *Runner) forget(pid int) {
	r.mu.Lock()
	delete(r.own, pid)
	r.mu.Unlock()
}

// Adopt watches over a process that an earlier supervisor started; socket is where it sends its
// messages and what it stores, which it does again when the socket is new. Its exit status is its
// parent's to know, not ours.
func (r *Runner) Adopt(id Identity, socket string, store *Store, on Callbacks) (*Process, error) {
	fd, err := openPIDFD(id.PID)
	if err != nil {
		return nil, fmt.Errorf("adopt process %d: %w", id.PID, err)
	}
	if now, err := Identify(id.PID); err != nil || now != id { // the number was given to another since
		fd.Close()
		return nil, fmt.Errorf("adopt process %d: it is gone", id.PID)
	}
	notes, err := openNotes(socket, store, on)
	if err != nil {
		fd.Close()
		return nil, err
	}
	go notes.read()
	go func() {
		await(fd)
		fd.Close()
		r.sweep(id.PID)
		awaitGroup(id.PID)
		notes.drain()
		on.Ended(End{})
	}()
	return &Process{Identity: id, fd: fd}, nil
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(s syscall.Signal) error {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	return errors.Join(err, sent)
}

// SignalGroup sends a signal to the process and all that it started.
func (p *Process) SignalGroup(s syscall.Signal) error {
	if err := p.Signal(0); err != nil { // ended: the number may be another's by now
		return err
	}
	return unix.Kill(-p.PID, s)
}

// openPIDFD returns a file that becomes readable when the process ends. It is waited for by the
// runtime's poller, so it takes no thread.
func openPIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", pid)), nil
}

func await(fd *os.File) {
	conn, err := fd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && ready > 0
	})
}

// awaitGroup returns when no process of a killed group runs, so that the next run of the stage meets
// none that still holds a lock; one that the kernel cannot end keeps it for a few seconds only.
func awaitGroup(group int) {
	delay := time.Millisecond
	for range 12 {
		if unix.Kill(-group, 0) != nil || !groupRuns(group) {
			return
		}
		<-time.After(delay)
		delay *= 2
	}
}
