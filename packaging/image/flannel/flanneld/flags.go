package main

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// kind is what a flag takes.
type kind int

const (
	text kind = iota
	boolean
	number
	list // may be given again
)

// option is a flag of flanneld's, and what becomes of it.
type option struct {
	name     string
	kind     kind
	variable string // of towpath's, where there is an equal
	void     string // why it means nothing here
	refuse   string // why it cannot be given here, and what to do instead
}

const (
	noEtcd    = "this image stands in for kube-flannel.yml: give --kube-subnet-mgr in its place, or run towpath supervise with TOWPATH_STORE=etcd://HOST:PORT"
	keptAlive = "rules are repaired as soon as they change"
)

// options are all flags of flanneld (0.28). What has neither variable nor void nor refuse is dealt with in translate.
var options = []option{
	{name: "version", kind: boolean},
	{name: "kube-subnet-mgr", kind: boolean},
	{name: "kube-api-url", variable: "TOWPATH_KUBE_API_URL"},
	{name: "kubeconfig-file", variable: "TOWPATH_KUBECONFIG"},
	{name: "kube-annotation-prefix", variable: "TOWPATH_ANNOTATION_PREFIX"},
	{name: "set-node-network-unavailable", kind: boolean, variable: "TOWPATH_SET_NODE_NETWORK_UNAVAILABLE"},
	{name: "net-config-path", variable: "TOWPATH_NET_CONF"},
	{name: "subnet-file", variable: "TOWPATH_SUBNET_ENV"},
	{name: "iface", kind: list, variable: "TOWPATH_IFACE"},
	{name: "iface-regex", kind: list, variable: "TOWPATH_IFACE_REGEX"},
	{name: "iface-can-reach", variable: "TOWPATH_IFACE_CAN_REACH"},
	{name: "public-ip", variable: "TOWPATH_PUBLIC_IP"},
	{name: "public-ipv6", variable: "TOWPATH_PUBLIC_IPV6"},
	{name: "ip-masq", kind: boolean, variable: "TOWPATH_IP_MASQ"},
	{name: "ip-masq-fully-random-disable", kind: boolean},
	{name: "iptables-forward-rules", kind: boolean, variable: "TOWPATH_FORWARD_RULES"},
	{name: "ip-blackhole-route", kind: boolean},
	{name: "healthz-ip"},
	{name: "healthz-port", kind: number},
	{name: "v", kind: number},

	{name: "iptables-resync", kind: number, void: keptAlive},
	{name: "subnet-lease-renew-margin", kind: number, void: "a podCIDR does not expire"},
	{name: "vmodule", void: "there is one level of the log, that of -v"},
	{name: "log_backtrace_at", void: "there is one level of the log, that of -v"},

	{name: "etcd-endpoints", refuse: noEtcd},
	{name: "etcd-prefix", refuse: noEtcd},
	{name: "etcd-keyfile", refuse: noEtcd},
	{name: "etcd-certfile", refuse: noEtcd},
	{name: "etcd-cafile", refuse: noEtcd},
	{name: "etcd-username", refuse: noEtcd},
	{name: "etcd-password", refuse: noEtcd},
}

// raw are the variables that flanneld reads beside its flags and that mean nothing here. NODE_NAME, POD_NAME and POD_NAMESPACE are
// subnet-lease's.
var raw = map[string]string{
	"EVENT_QUEUE_DEPTH":         "only the newest state of each node is kept",
	"CONT_WHEN_CACHE_NOT_READY": "programs wait for the API server and go on meanwhile",
}

// value collects what a flag was given.
type value struct {
	kind  kind
	given []string
}

func (v *value) String() string { return strings.Join(v.given, "\n") }

func (v *value) IsBoolFlag() bool { return v.kind == boolean }

func (v *value) Set(s string) error {
	switch v.kind {
	case boolean:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		s = strconv.FormatBool(b)
	case number:
		if _, err := strconv.Atoi(s); err != nil {
			return fmt.Errorf("%q is no number", s)
		}
	case list:
		v.given = append(v.given, s)
		return nil
	}
	v.given = []string{s}
	return nil
}

// flagSet has all of flanneld's flags, and what they were given.
func flagSet() (*flag.FlagSet, map[string]*value) {
	set := flag.NewFlagSet("flanneld", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	values := map[string]*value{}
	for _, o := range options {
		values[o.name] = &value{kind: o.kind}
		set.Var(values[o.name], o.name, "")
	}
	return set, values
}

// envOf is the variable of flanneld's for one of its flags.
func envOf(name string) string {
	return "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// help prints each flag with what becomes of it.
func help(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "towpath in the place of flanneld. Its flags, each also a variable FLANNELD_…:")
	for _, o := range options {
		means := o.variable
		switch {
		case o.void != "":
			means = "no meaning here: " + o.void
		case o.refuse != "":
			means = o.refuse
		}
		fmt.Fprintf(t, "  --%s\t%s\n", o.name, means)
	}
	return t.Flush()
}
