package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/keep"
	"github.com/towpath/towpath/lib/lock"
	"github.com/towpath/towpath/lib/logs"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/version"
	"github.com/towpath/towpath/lib/watch"
)

// The command line is read with package flag, in the manner of lib/tool's programs: the plugin must
// not link the library that those use, since it is started for every pod.

const usageText = `usage: cni-bridge conf [plan|apply|watch|down] [flags]
       cni-bridge adopt [plan|apply] [flags]
       cni-bridge install [plan|apply|down] --from DIR [--to DIR] [--replace]

conf writes subnet.env and the CNI configuration for this node; adopt makes the endpoint files of pods that run already and
have none; install copies the CNI plugins of a directory to
the runtime's; without a verb, apply. As a CNI plugin it is run by the container runtime, with CNI_COMMAND in
the environment.

`

// options are the flags of conf; each is also TOWPATH_NAME in the environment.
type options struct {
	runDir, cniConf, conflist, subnetEnv, binDir, cacheDir, policy, logLevel, logFormat string
	takeOver, handBack, forget, down, rehearse                                          bool
}

func (o *options) flags(verb string) *flag.FlagSet {
	f := flag.NewFlagSet("cni-bridge conf", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	text := func(p *string, name, value, usage string) { textFlag(f, p, name, value, usage) }
	text(&o.runDir, "run-dir", state.DefaultRunDir, "`directory` of the files between the programs")
	text(&o.cniConf, "cni-conf", "/etc/towpath/cni-conf.json", "the administrator's conflist; where the `file` is missing, flannel's default")
	text(&o.conflist, "conflist", "/etc/cni/net.d/10-towpath.conflist", "the CNI configuration to write, a `file`")
	text(&o.subnetEnv, "subnet-env", "", "a second `file` for subnet.env, such as /run/flannel/subnet.env")
	text(&o.binDir, "cni-bin-dir", "/opt/cni/bin", "`directory` of the CNI plugins, to warn of missing ones")
	text(&o.cacheDir, "cni-cache-dir", "/var/lib/cni", "`directory` in which the runtime keeps the results of plugins")
	switchFlag(f, &o.takeOver, "take-over", "move an earlier network's CNI configuration aside, once ours stands")
	switchFlag(f, &o.handBack, "hand-back", "with down: put back the configuration that was moved aside, and leave what flannel needs")
	f.BoolVar(&o.forget, "forget-earlier", false, "remove the configuration that was moved aside: there is no way back any more")
	text(&o.policy, "policy", "auto", "whether pods wait for their NetworkPolicies: `on`, off, or auto, which is on where policy.loaded.json exists")
	text(&o.logLevel, "log-level", "info", "debug, info, warn or error, a `level`")
	text(&o.logFormat, "log-format", "text", "`text` or json")
	if verb == "plan" {
		f.BoolVar(&o.down, "down", false, "print what down would remove")
		f.BoolVar(&o.rehearse, "rehearse", false, "write the planned files below --run-dir, which is a copy: the next program plans from them")
	}
	return f
}

// textFlag defines a flag that is also TOWPATH_NAME in the environment.
func textFlag(f *flag.FlagSet, p *string, name, value, usage string) {
	env := "TOWPATH_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if v, ok := os.LookupEnv(env); ok {
		value = v
	}
	f.StringVar(p, name, value, usage+" [$"+env+"]")
}

// switchFlag defines a flag that is on or off, also by TOWPATH_NAME in the environment.
func switchFlag(f *flag.FlagSet, p *bool, name, usage string) {
	env := "TOWPATH_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	value, err := strconv.ParseBool(os.Getenv(env))
	f.BoolVar(p, name, err == nil && value, usage+" [$"+env+"]")
}

// install reads the command line of install and does it.
func install(ctx context.Context, verb string, args []string, stdout io.Writer) error {
	switch verb {
	case "plan", "apply", "down":
	default:
		return usage("unknown verb %q: use plan, apply, down", verb)
	}
	var i installation
	f := i.flags()
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		help(stdout)
		return nil
	} else if err != nil {
		return usage("%w", err)
	}
	switch {
	case f.NArg() > 0:
		return usage("install %s takes no argument %q", verb, f.Arg(0))
	case i.from == "" && verb != "down":
		return usage("install %s: --from DIR is missing", verb)
	}
	return i.run(ctx, verb, func(op plan.Op) { fmt.Fprintln(stdout, op) })
}

func (i *installation) flags() *flag.FlagSet {
	f := flag.NewFlagSet("cni-bridge install", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&i.from, "from", "", "`directory` of the plugins to install, cni-bridge among them")
	textFlag(f, &i.to, "cni-bin-dir", "/opt/cni/bin", "`directory` of the runtime's CNI plugins")
	f.StringVar(&i.to, "to", i.to, "the same `directory`, in one word")
	f.BoolVar(&i.replace, "replace", false, "replace also plugins that are there and not towpath's")
	return f
}

// command runs the program on its arguments and returns the exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	if err == nil {
		return int(exit.OK)
	}
	keep.Status(state.Failing+"%v", err) // so that towpath status can say it
	return logs.Fail(stderr, "cni-bridge", err)
}

func usage(format string, args ...any) error {
	return exit.WithHint(exit.Errorf(exit.Usage, format, args...), "see cni-bridge --help")
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usage("a verb is missing: conf, adopt or install (CNI_COMMAND is not set, so this is no call of a container runtime)")
	}
	switch args[0] {
	case "--help", "-help", "-h":
		help(stdout)
		return nil
	case "--version", "-version", "-v":
		fmt.Fprintln(stdout, "cni-bridge version", version.Version)
		return nil
	case "conf", "adopt", "install":
	default:
		return usage("unknown verb %q: use conf, adopt or install", args[0])
	}
	verb, rest := "apply", args[1:]
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		verb, rest = rest[0], rest[1:]
	}
	if args[0] == "install" {
		return install(ctx, verb, rest, stdout)
	}
	verbs := []string{"plan", "apply", "watch", "down"}
	if args[0] == "adopt" {
		verbs = verbs[:2]
	}
	if !slices.Contains(verbs, verb) {
		return usage("unknown verb %q: use %s", verb, strings.Join(verbs, ", "))
	}
	var o options
	f := o.flags(verb)
	if err := f.Parse(rest); errors.Is(err, flag.ErrHelp) {
		help(stdout)
		return nil
	} else if err != nil {
		return usage("%w", err)
	}
	if f.NArg() > 0 {
		return usage("%s %s takes no argument %q", args[0], verb, f.Arg(0))
	}
	if !slices.Contains([]string{"auto", "on", "off"}, o.policy) {
		return usage("--policy %q: use auto, on or off", o.policy)
	}
	log, err := logs.New(stderr, "cni-bridge", o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	c := &conf{options: o, dir: state.Dir(o.runDir), log: log}
	if args[0] == "adopt" {
		return c.runAdopt(ctx, verb, stdout)
	}
	return c.run(ctx, verb, stdout)
}

func help(w io.Writer) {
	var o options
	f := o.flags("plan")
	fmt.Fprint(w, usageText, "conf:\n")
	f.SetOutput(w)
	f.PrintDefaults()
	var i installation
	f = i.flags()
	fmt.Fprintln(w, "install:")
	f.SetOutput(w)
	f.PrintDefaults()
}

// run does one verb of conf, as lib/tool's programs do it.
func (c *conf) run(ctx context.Context, verb string, stdout io.Writer) error {
	show := func(op plan.Op) { fmt.Fprintln(stdout, op) }
	if verb == "plan" {
		list := c.Plan
		if c.down {
			list = c.Down
		}
		return c.show(ctx, list, show)
	}
	l, err := lock.Try(c.dir.Lock("cni-bridge"), "cni-bridge conf "+verb)
	var held *lock.HeldError
	if errors.As(err, &held) {
		return exit.WithHint(err, "cni-bridge conf is at work already; stop it first, or use plan, which takes no lock")
	}
	if err != nil {
		return err
	}
	defer l.Release() //nolint:errcheck // the kernel releases it in any case
	switch verb {
	case "down":
		return keep.Settle(ctx, c.Down, show)
	case "watch":
		files, err := watch.New(ctx, watch.Options{Files: c.inputs(), Period: keep.Period})
		if err != nil {
			return err
		}
		return keep.Loop(ctx, c.Plan, c.log, keep.Ready, c.heeded(ctx, files), nil, nil)
	}
	if err := keep.Settle(ctx, c.Plan, show); err != nil {
		return err
	}
	if c.moved {
		if err := c.follow(ctx, show); err != nil {
			return err
		}
	}
	keep.Ready()
	return nil
}
