package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffForward(t *testing.T) {
	rules := mustWant(t, ipv4Lease, defaults).forwardRules(variants[0])
	const fromPods = `-A TOWPATH-FWD -s 10.244.0.0/16 -m comment --comment "towpath: from pods" -j ACCEPT`
	const toPods = `-A TOWPATH-FWD -d 10.244.0.0/16 -m comment --comment "towpath: to pods" -j ACCEPT`
	const insert = `-I FORWARD 1 ` + jumpRule
	const remove = `-D FORWARD ` + jumpRule
	const proxyFirewall = `-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`
	const proxyServices = `-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`
	ours := forward{Usable: true, Present: true, Own: rules, Forward: []string{jumpRule}}
	with := func(change func(*forward)) forward {
		f := ours
		f.Own, f.Forward = slices.Clone(f.Own), slices.Clone(f.Forward)
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		have       forward
		want, down []string
	}{
		"empty":           {forward{Usable: true}, []string{"-N TOWPATH-FWD", fromPods, toPods, insert}, nil},
		"as wanted":       {ours, nil, []string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"others below":    {with(func(f *forward) { f.Forward = append(f.Forward, "-j DROP") }), nil, []string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"another above":   {with(func(f *forward) { f.Forward = []string{"-j DROP", jumpRule} }), []string{remove, insert}, []string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"jumped to twice": {with(func(f *forward) { f.Forward = []string{jumpRule, "-j DROP", jumpRule} }), []string{remove, remove, insert}, []string{remove, remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"jump changed": {
			with(func(f *forward) { f.Forward = []string{"-i eth0 -j TOWPATH-FWD"} }),
			[]string{"-D FORWARD -i eth0 -j TOWPATH-FWD", insert},
			[]string{"-D FORWARD -i eth0 -j TOWPATH-FWD", "-F TOWPATH-FWD", "-X TOWPATH-FWD"},
		},
		"jump gone": {with(func(f *forward) { f.Forward = nil }), []string{insert}, []string{"-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"below kube-proxy's": {
			with(func(f *forward) {
				f.Forward = []string{"-j DOCKER-USER", proxyFirewall, proxyServices, jumpRule, "-j DROP"}
			}),
			nil,
			[]string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"},
		},
		"above kube-proxy's": {
			with(func(f *forward) { f.Forward = []string{jumpRule, proxyFirewall, proxyServices, "-j DROP"} }),
			[]string{remove, `-I FORWARD 3 ` + jumpRule},
			[]string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"},
		},
		"among kube-proxy's": {
			with(func(f *forward) { f.Forward = []string{proxyFirewall, jumpRule, proxyServices} }),
			[]string{remove, `-I FORWARD 3 ` + jumpRule},
			[]string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"},
		},
		"a drop between kube-proxy's and ours": {
			with(func(f *forward) { f.Forward = []string{proxyServices, "-j DROP", jumpRule} }),
			[]string{remove, `-I FORWARD 2 ` + jumpRule},
			[]string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"},
		},
		"comment that names kube-proxy's": {
			with(func(f *forward) {
				f.Forward = []string{jumpRule, `-m comment --comment "not -j KUBE-SERVICES" -j DROP`}
			}),
			nil,
			[]string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"},
		},
		"rule gone":  {with(func(f *forward) { f.Own = f.Own[:1] }), []string{"-F TOWPATH-FWD", fromPods, toPods}, []string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"rule added": {with(func(f *forward) { f.Own = append(f.Own, "-j DROP") }), []string{"-F TOWPATH-FWD", fromPods, toPods}, []string{remove, "-F TOWPATH-FWD", "-X TOWPATH-FWD"}},
		"comment that names us": {
			forward{Usable: true, Forward: []string{`-m comment --comment "not -j TOWPATH-FWD" -j DROP`}},
			[]string{"-N TOWPATH-FWD", fromPods, toPods, insert},
			nil,
		},
	} {
		if d := cmp.Diff(c.want, diffForward(rules, c.have)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
		if d := cmp.Diff(c.down, diffForward(nil, c.have)); d != "" {
			t.Errorf("%s, nothing wanted: (-want +got)\n%s", name, d)
		}
	}
}

func TestForwardRulesOnlyForFamiliesInUse(t *testing.T) {
	w := mustWant(t, ipv4Lease, defaults)
	for _, v := range variants {
		if got := len(w.forwardRules(v)) > 0; got != (v.Family == "ipv4") {
			t.Errorf("%s: rules %v", v.Program, got)
		}
	}
	w.ForwardRules = false
	if rules := w.forwardRules(variants[0]); rules != nil {
		t.Errorf("--forward-rules=false: %v", rules)
	}
}

// FuzzParseRules: whatever iptables prints, a rule is one line of it and belongs to the chain asked for.
func FuzzParseRules(f *testing.F) {
	f.Add("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n-A FORWARD -m comment --comment \"a b\" -j TOWPATH-FWD\n")
	f.Add("-N TOWPATH-FWD\n-A TOWPATH-FWD -j ACCEPT\n")
	f.Add("-A FORWARD\n-A FORWARD \n")
	f.Fuzz(func(t *testing.T, output string) {
		rules := parseRules(forwardChain, output)
		for _, r := range rules {
			if strings.Contains(r, "\n") || !strings.Contains(output, "-A FORWARD "+r) {
				t.Errorf("rule %q out of %q", r, output)
			}
		}
		// Nothing but jumps to our chain is ever removed.
		have := forward{Usable: true, Forward: rules}
		for _, c := range diffForward(nil, have) {
			if !strings.HasPrefix(c, "-D FORWARD ") {
				t.Errorf("command %q against %q", c, output)
			}
		}
	})
}
