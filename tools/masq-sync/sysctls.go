package main

import (
	"maps"
	"slices"

	"github.com/towpath/towpath/lib/state"
)

// setting is a kernel parameter as it shall be, and why.
type setting struct {
	Name, Value, Why string
}

// The forwarding switches and the bridge's hand-over to the IP rules, by family.
var (
	forwarding = map[state.Family]string{state.IPv4: "net/ipv4/ip_forward", state.IPv6: "net/ipv6/conf/all/forwarding"}
	bridgeNF   = map[state.Family]string{
		state.IPv4: "net/bridge/bridge-nf-call-iptables", state.IPv6: "net/bridge/bridge-nf-call-ip6tables",
	}
)

// settings are the parameters wanted, in the order in which they are to be set. have holds the present
// value of each parameter that exists; ours, whether this program has changed it.
func (w want) settings(have map[string]string, ours func(name string) bool) []setting {
	var all []setting
	for _, f := range state.Families {
		if !w.Nets.Has(f) {
			continue
		}
		forward := forwarding[f]
		if accept := w.acceptRA(); f == state.IPv6 && have[accept] != "" && (ours(accept) || have[accept] == "1" && (have[forward] == "0" || ours(forward))) {
			// Before the switch: the kernel drops the default routes it learned when it starts to
			// forward, unless told to keep listening.
			all = append(all, setting{accept, "2", "the uplink keeps the routes it learns although the node forwards"})
		}
		if _, ok := have[forward]; ok {
			all = append(all, setting{forward, "1", "pods' packets are forwarded"})
		}
		if _, ok := have[bridgeNF[f]]; ok && w.BridgeNF != "off" {
			all = append(all, setting{bridgeNF[f], "1", "br_netfilter is there: packets between pods of one bridge must meet the rules for services and policies"})
		}
	}
	return all
}

// acceptRA is the uplink's parameter for learning IPv6 routes.
func (w want) acceptRA() string { return "net/ipv6/conf/" + w.Uplink + "/accept_ra" }

// watched are the parameters whose present value settings needs to know.
func (w want) watched() []string {
	var names []string
	for _, f := range state.Families {
		if w.Nets.Has(f) {
			names = append(names, forwarding[f], bridgeNF[f])
		}
	}
	return append(names, w.acceptRA())
}

// diffSysctls compares: set is what has to be changed; remember, the changes of which there is no
// record yet; restore, the records of parameters that are wanted no longer.
func diffSysctls(wanted []setting, have map[string]string, record []state.MasqSysctl) (set []setting, remember, restore []state.MasqSysctl) {
	known := map[string]bool{}
	for _, r := range record {
		known[r.Name] = true
	}
	wantedNames := map[string]bool{}
	for _, s := range wanted {
		wantedNames[s.Name] = true
		if have[s.Name] == s.Value {
			continue
		}
		set = append(set, s)
		if !known[s.Name] {
			remember = append(remember, state.MasqSysctl{Name: s.Name, Was: have[s.Name], Set: s.Value})
		}
	}
	for _, r := range slices.Backward(record) { // last changed, first restored
		if !wantedNames[r.Name] {
			restore = append(restore, r)
		}
	}
	return set, remember, restore
}

// restoration is what puts a parameter back: nothing where it is gone or where someone has changed it
// since.
func restoration(r state.MasqSysctl, have map[string]string) []setting {
	if have[r.Name] != r.Set {
		return nil
	}
	const why = "as before masq-sync"
	all := []setting{{r.Name, r.Was, why}}
	for _, name := range slices.Sorted(maps.Keys(r.Also)) {
		if _, ok := have[name]; ok {
			all = append(all, setting{name, r.Also[name], why})
		}
	}
	return all
}

// without is the record less the restored entries.
func without(record, restored []state.MasqSysctl) []state.MasqSysctl {
	gone := map[string]bool{}
	for _, r := range restored {
		gone[r.Name] = true
	}
	return slices.DeleteFunc(slices.Clone(record), func(r state.MasqSysctl) bool { return gone[r.Name] })
}
