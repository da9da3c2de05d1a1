package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

// world is a node's policy of the kind that policy-render writes, made up of what can change about it.
type world struct {
	pods      map[int]string   // number of a local pod to its group; "" is open
	groups    map[string][]int // the policies that make up a group
	policies  map[int]int      // number of a policy to the version of its rules
	sets      map[int][]int    // number of a selector to the numbers of the pods in it
	spread    int              // a policy has one selector of so many
	comment   int              // version of all comments on elements
	endpoints []string
}

func newWorld(pods, policies, sets, members int) *world {
	w := &world{spread: max(7, sets/2), pods: map[int]string{}, groups: map[string][]int{}, policies: map[int]int{}, sets: map[int][]int{}}
	for s := range sets {
		for m := range members {
			w.sets[s] = append(w.sets[s], (s*7+m)%65000)
		}
		w.sets[s] = slices.Compact(slices.Sorted(slices.Values(w.sets[s])))
	}
	for p := range policies {
		w.policies[p] = 0
		name := fmt.Sprintf("g%d", p%max(1, policies/3))
		w.groups[name] = append(w.groups[name], p)
	}
	names := slices.Sorted(maps.Keys(w.groups))
	for p := range pods {
		if p%4 == 3 || len(names) == 0 {
			w.pods[p] = ""
		} else {
			w.pods[p] = names[p%len(names)]
		}
	}
	return w
}

// mutate makes one to three changes.
func (w *world) mutate(r *rand.Rand) {
	pick := func(n int) int { return r.IntN(max(n, 1)) }
	for range 1 + pick(3) {
		switch pick(12) {
		case 0, 1, 2: // a pod's labels: it comes into a set or leaves it
			s := pick(len(w.sets) + 1)
			m := pick(3000)
			if i := slices.Index(w.sets[s], m); i >= 0 {
				w.sets[s] = slices.Delete(w.sets[s], i, i+1)
			} else {
				w.sets[s] = append(w.sets[s], m)
			}
		case 3: // a selector is used no more
			s := pick(len(w.sets))
			delete(w.sets, s)
		case 4, 5: // a policy's rules
			p := pick(len(w.policies) + 1)
			w.policies[p]++
		case 6: // a policy goes
			p := pick(len(w.policies) + 1)
			delete(w.policies, p)
			for g := range w.groups {
				w.groups[g] = slices.DeleteFunc(w.groups[g], func(q int) bool { return q == p })
			}
		case 7: // a group comes or changes its name with its policies
			g := fmt.Sprintf("g%d", pick(6))
			w.groups[g] = nil
			for p := range w.policies {
				if r.IntN(3) == 0 {
					w.groups[g] = append(w.groups[g], p)
				}
			}
			slices.Sort(w.groups[g])
		case 8: // a group goes
			g := fmt.Sprintf("g%d", pick(6))
			delete(w.groups, g)
			for p, in := range w.pods {
				if in == g {
					w.pods[p] = ""
				}
			}
		case 9: // a pod comes, or comes into another group
			names := append(slices.Sorted(maps.Keys(w.groups)), "")
			w.pods[pick(40)] = names[pick(len(names))]
		case 10:
			delete(w.pods, pick(40))
		case 11:
			w.comment++
		}
	}
}

func pod4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, byte(n / 250), byte(n%250 + 2)}) }

func pod6(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0, 0, 1, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
}

func (w *world) label(n int) string {
	if w.comment%2 == 1 && n%3 == 0 {
		return fmt.Sprintf(`comment "ns-%d/pod, %d : x"`, n%5, n)
	}
	return fmt.Sprintf(`comment "ns-%d/pod-%d"`, n%5, n)
}

// block names a set of addresses, which many policies share.
func block(policy, version int) string { return fmt.Sprintf("-%04x", policy%50*16+version) }

// render is the ruleset, in the order of a manifest.
func (w *world) render() []*ruleset.Object {
	var sets, policies, denials, groups []*ruleset.Object
	object := func(kind ruleset.Kind, name string, head, lines []string) *ruleset.Object {
		if kind != ruleset.Chain {
			slices.Sort(lines)
			lines = slices.Compact(lines)
		}
		return &ruleset.Object{ID: ruleset.ID{Family: "inet", Kind: kind, Name: name}, Head: head, Lines: lines}
	}
	two := func(kind ruleset.Kind, name, tail, rest string, lines4, lines6 []string, more ...string) {
		sets = append(sets,
			object(kind, name+"4"+tail, append([]string{"type ipv4_addr" + rest}, more...), lines4),
			object(kind, name+"6"+tail, append([]string{"type ipv6_addr" + rest}, more...), lines6))
	}
	var self4, self6, egress4, egress6, ingress4, ingress6 []string
	for p, group := range w.pods {
		a, b := pod4(p), pod6(p)
		self4 = append(self4, fmt.Sprintf("%s . %s", a, a))
		self6 = append(self6, fmt.Sprintf("%s . %s", b, b))
		e, i := "goto ingress", "accept"
		if _, ok := w.groups[group]; ok {
			e, i = "goto ge-"+group, "goto gi-"+group
		}
		egress4 = append(egress4, fmt.Sprintf("%s %s : %s", a, w.label(p), e))
		egress6 = append(egress6, fmt.Sprintf("%s %s : %s", b, w.label(p), e))
		ingress4 = append(ingress4, fmt.Sprintf("%s %s : %s", a, w.label(p), i))
		ingress6 = append(ingress6, fmt.Sprintf("%s %s : %s", b, w.label(p), i))
	}
	two(ruleset.Set, "local", "", "", []string{"10.244.0.0/24", "10.244.7.0/24"}, []string{"fd00:1::/64"}, "flags interval")
	two(ruleset.Set, "self", "", " . ipv4_addr", self4, nil)
	sets[len(sets)-1] = object(ruleset.Set, "self6", []string{"type ipv6_addr . ipv6_addr"}, self6)
	for s, members := range w.sets {
		var l4, l6, p4, p6 []string
		for _, m := range members {
			l4 = append(l4, pod4(m).String()+" "+w.label(m))
			l6 = append(l6, pod6(m).String()+" "+w.label(m))
			p4 = append(p4, fmt.Sprintf("%s . tcp . %d", pod4(m), 8000+m%3))
			p6 = append(p6, fmt.Sprintf("%s . sctp . %d", pod6(m), 8000+m%3))
		}
		two(ruleset.Set, "sel", fmt.Sprintf("-%04x", s), "", l4, l6)
		if s%3 == 0 {
			two(ruleset.Set, "np", fmt.Sprintf("-%04x", s), " . inet_proto . inet_service", p4, p6)
		}
	}
	ports := map[string]bool{}
	for p, version := range w.policies {
		two(ruleset.Set, "cidr", block(p, version), "",
			[]string{fmt.Sprintf("10.%d.0.0-10.%d.2.1", p%50, p%50), fmt.Sprintf("10.%d.2.3-10.%d.255.255", p%50, p%50), fmt.Sprintf("192.168.%d.0/24", p%50), "250.0.0.0-255.255.255.255"},
			[]string{fmt.Sprintf("2001:db8:%x::/48", p%50), "fe00::/7"}, "flags interval", fmt.Sprintf("comment \"block %d\"", p%50))
		port := fmt.Sprintf("port-%d", (p+version)%4)
		if !ports[port] {
			ports[port] = true
			sets = append(sets, object(ruleset.Set, port, []string{"type inet_service", "flags interval"},
				[]string{fmt.Sprint(80 + (p+version)%4), "8000-8080", "65000-65535"}))
		}
	}
	seen := map[string]bool{}
	sets = slices.DeleteFunc(sets, func(o *ruleset.Object) bool {
		twice := seen[o.Name]
		seen[o.Name] = true
		return twice
	})
	for p, version := range w.policies {
		for _, d := range []struct{ chain, peer, verdict string }{{"pi", "saddr", "accept"}, {"pe", "daddr", "goto ingress"}} {
			c := object(ruleset.Chain, fmt.Sprintf("%s-ns-%d/pol.%d", d.chain, p%5, p), []string{fmt.Sprintf(`comment "ns-%d/pol.%d"`, p%5, p)}, nil)
			port := fmt.Sprintf("@port-%d", (p+version)%4)
			for i, s := range slices.Sorted(maps.Keys(w.sets)) {
				if (s+p)%w.spread != 0 {
					continue
				}
				proto := []string{"tcp", "udp", "sctp"}[(i+version)%3]
				c.Lines = append(c.Lines,
					fmt.Sprintf(`%s dport %s ip %s @sel4-%04x counter %s comment "rule[%d]"`, proto, port, d.peer, s, d.verdict, i),
					fmt.Sprintf(`%s dport %d ip6 %s @sel6-%04x counter %s comment "rule[%d]"`, proto, 80+i, d.peer, s, d.verdict, i))
				if s%3 == 0 {
					c.Lines = append(c.Lines,
						fmt.Sprintf(`ip daddr . meta l4proto . th dport @np4-%04x counter %s`, s, d.verdict),
						fmt.Sprintf(`ip6 daddr . meta l4proto . th dport @np6-%04x counter %s`, s, d.verdict))
				}
			}
			c.Lines = append(c.Lines, fmt.Sprintf(`ip %s @cidr4%s counter %s comment "v%d"`, d.peer, block(p, version), d.verdict, version))
			if version%2 == 0 {
				c.Lines = append(c.Lines, fmt.Sprintf(`meta l4proto tcp ip6 %s @cidr6%s tcp dport 1000-2000 counter %s`, d.peer, block(p, version), d.verdict))
			}
			policies = append(policies, c)
		}
	}
	for g, members := range w.groups {
		for _, d := range []struct{ dir, letter string }{{"i", "I"}, {"e", "E"}} {
			name := "g" + d.dir + "-" + g
			denials = append(denials, object(ruleset.Chain, "deny-"+name, nil, []string{
				"ip saddr . ip daddr @self4 accept",
				"ip6 saddr . ip6 daddr @self6 accept",
				fmt.Sprintf(`limit rate 10/second burst 20 packets log prefix "towpath %s %s " group 100 snaplen 64`, d.letter, name),
				"counter drop",
			}))
			c := object(ruleset.Chain, name, []string{fmt.Sprintf(`comment "policies of %s"`, g)}, nil)
			for _, p := range members {
				if _, ok := w.policies[p]; ok {
					c.Lines = append(c.Lines, fmt.Sprintf("jump p%s-ns-%d/pol.%d", d.dir, p%5, p))
				}
			}
			c.Lines = append(c.Lines, "goto deny-"+name)
			groups = append(groups, c)
		}
	}
	byName := func(a, b *ruleset.Object) int { return strings.Compare(a.Name, b.Name) }
	for _, part := range [][]*ruleset.Object{sets, policies, denials, groups} {
		slices.SortFunc(part, byName)
	}
	chain := func(name string, lines ...string) *ruleset.Object { return object(ruleset.Chain, name, nil, lines) }
	unknown := chain("unknown-pod", `limit rate 10/second burst 20 packets log prefix "towpath ? unknown " group 100 snaplen 64`, "counter drop")
	ingress := chain("ingress", "ip daddr vmap @ingress4", "ip6 daddr vmap @ingress6", "fib daddr type local accept",
		"ip daddr @local4 goto unknown-pod", "ip6 daddr @local6 goto unknown-pod", "accept")
	egress := chain("egress", "ip saddr vmap @egress4", "ip6 saddr vmap @egress6",
		"ip saddr @local4 goto unknown-pod", "ip6 saddr @local6 goto unknown-pod", "goto ingress")
	forward := chain("forward", `ct mark & 0x00080000 == 0x00080000 counter drop comment "cut"`, "ct state established,related accept",
		"ct state invalid drop", `iifname "cni0" ip saddr != @local4 goto unknown-pod`, "goto egress")
	forward.Head = []string{"type filter hook forward priority filter; policy accept;"}
	// What a map's elements go to stands before the map, and what looks up in it after.
	inside := func(dir string) []*ruleset.Object {
		return slices.DeleteFunc(slices.Clone(slices.Concat(policies, denials, groups)), func(o *ruleset.Object) bool {
			at := map[string]string{"i": "pi-", "e": "pe-"}[dir]
			return !strings.HasPrefix(o.Name, at) && !strings.HasPrefix(o.Name, "g"+dir+"-") && !strings.HasPrefix(o.Name, "deny-g"+dir+"-")
		})
	}
	all := slices.Concat(sets, []*ruleset.Object{unknown}, inside("i"),
		[]*ruleset.Object{
			object(ruleset.Map, "ingress4", []string{"type ipv4_addr : verdict"}, ingress4),
			object(ruleset.Map, "ingress6", []string{"type ipv6_addr : verdict"}, ingress6), ingress,
		},
		inside("e"),
		[]*ruleset.Object{
			object(ruleset.Map, "egress4", []string{"type ipv4_addr : verdict"}, egress4),
			object(ruleset.Map, "egress6", []string{"type ipv6_addr : verdict"}, egress6), egress, forward,
		}, w.bridge())
	return all
}

// bridge is the part against forged addresses.
func (w *world) bridge() []*ruleset.Object {
	var ports, port4, ports6 []string
	for p := range w.pods {
		ports = append(ports, fmt.Sprintf("\"veth%d\"", p))
		port4 = append(port4, fmt.Sprintf("\"veth%d\" . 02:00:00:00:%02x:%02x . %s", p, p/256, p%256, pod4(p)))
		ports6 = append(ports6, fmt.Sprintf("\"veth%d\" . 02:00:00:00:%02x:%02x . %s", p, p/256, p%256, pod6(p)))
	}
	object := func(kind ruleset.Kind, name string, head []string, lines []string) *ruleset.Object {
		if kind != ruleset.Chain {
			slices.Sort(lines)
		}
		return &ruleset.Object{ID: ruleset.ID{Family: "bridge", Kind: kind, Name: name}, Head: head, Lines: lines}
	}
	return []*ruleset.Object{
		object(ruleset.Set, "ports", []string{"type ifname"}, ports),
		object(ruleset.Set, "port4", []string{"type ifname . ether_addr . ipv4_addr"}, port4),
		object(ruleset.Set, "port6", []string{"type ifname . ether_addr . ipv6_addr"}, ports6),
		object(ruleset.Chain, "spoofed", nil, []string{`limit rate 10/second burst 20 packets log prefix "towpath S spoof " group 100 snaplen 64`, "counter drop"}),
		object(ruleset.Chain, "pod", nil, []string{
			"iifname . ether saddr . ip saddr @port4 return", "iifname . arp saddr ether . arp saddr ip @port4 accept",
			"iifname . ether saddr . ip6 saddr @port6 accept", "goto spoofed",
		}),
		object(ruleset.Chain, "prerouting", []string{"type filter hook prerouting priority -300; policy accept;"}, []string{"iifname @ports jump pod"}),
	}
}

// write is what policy-render does with a ruleset; it returns the generation.
func (w *world) write(t testing.TB, dir state.Dir) string {
	t.Helper()
	if err := writeObjects(dir, w.endpoints, w.render()); err != nil {
		t.Fatal(err)
	}
	p, err := readPolicy(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.generation
}

// writeObjects writes new files, then policy.nft, and then removes what it does not name.
func writeObjects(dir state.Dir, endpoints []string, objects []*ruleset.Object) error {
	root, err := filepath.Abs(dir.Policy())
	if err != nil {
		return err
	}
	m := &ruleset.Manifest{Node: "worker01", Endpoints: endpoints}
	named := map[string]bool{}
	for _, o := range objects {
		text := o.Text()
		path := filepath.Join(root, o.Path())
		if _, err := state.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		m.Entries = append(m.Entries, ruleset.Entry{Path: o.Path(), Digest: ruleset.Digest(text)})
		named[path] = true
	}
	if _, err := state.WriteFile(dir.PolicyNFT(), m.Text(root), 0o644); err != nil {
		return err
	}
	old, err := filepath.Glob(root + "/*/*/*.nft")
	for _, path := range old {
		if !named[path] {
			os.Remove(path)
		}
	}
	return err
}
