package stage

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
)

var noVariables Lookup = func(string) (string, bool) { return "", false }

func TestParseFillsInDefaults(t *testing.T) {
	got, err := Parse("d/a.toml", []byte(`command = ["a", "watch"]`), noVariables)
	if err != nil {
		t.Fatal(err)
	}
	want := &Stage{
		Name: "a", File: "d/a.toml", Command: []string{"a", "watch"}, Mode: Daemon, OnChange: Restart, Ready: Notify,
		Restart: Always, Signal: syscall.SIGHUP, BackoffInitial: 100 * time.Millisecond, BackoffCap: 30 * time.Second,
		StartTimeout: time.Minute, StopTimeout: 10 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got, err = Parse("a.toml", []byte("command = [\"a\"]\nmode = \"oneshot\""), noVariables)
	if err != nil {
		t.Fatal(err)
	}
	if got.OnChange != Rerun || got.Ready != Exit || got.Restart != OnFailure {
		t.Errorf("oneshot: on-change %s, ready %s, restart %s", got.OnChange, got.Ready, got.Restart)
	}
}

// TestParseProgram: command and down follow from a program of towpath's, where they are not given.
func TestParseProgram(t *testing.T) {
	for _, c := range []struct {
		text          string
		command, down []string
	}{
		{`program = ["a", "b"]`, []string{"a", "b", "watch"}, []string{"a", "b", "down"}},
		{"program = [\"a\"]\nmode = \"oneshot\"", []string{"a", "apply"}, []string{"a", "down"}},
		{"program = [\"a\"]\ncommand = [\"c\"]\ndown = [\"d\"]", []string{"c"}, []string{"d"}},
	} {
		got, err := Parse("a.toml", []byte(c.text), noVariables)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Command, c.command) || !slices.Equal(got.Down, c.down) {
			t.Errorf("%s: command %q, down %q", c.text, got.Command, got.Down)
		}
	}
}

func TestParseReadsEveryKey(t *testing.T) {
	text := `
summary = "all"
command = ["${PROGRAM}", "--at=${WHERE:-/x}", "$$1"]
down = ["b"]
inputs = ["./a.json", "${DIR:-d}/"]
gates = ["g.json"]
optional = ["/etc/o.json"]
outputs = ["o/"]
maybe = ["m.json"]
mode = "daemon"
on-change = "signal"
signal = "USR1"
ready = "start"
restart = "never"
backoff-initial = "1s"
backoff-cap = "2s"
start-timeout = "0s"
stop-timeout = "3s"
[env]
A = "${WHERE:-there}"
`
	got, err := Parse("all.toml", []byte(text), func(name string) (string, bool) { return "prog", name == "PROGRAM" })
	if err != nil {
		t.Fatal(err)
	}
	want := &Stage{
		Name: "all", File: "all.toml", Summary: "all", Command: []string{"prog", "--at=/x", "$1"}, Down: []string{"b"},
		Env: map[string]string{"A": "there"}, Inputs: []string{"a.json", "d/"}, Gates: []string{"g.json"}, Optional: []string{"/etc/o.json"},
		Outputs: []string{"o/"}, Maybe: []string{"m.json"}, Mode: Daemon, OnChange: Signal, Signal: syscall.SIGUSR1, Ready: Start,
		Restart: Never, BackoffInitial: time.Second, BackoffCap: 2 * time.Second, StopTimeout: 3 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestParseWithServer: where a variable says that something comes from the API server or from etcd, there is no file to wait for.
func TestParseWithServer(t *testing.T) {
	const text = `command = ["a"]
inputs = ["${CONF:-/etc/conf.json}", "a.json"]
gates = ["${OBJECTS:-/etc/objects}"]
`
	for _, conf := range []string{"configmap:ns/name", "etcd"} {
		values := map[string]string{"CONF": conf, "OBJECTS": "kube"}
		got, err := Parse("a.toml", []byte(text), func(name string) (string, bool) { v, ok := values[name]; return v, ok })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a.json"}, got.Required()); diff != "" {
			t.Error(conf, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const ok = "command = [\"a\"]\n"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "# only a comment", `read "x.toml": key "command": missing`},
		{"syntax", "command = [", `read "x.toml": line 1:`},
		{"duplicate key", ok + ok, `line 2`},
		{"unknown key", ok + "\nimputs = []\n", `read "x.toml": key "imputs": line 3: unknown key; did you mean "inputs"?`},
		{"far key", ok + "colour = 1\n", `key "colour": line 2: unknown key; the keys are summary, program, adopt, command`},
		{"underscore", ok + "on_change = \"none\"\n", `did you mean "on-change"?`},
		{"case", "Command = [\"a\"]\n", `key "Command": line 1: unknown key; did you mean "command"?`},
		{"table", ok + "[inputs]\na = 1\n", `key "inputs": line 2: a table where a list of strings belongs`},
		{"string for list", "command = \"a\"\n", `key "command": line 1: a string where a list of strings belongs`},
		{"number in list", "command = [1]\n", `key "command": line 1: a number in a list of strings`},
		{"empty command", "command = []\n", `key "command": line 1: names no program`},
		{"no program", "command = [\"\"]\n", `key "command": line 1: names no program`},
		{"mode", ok + "mode = \"deamon\"\n", `key "mode": line 2: "deamon": use daemon, oneshot`},
		{"mode's type", ok + "mode = true\n", `key "mode": line 2: true or false where a string belongs`},
		{"oneshot signal", ok + "mode = \"oneshot\"\non-change = \"signal\"\n", `key "on-change": line 3: a oneshot is not there to be signalled`},
		{"daemon rerun", ok + "on-change = \"rerun\"\n", `key "on-change": line 2: a daemon is not run again`},
		{"oneshot notify", ok + "mode = \"oneshot\"\nready = \"notify\"\n", `key "ready": line 3:`},
		{"daemon exit", ok + "ready = \"exit\"\n", `key "ready": line 2:`},
		{"oneshot always", ok + "mode = \"oneshot\"\nrestart = \"always\"\n", `key "restart": line 3:`},
		{"signal", ok + "on-change = \"signal\"\nsignal = \"KILL\"\n", `key "signal": line 3: "KILL"`},
		{"signal for nothing", ok + "signal = \"USR1\"\n", `key "signal": line 2: on-change is "restart"`},
		{"duration", ok + "stop-timeout = \"5\"\n", `key "stop-timeout": line 2: "5" is no duration`},
		{"duration's type", ok + "stop-timeout = 5\n", `key "stop-timeout": line 2: a number where a string belongs`},
		{"negative", ok + "start-timeout = \"-1s\"\n", `key "start-timeout": line 2: "-1s" is no duration`},
		{"no stop-timeout", ok + "stop-timeout = \"0s\"\n", `key "stop-timeout": line 2: must be more than 0s`},
		{"back-off", ok + "backoff-initial = \"2s\"\nbackoff-cap = \"1s\"\n", `key "backoff-cap": line 3: 1s is less than`},
		{"no back-off", ok + "backoff-initial = \"0s\"\n", `key "backoff-initial": line 2: must be more than 0s`},
		{"outside", ok + "inputs = [\"../x\"]\n", `key "inputs": line 2: "../x" is no file below the run directory`},
		{"run directory", ok + "inputs = [\"./\"]\n", `key "inputs": line 2:`},
		{"no name", ok + "outputs = [\"\"]\n", `key "outputs": line 2: "" is no file`},
		{"twice", ok + "inputs = [\"a\"]\noptional = [\"./a\"]\n", `key "optional": line 3: "a" is in inputs already`},
		{"env", ok + "[env]\nA = 1\n", `key "env.A": line 3: a number where a string belongs`},
		{"env name", ok + "[env]\n\"A B\" = \"\"\n", `key "env.A B": line 3: no name of a variable`},
		{"env list", ok + "env = []\n", `key "env": line 2: a list where a table belongs`},
		{"unset", "command = [\"${NONE}\"]\n", `key "command": line 1: variable "NONE" is not set`},
		{"zero byte", "command = [\"a\\u0000\"]\n", `key "command": line 1: a zero byte`},
		{"huge", ok + "# " + strings.Repeat("x", MaxSize), "larger than 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse("x.toml", []byte(c.text), noVariables)
			if err == nil {
				t.Fatalf("accepted: %+v", s)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not have %q", err, c.want)
			}
			if exit.Of(err) != exit.BadConfig {
				t.Errorf("exit status %d", exit.Of(err))
			}
		})
	}
}

func TestParseNamesEveryFault(t *testing.T) {
	_, err := Parse("x.toml", []byte("comand = [\"a\"]\nmode = 1\noutputs = [\"/\"]\n"), noVariables)
	if err == nil {
		t.Fatal("accepted")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 3 {
		t.Errorf("%d faults:\n%v", n, err)
	}
}

func TestParseRefusesNames(t *testing.T) {
	for _, name := range []string{"A", "-a", "a b", "ä", "", "a.b", strings.Repeat("a", 64)} {
		if _, err := Parse("d/"+name+".toml", []byte(`command = ["a"]`), noVariables); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
}

func TestDefinitionIsOfWhatRuns(t *testing.T) {
	of := func(path, text string) string {
		s, err := Parse(path, []byte(text), noVariables)
		if err != nil {
			t.Fatal(err)
		}
		return s.Definition()
	}
	base := of("x/a.toml", `command = ["a"]`)
	if got := of("y/a.toml", "summary = \"s\"\n# other words\ncommand = [\"a\"]\nmode = \"daemon\""); got != base {
		t.Error("place, summary, comments and written-out defaults make another definition")
	}
	for _, more := range []string{`stop-timeout = "1s"`, `inputs = ["a"]`, `env = {A = "1"}`, `down = ["a"]`} {
		if of("x/a.toml", "command = [\"a\"]\n"+more) == base {
			t.Errorf("%s makes no other definition", more)
		}
	}
}

func TestExpand(t *testing.T) {
	look := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "EMPTY": ""}[name]
		return v, ok
	}
	for _, c := range []struct{ in, want, err string }{
		{"plain", "plain", ""},
		{"${A}${A}x", "11x", ""},
		{"$$A", "$A", ""},
		{"$$${A}", "$1", ""},
		{"${EMPTY}", "", ""},
		{"${EMPTY:-d}", "d", ""},
		{"${NONE:-}", "", ""},
		{"${NONE:-a:-b}", "a:-b", ""},
		{"${NONE}", "", `variable "NONE" is not set`},
		{"$A", "", "lone"},
		{"a$", "", "lone"},
		{"${A", "", "no end"},
		{"${}", "", "no name of a variable"},
		{"${1}", "", "no name of a variable"},
		{"${A-b}", "", "no name of a variable"},
	} {
		got, err := Expand(c.in, look)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("Expand(%q) = %q, %v; want %q, %q", c.in, got, err, c.want, c.err)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"peers/", "peers/.synced", true},
		{"peers/.synced", "peers/", true},
		{"peers/", "peers/", true},
		{"peers", "peers/.synced", false},
		{"peers/", "peersx", false},
		{"a", "b", false},
	} {
		if got := Overlap(c.a, c.b); got != c.want {
			t.Errorf("Overlap(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("command = [\"a\", \"${A:-b}\"]\ninputs = [\"a/\"]\n[env]\nA = \"1\"\n")
	f.Add("imputs = 1\ncommand = \"\"\nbackoff-cap = \"1s\"")
	f.Add("a.b.c = 1\n[[command]]\n")
	f.Add("\"\" = 1\n\"a.\" = 2\ncommand = [[\"a\"]]\nmode = 1979-05-27\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x.toml", []byte(text), noVariables)
		if err != nil {
			var coded interface{ ExitCode() exit.Code }
			if !errors.As(err, &coded) || coded.ExitCode() != exit.BadConfig || !strings.Contains(err.Error(), "x.toml") {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if len(s.Command) == 0 || s.Command[0] == "" || s.BackoffInitial <= 0 || s.StopTimeout <= 0 {
			t.Errorf("accepted %+v", s)
		}
		for _, name := range append(s.Required(), s.Makes()...) {
			if strings.HasPrefix(Path("/run/x", name), "/run/x/..") || Path("/run/x", name) == "/run/x" {
				t.Errorf("%q leaves the run directory", name)
			}
		}
	})
}
