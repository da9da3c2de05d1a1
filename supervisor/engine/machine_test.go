package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/towpath/towpath/supervisor/stage"
)

// policy reads "daemon", "oneshot restart=never" and so on.
func policy(t *testing.T, words string) *stage.Stage {
	t.Helper()
	s := &stage.Stage{Mode: stage.Daemon, OnChange: stage.Nothing, Ready: stage.Notify, Restart: stage.Always}
	for word := range strings.FieldsSeq(words) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "daemon":
		case "oneshot":
			s.Mode, s.OnChange, s.Ready, s.Restart = stage.Oneshot, stage.Rerun, stage.Exit, stage.OnFailure
		case "on-change":
			s.OnChange = stage.OnChange(value)
		case "ready":
			s.Ready = stage.Readiness(value)
		case "restart":
			s.Restart = stage.RestartPolicy(value)
		default:
			t.Fatalf("policy %q", word)
		}
	}
	return s
}

func machine(t *testing.T, text string) Machine {
	t.Helper()
	m := Machine{Open: true}
	for word := range strings.FieldsSeq(text) {
		switch word {
		case "closed":
			m.Open = false
		case "then-retry":
			m.Then = Retry
		default:
			found := false
			for i, name := range phases {
				if name == word {
					m.Phase, found = Phase(i), true
				}
			}
			if !found {
				t.Fatalf("machine %q", text)
			}
		}
	}
	return m
}

func event(t *testing.T, text string) Event {
	t.Helper()
	var e Event
	for i, word := range strings.Fields(text) {
		found := false
		for k, name := range kinds {
			if i == 0 && name == word {
				e.Kind, found = Kind(k), true
			}
		}
		for o, name := range outcomes {
			if i == 1 && name == word {
				e.Outcome, found = Outcome(o), true
			}
		}
		if i == 2 && word == "changed" {
			e.Changed, found = true, true
		}
		if !found {
			t.Fatalf("event %q", text)
		}
	}
	return e
}

func (m Machine) String() string {
	s := m.Phase.String()
	if !m.Open {
		s += " closed"
	}
	if m.Then == Retry {
		s += " then-retry"
	}
	return s
}

// TestNext is the whole of supervision as a table.
func TestNext(t *testing.T) {
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		f := strings.Split(line, "|")
		if len(f) != 5 {
			t.Fatalf("line %q", line)
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		t.Run(f[0]+"/"+f[1]+"/"+f[2], func(t *testing.T) {
			m, do := Next(policy(t, f[0]), machine(t, f[1]), event(t, f[2]))
			var words []string
			for _, a := range do {
				words = append(words, a.String())
			}
			if m.String() != f[3] || strings.Join(words, " ") != f[4] {
				t.Errorf("%s, do %q; want %s, do %q", m, words, f[3], f[4])
			}
		})
	}
}

// policy | state | event | next state | actions
const table = `
daemon                    | waiting closed    | open                    | starting          | start
daemon ready=start        | waiting closed    | open                    | ready             | start
oneshot                   | waiting closed    | open                    | starting          | start
daemon                    | waiting           | close                   | waiting closed    |
daemon                    | starting          | notified                | ready             |
daemon                    | starting          | timeout                 | stopping then-retry | term
daemon                    | starting          | close                   | stopping closed   | term
daemon                    | starting          | replace                 | stopping          | reset term
daemon on-change=restart  | starting          | change                  | stopping          | term
daemon on-change=signal   | starting          | change                  | starting          |
daemon                    | starting          | change                  | starting          |
daemon                    | starting          | exited failure          | backoff           |
daemon                    | starting          | exited failure changed  | backoff           |
daemon                    | starting          | exited await            | held              |
daemon                    | starting          | exited await changed    | starting          | start
daemon                    | starting          | exited success          | backoff           |
daemon restart=on-failure | starting          | exited success          | done              | reset
daemon restart=on-failure | starting          | exited failure          | backoff           |
daemon restart=never      | starting          | exited failure          | held              |
daemon restart=never      | starting          | exited failure changed  | starting          | start
daemon                    | starting closed   | exited failure          | waiting closed    |
daemon                    | ready             | timeout                 | ready             | reset
daemon                    | ready             | close                   | stopping closed   | term
daemon                    | ready             | replace                 | stopping          | reset term
daemon                    | ready             | change                  | ready             |
daemon on-change=restart  | ready             | change                  | stopping          | term
daemon on-change=signal   | ready             | change                  | ready             | signal
daemon                    | ready             | exited failure          | backoff           |
daemon                    | ready             | exited unknown          | backoff           |
daemon                    | ready             | exited await            | held              |
daemon restart=never      | ready             | exited success          | done              | reset
daemon restart=never on-change=restart | ready | exited success changed | starting          | reset start
oneshot                   | starting          | exited success          | done              | reset
oneshot                   | starting          | exited success changed  | starting          | reset start
oneshot on-change=none    | starting          | exited success changed  | done              | reset
oneshot                   | starting          | exited failure          | backoff           |
oneshot restart=never     | starting          | exited failure          | held              |
oneshot                   | starting          | exited await            | held              |
oneshot                   | starting          | exited await changed    | starting          | start
oneshot                   | starting          | exited unknown          | starting          | start
oneshot                   | starting          | change                  | starting          |
oneshot on-change=restart | starting          | change                  | stopping          | term
oneshot                   | starting          | timeout                 | stopping then-retry | term
oneshot                   | starting          | notified                | starting          |
oneshot                   | done              | change                  | starting          | start
oneshot on-change=none    | done              | change                  | done              |
oneshot                   | done              | close                   | waiting closed    |
oneshot                   | done              | replace                 | starting          | reset start
daemon                    | held              | change                  | starting          | start
daemon                    | held              | replace                 | starting          | reset start
daemon                    | held              | close                   | waiting closed    |
daemon                    | backoff           | timeout                 | starting          | start
daemon                    | backoff           | change                  | starting          | start
daemon                    | backoff           | replace                 | starting          | reset start
daemon                    | backoff           | close                   | waiting closed    |
daemon                    | stopping          | timeout                 | stopping          | kill
daemon                    | stopping then-retry | timeout               | stopping then-retry | kill
daemon                    | stopping          | close                   | stopping closed   |
daemon                    | stopping closed   | open                    | stopping          |
daemon                    | stopping then-retry | replace               | stopping          |
daemon                    | stopping          | exited success          | starting          | start
daemon                    | stopping          | exited await            | starting          | start
daemon                    | stopping closed   | exited failure          | waiting closed    |
daemon                    | stopping then-retry | exited failure        | backoff           |
daemon                    | stopping then-retry | exited failure changed | starting         | start
oneshot                   | stopping          | exited failure          | starting          | start
`

// TestNextNeverStartsTwice goes through every policy, state and event: a process is started only
// where none is, none is left behind, and nothing that is closed is started.
func TestNextNeverStartsTwice(t *testing.T) {
	policies := []string{
		"daemon", "daemon ready=start", "daemon on-change=restart", "daemon on-change=signal", "daemon restart=never",
		"daemon restart=on-failure", "oneshot", "oneshot on-change=none", "oneshot on-change=restart", "oneshot restart=never",
	}
	for _, words := range policies {
		s := policy(t, words)
		for phase := range Phase(len(phases)) {
			for _, open := range []bool{true, false} {
				for _, then := range []Then{Again, Retry} {
					for kind := range Kind(len(kinds)) {
						for outcome := range Outcome(len(outcomes)) {
							for _, changed := range []bool{true, false} {
								if kind == Exited && !phase.Live() {
									continue // there is no process
								}
								m := Machine{Phase: phase, Open: open, Then: then}
								e := Event{Kind: kind, Outcome: outcome, Changed: changed}
								next, do := Next(s, m, e)
								where := fmt.Sprintf("%s: %s on %s %s %v", words, m, e.Kind, e.Outcome, e.Changed)
								live := phase.Live() && kind != Exited
								for _, a := range do {
									switch {
									case a == Start && (live || !next.Open):
										t.Errorf("%s: starts", where)
									case (a == Term || a == Kill || a == Signal) && !live:
										t.Errorf("%s: signals a process that is not there", where)
									}
									live = live || a == Start
								}
								if live != next.Phase.Live() {
									t.Errorf("%s: in %s with process %v", where, next, live)
								}
								if kind == Close && live && next.Phase != Stopping {
									t.Errorf("%s: runs on", where)
								}
							}
						}
					}
				}
			}
		}
	}
}
