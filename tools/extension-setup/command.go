package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/towpath/towpath/lib/exit"
)

// command is one command of the back end with all that it is run with.
type command struct {
	key  string   // in net-conf.json
	text string   // as it is there; empty: there is none
	env  []string // NAME=VALUE, beside this program's own environment
	data string   // what it reads, less a line break
	node string   // the other node that it is run for; empty: this node
}

// args are the words of the command with their variables expanded, as flannel does it: no shell comes near them.
func (c command) args() ([]string, error) {
	words, err := parse(c.text)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, e := range append(os.Environ(), c.env...) {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
	}
	return expand(words, func(name string) string { return values[name] }), nil
}

// String is what to type into a shell for the same.
func (c command) String() string {
	args, err := c.args()
	if err != nil {
		return c.text
	}
	var words []string
	if c.data != "" {
		words = append(words, "echo", quote(c.data), "|")
	}
	for _, e := range c.env {
		if name, value, _ := strings.Cut(e, "="); value != "" {
			words = append(words, name+"="+quote(value))
		}
	}
	for _, a := range args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// runner runs commands.
type runner struct {
	limit time.Duration
	log   *slog.Logger
}

const (
	// grace is how long a command that runs may go on when this program is told to end.
	grace = 5 * time.Second
	// waitDelay is how long what a killed command left running may keep its output open.
	waitDelay = time.Second
	// maxData is how much PreStartupCommand may print: it becomes a part of the Node object.
	maxData = 32 << 10
)

// run runs a command. What PreStartupCommand prints is returned; what others print, and what any writes to standard error, goes
// to the log line by line. quiet: a failure is nobody's concern.
func (r runner) run(ctx context.Context, c command, quiet bool) (string, error) {
	args, err := c.args()
	if err != nil || len(args) == 0 {
		return "", err
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.limit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	runtime.LockOSThread() // Pdeathsig is the thread's
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(bounded, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = strings.NewReader(c.data + "\n")
	cmd.WaitDelay = waitDelay
	// A group of its own, to be killed with all that it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	level := slog.LevelWarn
	if quiet {
		level = slog.LevelDebug
	}
	log := r.log.With("command", c.key, "node", c.node)
	var data capped
	printed, says := &lines{log: log, level: slog.LevelInfo}, &lines{log: log, level: level}
	cmd.Stdout, cmd.Stderr = printed, says
	if c.key == keyPre {
		cmd.Stdout = &data
	}
	err = cmd.Run()
	printed.flush()
	says.flush()
	switch {
	case err == nil && len(data) > maxData:
		return "", exit.Errorf(exit.BadConfig, "%s: it printed more than %d bytes", c, maxData)
	case err == nil:
		return strings.TrimSpace(string(data)), nil
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return "", exit.WithHint(exit.Errorf(exit.Unavailable, "%s: %w", c, err), "%s names a program, which is looked for in $PATH; there is no shell to know its own words", c.key)
	case bounded.Err() != nil && ctx.Err() == nil:
		return "", exit.Errorf(exit.Refused, "%s: not done within %s: killed", c, r.limit)
	}
	return "", exit.Errorf(exit.Refused, "%s: %w%s", c, err, says.tail())
}

// capped keeps a little more than maxData of what is written to it.
type capped []byte

func (c *capped) Write(p []byte) (int, error) {
	*c = append(*c, p[:min(len(p), maxData+1-len(*c))]...)
	return len(p), nil
}

// lines logs what is written to it, one line an entry.
type lines struct {
	log   *slog.Logger
	level slog.Level
	rest  []byte
	seen  int
	last  string
}

const (
	maxLine  = 1 << 10
	maxLines = 100
)

func (l *lines) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			l.flush()
		} else if len(l.rest) < maxLine {
			l.rest = append(l.rest, b)
		}
	}
	return len(p), nil
}

func (l *lines) flush() {
	line := strings.TrimSpace(string(l.rest))
	l.rest = l.rest[:0]
	if line == "" {
		return
	}
	l.last = line
	switch l.seen++; {
	case l.seen <= maxLines:
		l.log.Log(context.Background(), l.level, "the command says", "line", line)
	case l.seen == maxLines+1:
		l.log.Log(context.Background(), l.level, "the command says more than is told here")
	}
}

func (l *lines) tail() string {
	if l.last == "" {
		return ""
	}
	return fmt.Sprintf(": %.200s", l.last)
}
