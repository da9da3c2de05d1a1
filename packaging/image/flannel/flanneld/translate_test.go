package main

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
)

// TestTranslate: the flags of flanneld in towpath's words. want is what differs from what `--kube-subnet-mgr` alone gives.
func TestTranslate(t *testing.T) {
	base, err := translate([]string{"--kube-subnet-mgr"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const wantBase = "TOWPATH_CNI_BIN_DIR=/usr/lib/towpath/cni TOWPATH_CONFLIST=/run/towpath/conflist/10-towpath.conflist TOWPATH_IP_MASQ=false " +
		"TOWPATH_KEY_FILE=/run/flannel/wgkey " +
		"TOWPATH_NET_CONF=/etc/kube-flannel/net-conf.json TOWPATH_STORE=kube TOWPATH_SUBNET_ENV=/run/flannel/subnet.env"
	if got := strings.Join(base.settings, " "); got != wantBase {
		t.Errorf("have %s\nwant %s", got, wantBase)
	}
	for _, c := range []struct {
		args, env, want, notes string
	}{
		{args: "--ip-masq", want: "TOWPATH_IP_MASQ=true"},
		{args: "-ip-masq=true", want: "TOWPATH_IP_MASQ=true"},
		{args: "--ip-masq=0"},
		{env: "FLANNELD_IP_MASQ=1", want: "TOWPATH_IP_MASQ=true"},
		{args: "--ip-masq=false", env: "FLANNELD_IP_MASQ=true"},
		{env: "FLANNELD_IFACE="}, // canal sets it, empty unless the administrator says more
		{env: "FLANNELD_IFACE=eth1", want: "TOWPATH_IFACE=eth1"},
		{args: "--iface=eth1 --iface 192.168.0.1", want: "TOWPATH_IFACE=eth1\n192.168.0.1"},
		{args: "--iface-regex=^eth{1,2}$", want: "TOWPATH_IFACE_REGEX=^eth{1,2}$"},
		{args: "--iface-can-reach=10.0.0.1", want: "TOWPATH_IFACE_CAN_REACH=10.0.0.1"},
		{args: "--public-ip=192.0.2.1", want: "TOWPATH_IFACE=192.0.2.1 TOWPATH_PUBLIC_IP=192.0.2.1"},
		{args: "--public-ipv6=2001:db8::1", want: "TOWPATH_IFACE=2001:db8::1 TOWPATH_PUBLIC_IPV6=2001:db8::1"},
		{args: "--public-ip=192.0.2.1 --public-ipv6=2001:db8::1 --iface=eth0", want: "TOWPATH_IFACE=eth0 TOWPATH_PUBLIC_IP=192.0.2.1 TOWPATH_PUBLIC_IPV6=2001:db8::1"},
		{args: "--subnet-file=/run/x --net-config-path=/etc/x", want: "TOWPATH_NET_CONF=/etc/x TOWPATH_SUBNET_ENV=/run/x"},
		{args: "--kubeconfig-file=/k --kube-api-url=https://api", want: "TOWPATH_KUBECONFIG=/k TOWPATH_KUBE_API_URL=https://api"},
		{args: "--kube-annotation-prefix=x.example", want: "TOWPATH_ANNOTATION_PREFIX=x.example"},
		{args: "--set-node-network-unavailable=false", want: "TOWPATH_SET_NODE_NETWORK_UNAVAILABLE=false"},
		{args: "--ip-masq-fully-random-disable", want: "TOWPATH_RANDOM_FULLY=false"},
		{args: "--iptables-forward-rules=false", want: "TOWPATH_FORWARD_RULES=false"},
		{args: "--healthz-port=8081", want: "TOWPATH_HEALTH=0.0.0.0:8081"},
		{args: "--healthz-port=8081 --healthz-ip=::1", want: "TOWPATH_HEALTH=[::1]:8081"},
		{args: "--healthz-port=0 --healthz-ip=127.0.0.1"},
		{args: "-v=10", want: "TOWPATH_LOG_LEVEL=debug"},
		{args: "--v 1"},
		{args: "--ip-blackhole-route=false"},
		{env: "TOWPATH_CONFLIST=/x TOWPATH_LOG_FORMAT=json", want: "-TOWPATH_CONFLIST"},
		{args: "--iptables-resync=60", notes: "--iptables-resync has no meaning here"},
		{args: "--vmodule=x=1", notes: "--vmodule has no meaning here"},
		{args: "--etcd-prefix=/x", notes: "--etcd-prefix has no meaning with --kube-subnet-mgr"},
		{env: "EVENT_QUEUE_DEPTH=5000", notes: "EVENT_QUEUE_DEPTH has no meaning here"},
		{env: "WIREGUARD_KEY_FILE=/x", want: "TOWPATH_KEY_FILE=/x"},
		{env: "WIREGUARD_KEY_FILE=/x TOWPATH_KEY_FILE=/y", want: "-TOWPATH_KEY_FILE"},
		{args: "--ip-masq true --iface=eth0", want: "TOWPATH_IP_MASQ=true", notes: `"true" is no flag`},
	} {
		got, err := translate(append([]string{"--kube-subnet-mgr"}, strings.Fields(c.args)...), strings.Fields(c.env))
		if err != nil {
			t.Errorf("%s %s: %v", c.env, c.args, err)
			continue
		}
		var differs []string
		for _, s := range got.settings {
			if !slices.Contains(base.settings, s) {
				differs = append(differs, s)
			}
		}
		for _, s := range base.settings {
			name, _, _ := strings.Cut(s, "=")
			if !slices.ContainsFunc(got.settings, func(have string) bool { return strings.HasPrefix(have, name+"=") }) {
				differs = append(differs, "-"+name)
			}
		}
		if have := strings.Join(differs, " "); have != c.want {
			t.Errorf("%s %s: settings %q, want %q", c.env, c.args, have, c.want)
		}
		if notes := strings.Join(got.notes, "\n"); !strings.Contains(notes, c.notes) || (c.notes == "") != (notes == "") {
			t.Errorf("%s %s: notes %q, want %q", c.env, c.args, notes, c.notes)
		}
		for _, s := range append(got.settings, strings.Fields(c.env)...) {
			if !slices.Contains(got.environ, s) {
				t.Errorf("%s %s: %q is not in the environment", c.env, c.args, s)
			}
		}
	}
}

// TestRefused: what towpath has not is told by name.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		args, env, words string
		code             exit.Code
	}{
		{"", "", "without --kube-subnet-mgr", exit.BadConfig},
		{"--ip-masq", "FLANNELD_KUBE_SUBNET_MGR=false", "without --kube-subnet-mgr", exit.BadConfig},
		{"--etcd-endpoints=http://x --etcd-prefix=/y", "", "--etcd-endpoints", exit.BadConfig},
		{"", "FLANNELD_ETCD_PASSWORD=x", "--etcd-password", exit.BadConfig},
		{"--kube-subnet-mgr --ip-blackhole-route", "", "--ip-blackhole-route", exit.BadConfig},
		{"--kube-subnet-mgr", "FLANNELD_IP_MASQ=perhaps", `FLANNELD_IP_MASQ: "perhaps"`, exit.BadConfig},
		{"--kube-subnet-mgr --no-such", "", "-no-such", exit.Usage},
		{"--kube-subnet-mgr --healthz-port=x", "", "healthz-port", exit.Usage},
	} {
		_, err := translate(strings.Fields(c.args), strings.Fields(c.env))
		if exit.Of(err) != c.code || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s %s: %d %v, want %d %q", c.env, c.args, exit.Of(err), err, c.code, c.words)
		}
	}
	if _, err := translate([]string{"--help"}, nil); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	if got, err := translate([]string{"--version"}, nil); err != nil || !got.version {
		t.Errorf("--version: %v %v", got, err)
	}
}

// TestEveryFlagIsDealtWith: each flag is translated, told of, refused, or one of those that translate names itself.
func TestEveryFlagIsDealtWith(t *testing.T) {
	own := map[string]bool{}
	for _, name := range []string{"version", "kube-subnet-mgr", "ip-masq-fully-random-disable", "ip-blackhole-route", "healthz-ip", "healthz-port", "v"} {
		own[name] = true
	}
	var b bytes.Buffer
	if err := help(&b); err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		ways := 0
		for _, way := range []bool{o.variable != "", o.void != "", o.refuse != "", own[o.name]} {
			if way {
				ways++
			}
		}
		if ways != 1 || !strings.Contains(b.String(), "--"+o.name+" ") {
			t.Errorf("%s: %d ways, help:\n%s", o.name, ways, b.String())
		}
		delete(own, o.name)
	}
	if len(own) > 0 {
		t.Errorf("no flags: %v", slices.Collect(maps.Keys(own)))
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add("--kube-subnet-mgr\n--iface=eth0", "FLANNELD_IP_MASQ=true\nPATH=/bin")
	f.Add("--healthz-port\n1\n-v=3", "=")
	f.Fuzz(func(t *testing.T, args, env string) {
		got, err := translate(strings.Split(args, "\n"), strings.Split(env, "\n"))
		if err == nil && !got.version && (len(got.settings) < 3 || len(got.environ) < len(got.settings)) {
			t.Errorf("settings %q", got.settings)
		}
	})
}
