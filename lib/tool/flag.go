package tool

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// Flag is a flag of a program. The type of Default decides what it takes: string, bool, int,
// time.Duration, or []string for a flag that may be given several times. Every flag can also be set
// by the variable TOWPATH_NAME_IN_UPPER_SNAKE; the command line wins.
type Flag struct {
	Name    string
	Usage   string
	Default any
}

// Env is the name of the flag's environment variable.
func (f Flag) Env() string {
	return "TOWPATH_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

func (f Flag) cli() cli.Flag {
	env := []string{f.Env()}
	switch def := f.Default.(type) {
	case string:
		return &cli.StringFlag{Name: f.Name, Usage: f.Usage, Value: def, EnvVars: env}
	case bool:
		return &cli.BoolFlag{Name: f.Name, Usage: f.Usage, Value: def, EnvVars: env}
	case int:
		return &cli.IntFlag{Name: f.Name, Usage: f.Usage, Value: def, EnvVars: env}
	case time.Duration:
		return &cli.DurationFlag{Name: f.Name, Usage: f.Usage, Value: def, EnvVars: env}
	case []string:
		return &cli.GenericFlag{Name: f.Name, Usage: f.Usage + " (may be repeated)", Value: &list{values: def, env: os.Getenv(f.Env()) != ""}, EnvVars: env}
	}
	panic(fmt.Sprintf("flag %s: no kind of flag has a default of type %T", f.Name, f.Default))
}

// list collects the values of a repeated flag without splitting them at commas, as cli.StringSlice
// would do to a regular expression. A variable holds several on lines of their own.
type list struct {
	values []string
	env    bool // the first Set is the variable's, over which the command line wins
	sets   int
}

func (l *list) Set(v string) error {
	if l.sets++; l.sets == 1 || l.sets == 2 && l.env {
		l.values = nil
	}
	for line := range strings.Lines(v) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			l.values = append(l.values, line)
		}
	}
	return nil
}

func (l *list) String() string { return strings.Join(l.values, " ") }
