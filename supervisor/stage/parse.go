package stage

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/typo"
)

// MaxSize is the largest stage file, bytes.
const MaxSize = 64 << 10

var stageName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CheckName says what is wrong with the name of a stage.
func CheckName(name string) error {
	if !stageName.MatchString(name) {
		return fmt.Errorf("%q is no stage name (lower-case letters, digits and '-', at most 63)", name)
	}
	return nil
}

// parser collects every fault of one file, so that they can be mended in one go.
type parser struct {
	path   string
	data   []byte
	values map[string]any
	look   Lookup
	errs   []error
}

// Parse reads the text of a stage file. Each error is a *state.Error (exit status 78) that names the
// file, the key and, where it is in the file, the line.
func Parse(path string, data []byte, look Lookup) (*Stage, error) {
	name := strings.TrimSuffix(filepath.Base(path), Suffix)
	p := &parser{path: path, data: data, values: map[string]any{}, look: look}
	if err := CheckName(name); err != nil {
		return nil, &state.Error{Path: path, Err: err, Code: exit.BadConfig}
	}
	if len(data) > MaxSize {
		return nil, &state.Error{Path: path, Err: fmt.Errorf("larger than %d bytes", MaxSize), Code: exit.BadConfig}
	}
	if _, err := toml.Decode(string(data), &p.values); err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			err = fmt.Errorf("line %d: %s", syntax.Position.Line, syntax.Message)
		}
		return nil, &state.Error{Path: path, Err: err, Code: exit.BadConfig}
	}
	s := &Stage{Name: name, File: path}
	p.read(s)
	if len(p.errs) == 0 {
		p.judge(s)
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return s, nil
}

var keys = []string{
	"summary", "program", "adopt", "command", "down", "env", "inputs", "gates", "optional", "outputs", "maybe", "mode", "on-change", "signal",
	"ready", "restart", "backoff-initial", "backoff-cap", "start-timeout", "stop-timeout",
}

func (p *parser) read(s *Stage) {
	for _, key := range slices.Sorted(maps.Keys(p.values)) {
		if slices.Contains(keys, key) {
			continue
		}
		if near := typo.Nearest(key, keys); near != "" {
			p.fault(key, "unknown key; did you mean %q?", near)
		} else {
			p.fault(key, "unknown key; the keys are %s", strings.Join(keys, ", "))
		}
	}
	s.Summary = p.text("summary", "")
	s.Program = p.words("program")
	s.Adopt = p.words("adopt")
	s.Command = p.words("command")
	s.Down = p.words("down")
	s.Env = p.table("env")
	s.Inputs = p.files("inputs")
	s.Gates = p.files("gates")
	s.Optional = p.files("optional")
	s.Outputs = p.files("outputs")
	s.Maybe = p.files("maybe")
	s.Mode = choice(p, "mode", Daemon, Daemon, Oneshot)
	oneshot := s.Mode == Oneshot
	if len(s.Program) > 0 && len(s.Command) == 0 {
		s.Command = append(slices.Clip(s.Program), pick(oneshot, "apply", "watch"))
	}
	if len(s.Program) > 0 && len(s.Down) == 0 {
		s.Down = append(slices.Clip(s.Program), "down")
	}
	s.OnChange = choice(p, "on-change", pick(oneshot, Rerun, Restart), Nothing, Rerun, Restart, Signal)
	s.Ready = choice(p, "ready", pick(oneshot, Exit, Notify), Notify, Exit, Start)
	s.Restart = choice(p, "restart", pick(oneshot, OnFailure, Always), Always, OnFailure, Never)
	s.Signal = p.signal("signal", syscall.SIGHUP)
	s.BackoffInitial = p.duration("backoff-initial", 100*time.Millisecond)
	s.BackoffCap = p.duration("backoff-cap", 30*time.Second)
	s.StartTimeout = p.duration("start-timeout", time.Minute)
	s.StopTimeout = p.duration("stop-timeout", 10*time.Second)
}

// judge refuses what fits the types and makes no sense.
func (p *parser) judge(s *Stage) {
	if len(s.Command) == 0 {
		p.fault("command", "missing, and so is program")
	}
	oneshot := s.Mode == Oneshot
	switch {
	case oneshot && s.OnChange == Signal:
		p.fault("on-change", "a oneshot is not there to be signalled: use rerun, restart or none")
	case !oneshot && s.OnChange == Rerun:
		p.fault("on-change", "a daemon is not run again while it runs: use restart, signal or none")
	}
	switch {
	case oneshot && s.Ready != Exit:
		p.fault("ready", "a oneshot is ready when it ends: use exit")
	case !oneshot && s.Ready == Exit:
		p.fault("ready", "a daemon does not end: use notify or start")
	}
	if oneshot && s.Restart == Always {
		p.fault("restart", "a oneshot that is done is not run again: use on-failure or never")
	}
	if _, given := p.values["signal"]; given && s.OnChange != Signal {
		p.fault("signal", "on-change is %q: the signal would never be sent", s.OnChange)
	}
	if s.BackoffInitial <= 0 {
		p.fault("backoff-initial", "must be more than 0s")
	}
	if s.BackoffCap < s.BackoffInitial {
		p.fault("backoff-cap", "%s is less than backoff-initial, %s", s.BackoffCap, s.BackoffInitial)
	}
	if s.StopTimeout <= 0 {
		p.fault("stop-timeout", "must be more than 0s")
	}
	seen := map[string]string{}
	for _, list := range []struct {
		key   string
		files []string
	}{{"inputs", s.Inputs}, {"gates", s.Gates}, {"optional", s.Optional}, {"outputs", s.Outputs}, {"maybe", s.Maybe}} {
		for _, f := range list.files {
			if in, twice := seen[f]; twice {
				p.fault(list.key, "%q is in %s already", f, in)
			}
			seen[f] = list.key
		}
	}
}

func (p *parser) fault(key, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if line := p.line(key); line > 0 {
		err = fmt.Errorf("line %d: %w", line, err)
	}
	p.errs = append(p.errs, &state.Error{Path: p.path, Key: key, Err: err, Code: exit.BadConfig})
}

// line is where a key is set, 0 when it is not found: the decoder does not say.
func (p *parser) line(key string) int {
	last := key[strings.LastIndexByte(key, '.')+1:]
	q := regexp.QuoteMeta(last)
	at := regexp.MustCompile(`(?m)^[ \t]*(\[+[ \t]*)?["']?` + q + `["']?[ \t]*[=\].]`).FindIndex(p.data)
	if at == nil {
		return 0
	}
	return 1 + bytes.Count(p.data[:at[0]], []byte("\n"))
}

func (p *parser) text(key, otherwise string) string {
	v, given := p.values[key]
	if !given {
		return otherwise
	}
	s, ok := v.(string)
	if !ok {
		p.fault(key, "%s where a string belongs", kind(v))
		return otherwise
	}
	return s
}

func (p *parser) list(key string) []string {
	v, given := p.values[key]
	if !given {
		return nil
	}
	values, ok := v.([]any)
	if !ok {
		p.fault(key, "%s where a list of strings belongs", kind(v))
	}
	var out []string
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			p.fault(key, "%s in a list of strings", kind(v))
			continue
		}
		if s = p.expand(key, s); strings.ContainsRune(s, 0) {
			p.fault(key, "a zero byte in %q", s)
			continue
		}
		out = append(out, s)
	}
	return out
}

func (p *parser) words(key string) []string {
	words := p.list(key)
	if _, given := p.values[key]; given && (len(words) == 0 || words[0] == "") {
		p.fault(key, "names no program")
	}
	return words
}

func (p *parser) files(key string) []string {
	var out []string
	for _, name := range p.list(key) {
		if state.FromServer(name) { // a variable says so; the program waits for the server itself
			continue
		}
		c := clean(name)
		if name == "" || c == "." || c == "./" || c == "/" || c == ".." || strings.HasPrefix(c, "../") {
			p.fault(key, "%q is no file below the run directory", name)
			continue
		}
		out = append(out, c)
	}
	return out
}

func (p *parser) table(key string) map[string]string {
	v, given := p.values[key]
	if !given {
		return nil
	}
	t, ok := v.(map[string]any)
	if !ok {
		p.fault(key, "%s where a table belongs", kind(v))
	}
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		s, ok := t[name].(string)
		switch {
		case !variable.MatchString(name):
			p.fault(key+"."+name, "no name of a variable")
		case !ok:
			p.fault(key+"."+name, "%s where a string belongs", kind(t[name]))
		default:
			if out[name] = p.expand(key+"."+name, s); strings.ContainsRune(out[name], 0) {
				p.fault(key+"."+name, "a zero byte")
			}
		}
	}
	return out
}

func (p *parser) expand(key, s string) string {
	out, err := Expand(s, p.look)
	if err != nil {
		p.fault(key, "%w", err)
	}
	return out
}

func (p *parser) duration(key string, otherwise time.Duration) time.Duration {
	s := p.text(key, otherwise.String())
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		p.fault(key, "%q is no duration: write it like \"500ms\" or \"1m\"", s)
	}
	return d
}

func (p *parser) signal(key string, otherwise syscall.Signal) syscall.Signal {
	s := p.text(key, "")
	if s == "" {
		return otherwise
	}
	n := unix.SignalNum("SIG" + strings.TrimPrefix(s, "SIG"))
	if n == 0 || n == unix.SIGKILL || n == unix.SIGSTOP {
		p.fault(key, "%q is no signal to tell a program of a change: use HUP or USR1, say", s)
	}
	return n
}

func choice[T ~string](p *parser, key string, otherwise T, allowed ...T) T {
	v := T(p.text(key, string(otherwise)))
	if !slices.Contains(allowed, v) {
		words := make([]string, len(allowed))
		for i, a := range allowed {
			words[i] = string(a)
		}
		p.fault(key, "%q: use %s", string(v), strings.Join(words, ", "))
		return otherwise
	}
	return v
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a time"
}
