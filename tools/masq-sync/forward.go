package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

// An accept in one base chain does not help against a drop in another, so where iptables has a FORWARD
// chain, ours is jumped to from it: from its top, but below kube-proxy's chains. Those turn away what an
// accept must not let pass: new connections to a Service without endpoints, which a refusal tells the
// client at once, and to a load balancer's address from a source that its loadBalancerSourceRanges lack.
const (
	forwardChain = "FORWARD"
	ownChain     = "TOWPATH-FWD"
	proxyChains  = "KUBE-" // how the names of kube-proxy's begin
	jumpRule     = `-m comment --comment "towpath: pods are forwarded" -j ` + ownChain
)

// variant is one of the four iptables that may have a filter table on a node.
type variant struct {
	Program string
	Family  state.Family
	Legacy  bool // in tables of its own, not in nftables'
}

var variants = []variant{
	{Program: "iptables-nft", Family: state.IPv4},
	{Program: "ip6tables-nft", Family: state.IPv6},
	{Program: "iptables-legacy", Family: state.IPv4, Legacy: true},
	{Program: "ip6tables-legacy", Family: state.IPv6, Legacy: true},
}

// forward is what a variant's filter table holds for us, as `iptables -S` prints it, without "-A CHAIN".
type forward struct {
	Usable  bool   // the rules could be read
	Missing bool   // the program is not installed
	Fault   string // why it is not usable
	Present bool   // our own chain is there
	Own     []string
	Forward []string
}

// parseRules reads the rules of a chain from the output of `iptables -S CHAIN`. The text of a rule is
// kept as it is: iptables reads back what it printed.
func parseRules(chain, output string) []string {
	var rules []string
	scan := bufio.NewScanner(strings.NewReader(output))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if rule, ok := strings.CutPrefix(scan.Text(), "-A "+chain+" "); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

// isJump says whether a rule leads into our chain. The target comes last, since it has no options.
func isJump(rule string) bool {
	return strings.HasSuffix(rule, "-j "+ownChain) || strings.HasSuffix(rule, "-g "+ownChain)
}

// position is the number that our jump shall have among the rules of others in FORWARD, from 1.
func position(others []string) int {
	for i, r := range slices.Backward(others) {
		fields := strings.Fields(r)
		if n := len(fields); n >= 2 && fields[n-2] == "-j" && strings.HasPrefix(fields[n-1], proxyChains) {
			return i + 2
		}
	}
	return 1
}

// forwardRules is what our chain of a variant shall hold; none: there shall be no chain.
func (w want) forwardRules(v variant) []string {
	if !w.ForwardRules || !w.Nets.Has(v.Family) {
		return nil
	}
	network := w.Nets.Of(v.Family).Network
	return []string{
		fmt.Sprintf(`-s %s -m comment --comment "towpath: from pods" -j ACCEPT`, network),
		fmt.Sprintf(`-d %s -m comment --comment "towpath: to pods" -j ACCEPT`, network),
	}
}

// diffForward returns the arguments of iptables, command by command, that bring have to the rules
// wanted; no rules: to no chain of ours.
func diffForward(rules []string, have forward) []string {
	var commands []string
	others := slices.DeleteFunc(slices.Clone(have.Forward), isJump)
	unjump := func() {
		for _, r := range have.Forward {
			if isJump(r) {
				commands = append(commands, fmt.Sprintf("-D %s %s", forwardChain, r))
			}
		}
	}
	if len(rules) == 0 {
		unjump()
		if have.Present {
			commands = append(commands, "-F "+ownChain, "-X "+ownChain)
		}
		return commands
	}
	if !have.Present {
		commands = append(commands, "-N "+ownChain)
	}
	if !slices.Equal(rules, have.Own) {
		if have.Present {
			commands = append(commands, "-F "+ownChain)
		}
		for _, r := range rules {
			commands = append(commands, fmt.Sprintf("-A %s %s", ownChain, r))
		}
	}
	if at := position(others); !slices.Equal(have.Forward, slices.Insert(slices.Clone(others), at-1, jumpRule)) {
		unjump()
		commands = append(commands, fmt.Sprintf("-I %s %d %s", forwardChain, at, jumpRule))
	}
	return commands
}
