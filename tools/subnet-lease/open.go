package main

import (
	"context"
	"net/netip"
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

	served served     // the store, if a server is behind it; nil: none
	etcd   *etcdStore // the store, if it is this one

	// Of --store kube and --net-conf configmap:…
	kube           *kubeStore // the store, if it is this one
	confMap        *configMap // nil: netConf is a file
	cniConf        []byte     // last cni-conf.json of confMap; nil: none
	setUnavailable bool
	downSince      time.Time // since when the routes have been missing; zero: they stand
	warned         warnings
	twins          []string // Events to be made of nodes that say what this one says of itself
}

func open(env *tool.Env) (tool.Step, error) {
	node, err := nodeName(context.Background(), env)
	if err != nil {
		return nil, err
	}
	store, err := openStore(env, node)
	if err != nil && (!leaving(env) || env.String("store") != state.Kube) {
		return nil, err
	}
	selection, err := selectionOf(env)
	if err != nil {
		return nil, err
	}
	s := &step{
		env: env, store: store, node: node, netConf: netConfOf(env), selection: selection,
		ttl: env.Duration("lease-ttl"), margin: env.Duration("renew-margin"), ipMasq: env.Bool("ip-masq"),
		told: map[string]string{}, files: map[string]peerFile{}, setUnavailable: env.Bool("set-node-network-unavailable"),
	}
	s.kube, _ = store.(*kubeStore)
	s.etcd, _ = store.(*etcdStore)
	s.served, _ = store.(served)
	if err := s.checkSource(); err != nil {
		return nil, err
	}
	if strings.HasPrefix(s.netConf, state.ConfigMap) {
		client, err := openKube(env)
		if err != nil && !leaving(env) {
			return nil, err
		}
		if s.confMap, err = openConfigMap(client, s.netConf); err != nil {
			return nil, err
		}
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
