package main

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// step is subnet-lease's one step. Its memory is what watch needs between two passes.
type step struct {
	env       *tool.Env
	store     Store
	node      string
	netConf   string
	selection Selection
	ttl       time.Duration
	margin    time.Duration
	ipMasq    bool

	following bool              // watch is at work: a broken input is told of, and its last good value used
	lastConf  *netconf.Config   // last good
	lastLink  *state.Link       // last good
	listing   *Listing          // of this turn: the others may change for ever, and a turn ends
	told      map[string]string // last message of each subject, so that each is logged once
	own       Record            // this node's, as the store has it
	wrote     *Record           // the last that the store had as we wanted it; nil: none in this run
	contest   contest
	peers     *peerSet
	files     map[string]peerFile // by node, what is known of peers/NODE.json
	uplink    atomic.Value        // name of the interface chosen; "" or nothing while there is none
}

func open(env *tool.Env) (tool.Step, error) {
	store, err := openStore(env.String("store"))
	if err != nil {
		return nil, err
	}
	node, err := nodeName(env)
	if err != nil {
		return nil, err
	}
	selection, err := selectionOf(env)
	if err != nil {
		return nil, err
	}
	s := &step{
		env: env, store: store, node: node, netConf: env.String("net-conf"), selection: selection,
		ttl: env.Duration("lease-ttl"), margin: env.Duration("renew-margin"), ipMasq: env.Bool("ip-masq"),
		told: map[string]string{}, files: map[string]peerFile{},
	}
	if s.margin >= s.ttl && !env.IsSet("renew-margin") {
		s.margin = s.ttl / 2
	}
	if s.ttl <= 0 || s.margin < 0 || s.margin >= s.ttl {
		return nil, exit.Errorf(exit.Usage, "--lease-ttl %s, --renew-margin %s: the margin has to be shorter than the lease", s.ttl, s.margin)
	}
	if verb := env.Verb(); !env.IsSet("store") && (verb == "apply" || verb == "watch") {
		env.Log.Warn("the store is this machine's own: other nodes do not see it", "store", store.URL(),
			"hint", "give every node the same --store (TOWPATH_STORE), a directory that all of them share")
	}
	return s, nil
}

// nodeName is --node, else the host's name.
func nodeName(env *tool.Env) (string, error) {
	node := env.String("node")
	if node == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", err
		}
		node = strings.ToLower(host)
	}
	if err := state.CheckNodeName(node); err != nil {
		return "", exit.WithHint(exit.Errorf(exit.Usage, "--node: %w", err), "give the name of the Kubernetes Node")
	}
	return node, nil
}

func selectionOf(env *tool.Env) (Selection, error) {
	s := Selection{Ifaces: env.Strings("iface")}
	for _, text := range env.Strings("iface-regex") {
		re, err := regexp.Compile(text)
		if err != nil {
			return s, exit.Errorf(exit.Usage, "--iface-regex %q: %w", text, err)
		}
		s.Regexes = append(s.Regexes, re)
	}
	address := func(flag string, family state.Family) (netip.Addr, error) {
		text := env.String(flag)
		if text == "" {
			return netip.Addr{}, nil
		}
		addr, err := netip.ParseAddr(text)
		if err == nil && family != "" && state.FamilyOf(addr) != family {
			other := map[string]string{"public-ip": "public-ipv6", "public-ipv6": "public-ip"}[flag]
			return addr, exit.WithHint(exit.Errorf(exit.Usage, "--%s %q: the address is %s", flag, text, name(state.FamilyOf(addr))), "use --%s", other)
		}
		if err != nil || addr.Zone() != "" || addr.IsUnspecified() {
			return addr, exit.Errorf(exit.Usage, "--%s %q: no such address", flag, text)
		}
		return addr.Unmap(), nil
	}
	var err error
	if s.CanReach, err = address("iface-can-reach", ""); err != nil {
		return s, err
	}
	if s.PublicIP.IPv4, err = address("public-ip", state.IPv4); err != nil {
		return s, err
	}
	s.PublicIP.IPv6, err = address("public-ipv6", state.IPv6)
	return s, err
}
