package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/exit"
)

// defaults are what flanneld does without a flag, as far as towpath does something else. A TOWPATH_ variable that the manifest
// sets stays. The conflist that flannel's init container wrote is left alone: ours goes where no runtime looks.
var defaults = map[string]string{
	"TOWPATH_STORE":       "kube",
	"TOWPATH_NET_CONF":    "/etc/kube-flannel/net-conf.json",
	"TOWPATH_SUBNET_ENV":  "/run/flannel/subnet.env",
	"TOWPATH_IP_MASQ":     "false",
	"TOWPATH_CONFLIST":    "/run/towpath/conflist/10-towpath.conflist",
	"TOWPATH_CNI_BIN_DIR": "/usr/lib/towpath/cni",
	"TOWPATH_KEY_FILE":    "/run/flannel/wgkey",
}

// translation is flanneld's command line in towpath's words.
type translation struct {
	version  bool
	environ  []string // of the supervisor
	settings []string // those of it that are ours, sorted
	notes    []string // what the administrator is told
}

// translate reads flanneld's arguments and environment. What flanneld would do and towpath does not is an error.
func translate(args, environ []string) (translation, error) {
	var t translation
	env := map[string]string{}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	values, rest, err := parse(args, env)
	if err != nil {
		return t, err
	}
	if len(rest) > 0 {
		t.notes = append(t.notes, fmt.Sprintf("%q is no flag: it and what follows is not read, as flanneld does; a switch takes its value as in --ip-masq=true", rest[0]))
	}
	given := func(name string) bool { return len(values[name].given) > 0 }
	on := func(name string) bool { return values[name].String() == "true" }
	if t.version = on("version"); t.version {
		return t, nil
	}
	settings := map[string]string{}
	var faults []error
	for _, o := range options {
		switch {
		case !given(o.name):
		case o.refuse != "" && on("kube-subnet-mgr"):
			t.notes = append(t.notes, fmt.Sprintf("--%s has no meaning with --kube-subnet-mgr", o.name))
		case o.refuse != "":
			faults = append(faults, refused("--"+o.name, o.refuse))
		case o.void != "":
			t.notes = append(t.notes, fmt.Sprintf("--%s has no meaning here: %s", o.name, o.void))
		case o.variable != "":
			settings[o.variable] = values[o.name].String()
		}
	}
	if !on("kube-subnet-mgr") && len(faults) == 0 {
		faults = append(faults, refused("without --kube-subnet-mgr flanneld's store is etcd", noEtcd))
	}
	if on("ip-blackhole-route") {
		faults = append(faults, refused("--ip-blackhole-route", "towpath makes no blackhole route: leave the flag out"))
	}
	if err := errors.Join(faults...); err != nil {
		return t, err
	}
	if on("ip-masq-fully-random-disable") {
		settings["TOWPATH_RANDOM_FULLY"] = "false"
	}
	if port := values["healthz-port"].String(); given("healthz-port") && port != "0" {
		ip := values["healthz-ip"].String()
		if ip == "" {
			ip = "0.0.0.0"
		}
		settings["TOWPATH_HEALTH"] = net.JoinHostPort(ip, port)
	}
	if level, _ := strconv.Atoi(values["v"].String()); level >= 2 {
		settings["TOWPATH_LOG_LEVEL"] = "debug"
	}
	// flanneld takes the interface that has the address to publish, where it is given no other.
	if !given("iface") && !given("iface-regex") && !given("iface-can-reach") {
		for _, name := range []string{"public-ipv6", "public-ip"} {
			if given(name) {
				settings["TOWPATH_IFACE"] = values[name].String()
			}
		}
	}
	if key := env["WIREGUARD_KEY_FILE"]; key != "" && env["TOWPATH_KEY_FILE"] == "" {
		settings["TOWPATH_KEY_FILE"] = key
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if _, ok := env[name]; ok {
			t.notes = append(t.notes, fmt.Sprintf("%s has no meaning here: %s", name, raw[name]))
		}
	}
	for name, value := range defaults {
		if _, ok := settings[name]; !ok && env[name] == "" {
			settings[name] = value
		}
	}
	maps.Copy(env, settings)
	t.environ, t.settings = join(env), join(settings)
	return t, nil
}

// parse reads the flags, and FLANNELD_ variables for those that are not given. An empty variable is none.
func parse(args []string, env map[string]string) (map[string]*value, []string, error) {
	set, values := flagSet()
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, nil, err
	} else if err != nil {
		return nil, nil, exit.WithHint(exit.Errorf(exit.Usage, "%w", err), "see flanneld --help")
	}
	for _, o := range options {
		v := values[o.name]
		if text := env[envOf(o.name)]; text != "" && len(v.given) == 0 {
			if err := v.Set(text); err != nil {
				return nil, nil, exit.Errorf(exit.BadConfig, "%s: %w", envOf(o.name), err)
			}
		}
	}
	return values, set.Args(), nil
}

func refused(what, why string) error { return exit.Errorf(exit.BadConfig, "%s: %s", what, why) }

func join(env map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		all = append(all, name+"="+env[name])
	}
	return all
}
