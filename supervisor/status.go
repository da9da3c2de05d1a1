package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
	"github.com/towpath/towpath/lib/watch"
	"github.com/towpath/towpath/supervisor/engine"
	"github.com/towpath/towpath/supervisor/process"
	"github.com/towpath/towpath/supervisor/stage"
)

const noWait = time.Duration(0)

// report is what status prints as JSON.
type report struct {
	Supervisor struct {
		Running bool   `json:"running"`
		Holder  string `json:"holder,omitempty"` // process and verb that hold the run directory
	} `json:"supervisor"`
	OK     bool          `json:"ok"`
	Stages []stageReport `json:"stages"`
}

type stageReport struct {
	state.Stage
	Alive bool `json:"alive"` // the process runs
	OK    bool `json:"ok"`
}

func status(ctx context.Context, env *tool.Env) error {
	format := env.String("output")
	if format != "table" && format != "json" {
		return exit.Errorf(exit.Usage, "--output %q: use table or json", format)
	}
	r, err := settled(ctx, env)
	if err != nil {
		return err
	}
	if format == "json" {
		data, err := state.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := env.Stdout.Write(data); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
	} else {
		r.table(env.Stdout, time.Now())
	}
	return r.verdict()
}

// settled is the status, once all is well or --wait is over.
func settled(ctx context.Context, env *tool.Env) (report, error) {
	wait := env.Duration("wait")
	r, err := collect(env.RunDir)
	if err != nil || r.OK || wait <= 0 {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	changes, err := watch.New(ctx, watch.Options{
		Dirs: []string{env.RunDir.Supervisor()}, Files: []string{env.RunDir.Lock(programName)}, Period: time.Second,
	})
	if err != nil {
		return r, err
	}
	for {
		r, err := collect(env.RunDir)
		if err != nil || r.OK {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, nil
		case <-changes:
		}
	}
}

func collect(dir state.Dir) (report, error) {
	var r report
	r.Stages = []stageReport{}
	holder, held, err := lock.Held(dir.Lock(programName))
	if err != nil {
		return r, err
	}
	r.Supervisor.Holder = holder
	r.Supervisor.Running = held && strings.Contains(holder, supervising)
	entries, err := os.ReadDir(dir.Supervisor())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("read %q: %w", dir.Supervisor(), errors.Unwrap(err))
	}
	r.OK = r.Supervisor.Running && strings.HasSuffix(holder, supervising) // not "(starting)"
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || stage.CheckName(name) != nil {
			continue
		}
		s, err := state.Load[state.Stage](dir.Stage(name))
		if errors.Is(err, fs.ErrNotExist) { // the stage went away meanwhile
			continue
		}
		if err != nil {
			return r, err
		}
		id := process.Identity{PID: s.PID, Start: s.Started}
		one := stageReport{Stage: s, Alive: s.PID > 0 && id.Alive()}
		one.OK = engine.Fine(s) && (one.Alive || s.PID == 0)
		r.OK = r.OK && one.OK
		r.Stages = append(r.Stages, one)
	}
	r.OK = r.OK && len(r.Stages) > 0
	return r, nil
}

func (r report) verdict() error {
	if r.OK {
		return nil
	}
	if !r.Supervisor.Running {
		return exit.WithHint(exit.Errorf(exit.TryAgain, "no supervisor runs"), "start one with towpath supervise; what the programs made stays meanwhile")
	}
	var behind []string
	for _, s := range r.Stages {
		if !s.OK {
			behind = append(behind, s.Stage.Stage+" "+engine.How(s.Stage))
		}
	}
	if len(behind) == 0 {
		_, note, _ := strings.Cut(r.Supervisor.Holder, supervising)
		behind = []string{"the supervisor is not: " + strings.Trim(note, " ()")}
	}
	return exit.Errorf(exit.TryAgain, "not all is at work: %s", strings.Join(behind, ", "))
}

func (r report) table(w io.Writer, now time.Time) {
	if r.Supervisor.Running {
		pid, _, _ := strings.Cut(r.Supervisor.Holder, " ")
		_, note, _ := strings.Cut(r.Supervisor.Holder, supervising)
		fmt.Fprintf(w, "supervisor: running, process %s%s\n", pid, note)
	} else if r.Supervisor.Holder != "" {
		fmt.Fprintf(w, "supervisor: not running; the run directory is held by process %s\n", r.Supervisor.Holder)
	} else {
		fmt.Fprintln(w, "supervisor: not running")
	}
	if len(r.Stages) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STAGE\tSTATE\tPID\tRUNS\tSINCE\tDETAIL")
	for _, s := range r.Stages {
		pid := "-"
		if s.PID > 0 {
			pid = fmt.Sprint(s.PID)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Stage.Stage, s.State, pid, s.Runs, since(s.Since, now), s.detail(now))
	}
	t.Flush() //nolint:errcheck // a closed standard output is nobody's loss
}

func (s stageReport) detail(now time.Time) string {
	var parts []string
	if s.PID > 0 && !s.Alive {
		parts = append(parts, "the process is dead")
	}
	status, why := s.Status, ""
	if rest, failing := strings.CutPrefix(status, state.Failing); failing && s.PID == 0 { // its last words
		status, why = "", rest
	}
	if s.LastExit != "" && !slices.Contains([]string{"done", "ready", "waiting", "stopped"}, s.State) {
		text := "ended: " + s.LastExit
		if why != "" {
			text += ": " + why
		}
		parts = append(parts, text)
	}
	if len(s.WaitsFor) > 0 {
		text := "waits for " + strings.Join(s.WaitsFor, ", ")
		if s.Idle {
			text += " (not used here)"
		}
		parts = append(parts, text)
	}
	if len(s.LeftOut) > 0 {
		parts = append(parts, "without "+strings.Join(s.LeftOut, ", ")+" (nothing here writes it)")
	}
	if t, err := time.Parse(time.RFC3339, s.NextRetry); err == nil {
		parts = append(parts, "next try in "+max(t.Sub(now), 0).Round(time.Second).String())
	}
	if status != "" && !slices.Contains([]string{"done", "waiting", "stopped"}, s.State) {
		parts = append(parts, status)
	}
	return strings.Join(parts, "; ")
}

func since(text string, now time.Time) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "-"
	}
	d := max(now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
