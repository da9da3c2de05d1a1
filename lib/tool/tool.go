// Package tool is the skeleton of every towpath program: the verbs plan, apply, watch and down, the
// common flags and their TOWPATH_ variables, logging, the lock, exit statuses and readiness. It wraps
// urfave/cli once, against its traps (usage errors on standard output, unknown verbs that end 0,
// lists split at commas, flags swallowed after arguments).
package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/logs"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/version"
)

// Program is one towpath program.
type Program struct {
	Name    string
	Summary string // one line, as in the manual page
	Flags   []Flag
	// Open prepares the step; it is called once per run, after the flags are read. nil: the program
	// has only its own Verbs.
	Open  func(env *Env) (Step, error)
	Verbs []Verb
}

// Step is what the program does. Plan observes the machine and returns what has to change so that it
// is as the inputs ask, in order; Down returns what removes everything the program made. Neither
// changes anything.
type Step interface {
	Plan(ctx context.Context) ([]plan.Op, error)
	Down(ctx context.Context) ([]plan.Op, error)
}

// Verb is a further verb of a program.
type Verb struct {
	Name    string
	Usage   string
	Args    string // synopsis of the arguments; empty: it takes none
	Flags   []Flag // beside the common flags
	OwnOnly bool   // without the program's flags
	Run     func(ctx context.Context, env *Env) error
}

// Env is what a program gets of its surroundings.
type Env struct {
	RunDir state.Dir
	Log    *slog.Logger
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Args   []string

	program *Program
	verb    string
	cli     *cli.Context
}

// String is the value of a flag.
func (e *Env) String(flag string) string { return e.cli.String(flag) }

// Bool is the value of a flag.
func (e *Env) Bool(flag string) bool { return e.cli.Bool(flag) }

// Int is the value of a flag.
func (e *Env) Int(flag string) int { return e.cli.Int(flag) }

// Duration is the value of a flag.
func (e *Env) Duration(flag string) time.Duration { return e.cli.Duration(flag) }

// Strings is the values of a flag that may be repeated.
func (e *Env) Strings(flag string) []string {
	if l, ok := e.cli.Generic(flag).(*list); ok {
		return l.values
	}
	return nil
}

// IsSet says whether a flag was given on the command line or in the environment.
func (e *Env) IsSet(flag string) bool { return e.cli.IsSet(flag) }

// Status tells the supervisor (or systemd) in one line what the program is doing; it is shown by
// `towpath status`. Without a supervisor it does nothing.
func (e *Env) Status(format string, args ...any) { keep.Status(format, args...) }

// Ready tells the supervisor that the program's outputs stand.
func (e *Env) Ready() { keep.Ready() }

// Stored is keep.Stored: what an earlier run of the program left under a name, or nil.
func (e *Env) Stored(name string) *os.File { return keep.Stored(name) }

// Store is keep.Store: it leaves a copy of a descriptor for the next run of the program.
func (e *Env) Store(name string, conn syscall.Conn) error { return keep.Store(name, conn) }

// Forget is keep.Forget: nothing is left under the name any longer.
func (e *Env) Forget(name string) { keep.Forget(name) }

// Supervisor is keep.Supervisor: what a program that stores something watches beside its inputs.
func (e *Env) Supervisor() []string { return keep.Supervisor() }

// Verb is the verb that is run.
func (e *Env) Verb() string { return e.verb }

// Lock takes the program's lock for verb, so that two of it never change one machine at once.
func (e *Env) Lock() (*lock.Lock, error) {
	l, err := lock.Try(e.RunDir.Lock(e.program.Name), e.program.Name+" "+e.verb)
	var held *lock.HeldError
	if errors.As(err, &held) {
		return nil, exit.WithHint(err, "%s is at work already; stop it first, or use plan, which takes no lock", e.program.Name)
	}
	return l, err
}

var common = []Flag{
	{Name: "run-dir", Usage: "directory of the files between the programs", Default: state.DefaultRunDir},
	{Name: "log-level", Usage: "debug, info, warn or error", Default: "info"},
	{Name: "log-format", Usage: "text or json", Default: "text"},
}

// Main runs the program on the process's arguments and exits.
func Main(p Program) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A log whose reader is gone must not end a program that keeps the data plane: a write fails then,
	// nothing more. Notify, not Ignore: that would be passed on to the programs we start.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	keep.Take()
	code := Run(ctx, p, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs the program on args (without its name) and returns the exit status.
func Run(ctx context.Context, p Program, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := app(&p, stdin, stdout, stderr).RunContext(ctx, append([]string{p.Name}, args...))
	if err == nil {
		return int(exit.OK)
	}
	keep.Status(state.Failing+"%v", err) // so that towpath status can say it
	return logs.Fail(stderr, p.Name, err)
}

func app(p *Program, stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	usage := func(_ *cli.Context, err error, _ bool) error {
		return exit.WithHint(exit.Errorf(exit.Usage, "%w", err), "see %s --help", p.Name)
	}
	verbs := append(stepVerbs(p), p.Verbs...)
	names := make([]string, len(verbs))
	commands := make([]*cli.Command, len(verbs))
	for i, v := range verbs {
		names[i] = v.Name
		flags := common
		if !v.OwnOnly {
			flags = append(append([]Flag{}, flags...), p.Flags...)
		}
		flags = append(append([]Flag{}, flags...), v.Flags...)
		commands[i] = &cli.Command{
			Name: v.Name, Usage: v.Usage, ArgsUsage: v.Args, OnUsageError: usage, HideHelpCommand: true,
			Action: func(c *cli.Context) error { return run(c, p, v, stdin, stdout, stderr) },
		}
		for _, f := range flags {
			commands[i].Flags = append(commands[i].Flags, f.cli())
		}
	}
	return &cli.App{
		Name: p.Name, Usage: p.Summary, Version: version.Version, Commands: commands,
		Reader: stdin, Writer: stdout, ErrWriter: stderr, HideHelpCommand: true, OnUsageError: usage,
		ExitErrHandler: func(*cli.Context, error) {}, // Run alone exits
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usage(c, fmt.Errorf("a verb is missing: %s", strings.Join(names, ", ")), false)
			}
			return usage(c, fmt.Errorf("unknown verb %q: use %s", c.Args().First(), strings.Join(names, ", ")), false)
		},
	}
}

func run(c *cli.Context, p *Program, v Verb, stdin io.Reader, stdout, stderr io.Writer) error {
	if v.Args == "" && c.NArg() > 0 {
		return exit.WithHint(exit.Errorf(exit.Usage, "%s takes no argument %q", v.Name, c.Args().First()), "see %s %s --help", p.Name, v.Name)
	}
	log, err := logs.New(stderr, p.Name, c.String("log-level"), c.String("log-format"))
	if err != nil {
		return err
	}
	env := &Env{
		RunDir: state.Dir(c.String("run-dir")), Log: log, Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Args: c.Args().Slice(), program: p, verb: v.Name, cli: c,
	}
	return v.Run(c.Context, env)
}
