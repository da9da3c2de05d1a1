package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// markName is the environment variable that tells whose process one is.
const markName = "TOWPATH_STAGE"

// Identity is a process for good: numbers are used again, but not with the same time of start.
type Identity struct {
	PID   int
	Start uint64 // in the kernel's ticks since boot, field 22 of /proc/PID/stat
}

// Found is a process that was started for a stage.
type Found struct {
	Identity
	Stage   string
	Group   int
	Session int
	parent  int
	zombie  bool
}

// MarkOf is the mark of the processes of a run directory. It is the directory's inode, not its name:
// several nodes on one machine, each with a /run of its own, must not take each other's processes.
func MarkOf(runDir string) (string, error) {
	info, err := os.Stat(runDir)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// Identify returns the identity of a running process; a zombie does not run.
func Identify(pid int) (Identity, error) {
	f, err := stat(pid)
	if err == nil && f.zombie {
		err = fmt.Errorf("process %d has ended", pid)
	}
	return f.Identity, err
}

// Alive says whether the very process still runs.
func (id Identity) Alive() bool {
	now, err := Identify(id.PID)
	return err == nil && now == id
}

func stat(pid int) (Found, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Found{}, err
	}
	return parseStat(pid, data)
}

// parseStat reads /proc/PID/stat. The name in parentheses may hold anything, also parentheses.
func parseStat(pid int, data []byte) (Found, error) {
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 20 {
		return Found{}, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(f))
	}
	var n [4]uint64
	for i, at := range []int{1, 2, 3, 19} { // parent, group, session, start: fields 4, 5, 6 and 22
		v, err := strconv.ParseUint(f[at], 10, 64)
		if err != nil {
			return Found{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
		}
		n[i] = v
	}
	return Found{
		Identity: Identity{PID: pid, Start: n[3]}, parent: int(n[0]), Group: int(n[1]), Session: int(n[2]),
		zombie: f[0] == "Z" || f[0] == "X",
	}, nil
}

func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// Running finds every process that was started for a stage of the run directory that mark stands
// for, whoever started it. A process that made itself the leader of a session has left the stage for
// good and is not among them, nor is what it started.
func Running(mark string) []Found {
	prefix := []byte(markName + "=" + mark + ":")
	marked := map[int]Found{}
	for _, pid := range pids() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue // gone, or not ours to see
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			name, found := bytes.CutPrefix(v, prefix)
			if !found {
				continue
			}
			if f, err := stat(pid); err == nil && !f.zombie {
				f.Stage = string(name)
				marked[pid] = f
			}
		}
	}
	var out []Found
	for _, f := range marked {
		if _, left := marked[f.Session]; !left {
			out = append(out, f)
		}
	}
	return out
}

// groupRuns says whether a process of the group runs; zombies do not.
func groupRuns(group int) bool {
	return slices.ContainsFunc(pids(), func(pid int) bool {
		f, err := stat(pid)
		return err == nil && f.Group == group && !f.zombie
	})
}

// sweep kills what is left of a process group whose leader has ended and was not our child, so that
// the group's number alone would not be proof.
func (r *Runner) sweep(group int) {
	for _, f := range Running(r.Mark) {
		if f.Group == group {
			unix.Kill(f.PID, unix.SIGKILL) //nolint:errcheck // it may be gone
		}
	}
}

// Stop ends processes by TERM, and by KILL what is left after the grace of its stage, and returns
// when all are gone.
func Stop(ctx context.Context, found []Found, grace func(stage string) time.Duration) error {
	type waiting struct {
		fd    *os.File
		timer *time.Timer
		ended chan struct{}
	}
	var all []waiting
	for _, f := range found {
		fd, err := openPIDFD(f.PID)
		if err != nil || !f.Alive() {
			continue
		}
		p := &Process{Identity: f.Identity, fd: fd}
		_ = p.Signal(syscall.SIGTERM)
		w := waiting{fd: fd, ended: make(chan struct{}), timer: time.AfterFunc(grace(f.Stage), func() { _ = p.Signal(syscall.SIGKILL) })}
		go func() {
			await(fd)
			close(w.ended)
		}()
		all = append(all, w)
	}
	var err error
	for _, w := range all {
		select {
		case <-w.ended:
		case <-ctx.Done():
			err = ctx.Err()
		}
		w.timer.Stop()
		w.fd.Close()
	}
	return err
}

// Reap waits, until ctx ends, for the orphans that the kernel gives to process 1 of a container, and
// leaves this runner's own children to those who wait for them.
func (r *Runner) Reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.reap()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

func (r *Runner) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := os.Getpid()
	for _, pid := range pids() {
		if f, err := stat(pid); err == nil && f.zombie && f.parent == self && !r.own[pid] {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// InNetwork finds the processes of a program, by the name of its executable, that share this process's network namespace.
func InNetwork(name string) ([]int, error) {
	ours, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("look at the network namespace: %w", err)
	}
	var found []int
	for _, pid := range pids() {
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || strings.TrimSuffix(filepath.Base(path), " (deleted)") != name {
			continue // gone, the kernel's, or another
		}
		theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil && os.SameFile(ours, theirs) {
			found = append(found, pid)
		}
	}
	return found, nil
}
