// Package stage reads stage files: what one program of the pipeline needs, makes and is run like.
// A stage file is /usr/lib/towpath/stages.d/NAME.toml; a file of the same name in
// /etc/towpath/stages.d replaces it, an empty one (or a link to /dev/null) masks it.
package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Mode is how long the stage's process lives.
type Mode string

// The modes.
const (
	Daemon  Mode = "daemon"  // runs until it is stopped
	Oneshot Mode = "oneshot" // runs, does its step and ends
)

// OnChange is what the supervisor does when the content of an input changed since the stage was run.
type OnChange string

// What can follow a change.
const (
	Nothing OnChange = "none"    // the program sees to it itself, or need not
	Rerun   OnChange = "rerun"   // run the oneshot again, after the run that is on
	Restart OnChange = "restart" // stop the process and start it again
	Signal  OnChange = "signal"  // send the stage's signal
)

// Readiness is how the supervisor learns that the outputs stand.
type Readiness string

// The kinds of readiness.
const (
	Notify Readiness = "notify" // the process sends READY=1 to $NOTIFY_SOCKET
	Exit   Readiness = "exit"   // a oneshot ended with 0
	Start  Readiness = "start"  // it was started: for a daemon that says nothing
)

// RestartPolicy is when a process that ended by itself is started again, with a growing delay.
type RestartPolicy string

// The policies.
const (
	Always    RestartPolicy = "always"
	OnFailure RestartPolicy = "on-failure"
	Never     RestartPolicy = "never"
)

// Stage is a stage file, checked, with variables expanded and defaults filled in. Files are below
// the run directory unless absolute; one that ends in a slash is a directory.
type Stage struct {
	Name    string
	File    string // where it was read
	Summary string
	Program []string // that has towpath's verbs plan, apply, watch and down; empty: another's
	Adopt   []string // that has the verbs plan and apply and notes what an earlier network left running; empty: none
	Command []string
	Down    []string // removes what the stage made; empty: nothing to remove
	Env     map[string]string

	Inputs   []string // must exist; a change of content counts
	Gates    []string // must exist; only that counts
	Optional []string // need not exist; a change of content counts; orders nothing
	Outputs  []string // written always
	Maybe    []string // outputs that are written in some configurations only

	Mode     Mode
	OnChange OnChange
	Signal   syscall.Signal
	Ready    Readiness
	Restart  RestartPolicy

	BackoffInitial time.Duration
	BackoffCap     time.Duration
	StartTimeout   time.Duration // until readiness, for a oneshot until its end; 0: none
	StopTimeout    time.Duration // between TERM and KILL
}

// Required is every file that must exist before the stage is run.
func (s *Stage) Required() []string { return append(append([]string{}, s.Inputs...), s.Gates...) }

// Watched is every file whose content counts.
func (s *Stage) Watched() []string { return append(append([]string{}, s.Inputs...), s.Optional...) }

// Makes is every file that the stage writes or may write.
func (s *Stage) Makes() []string { return append(append([]string{}, s.Outputs...), s.Maybe...) }

// Definition is a digest of everything that decides how the stage is run, not of where it was read.
func (s *Stage) Definition() string {
	t := *s
	t.File, t.Summary = "", ""
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings, numbers and a map of strings
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Overlap says whether two names mean a common file: the same one, or one inside the other's
// directory.
func Overlap(a, b string) bool {
	return a == b || inside(a, b) || inside(b, a)
}

func inside(dir, name string) bool {
	return strings.HasSuffix(dir, "/") && strings.HasPrefix(name, dir)
}

// clean is filepath.Clean that keeps the slash of a directory.
func clean(name string) string {
	c := filepath.Clean(name)
	if strings.HasSuffix(name, "/") && c != "/" {
		c += "/"
	}
	return c
}

// Path is where a file of a stage is.
func Path(runDir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(runDir, name)
}
