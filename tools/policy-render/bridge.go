package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// bridgeNF are the switches that hand a bridge's packets to the IP rules, by family: that of all bridges, below
// /proc/sys/net/bridge, and that of each one, below /sys/class/net/BRIDGE/bridge.
var bridgeNF = map[state.Family]struct{ all, one string }{
	state.IPv4: {"bridge-nf-call-iptables", "nf_call_iptables"},
	state.IPv6: {"bridge-nf-call-ip6tables", "nf_call_ip6tables"},
}

// bridgeFault says that pods of a bridge reach each other past all rules. root is "/".
func bridgeFault(root, bridge string, families []state.Family) error {
	own := filepath.Join(root, "sys/class/net", bridge, "bridge") // not there before the first pod
	on := func(path string) bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.TrimSpace(string(text)) == "1"
	}
	global := filepath.Join(root, "proc/sys/net/bridge")
	for _, f := range families {
		_, err := os.Stat(global) // the module is not loaded: the bridge's own switch does nothing
		if err != nil || !on(filepath.Join(global, bridgeNF[f].all)) && !on(filepath.Join(own, bridgeNF[f].one)) {
			return exit.WithHint(exit.Errorf(exit.TryAgain, "pods on bridge %q reach each other past the rules: %s is off", bridge, bridgeNF[f].all),
				"modprobe br_netfilter, and sysctl -w net.bridge.%s=1", bridgeNF[f].all)
		}
	}
	return nil
}

// checkBridges looks at the bridges of this node's endpoints. Pods of one that lets them past the rules are not covered,
// so that none starts there.
func (w *world) checkBridges() {
	var used []state.Family
	for _, f := range state.Families {
		if w.config.Network.Has(f) {
			used = append(used, f)
		}
	}
	clear(w.past)
	for _, name := range bridgesOf(w.endpoints) {
		if err := bridgeFault("/", name, used); err != nil {
			w.past[name] = err
		}
	}
}

// checkBridges also tells of it.
func (w *watcher) checkBridges() {
	for key := range w.faults {
		if strings.HasPrefix(key, "bridge ") {
			delete(w.faults, key)
		}
	}
	w.world.checkBridges()
	for name, err := range w.world.past {
		w.faults["bridge "+name] = err
	}
}

func bridgesOf(endpoints map[string]model.Endpoint) (out []string) {
	seen := map[string]bool{"": true}
	for _, e := range endpoints {
		if !seen[e.Bridge] {
			seen[e.Bridge] = true
			out = append(out, e.Bridge)
		}
	}
	return out
}
