package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// Selection is how the administrator wants the interface between the nodes to be chosen.
type Selection struct {
	Ifaces   []string         // names or addresses, in order of preference
	Regexes  []*regexp.Regexp // matched against names and addresses, in order of preference
	CanReach netip.Addr       // invalid: not given
	// PublicIP are fixed addresses to publish instead of the interface's own.
	PublicIP state.Pair[netip.Addr]

	because string // what names Ifaces, where it is not --iface
}

// Choice is the interface chosen.
type Choice struct {
	Interface state.Interface
	PublicIP  state.Pair[netip.Addr]
	Why       string
}

// candidate is an interface that one of the ways of choosing names; addr is set where an address was
// what matched.
type candidate struct {
	link nl.Link
	addr netip.Addr
	why  string
}

// Choose decides on the interface. families are those that the network uses; before is the interface of
// the last lease, whose addresses are kept as long as they are there, so that another address beside
// them changes nothing.
func (s Selection) Choose(u nl.Uplinks, families []state.Family, before state.Interface) (Choice, error) {
	candidates, asked := s.candidates(u, families)
	var refused []string
	for _, c := range candidates {
		choice := Choice{Interface: state.Interface{Name: c.link.Name, MTU: c.link.MTU}, Why: c.why}
		lacking := ""
		for _, f := range families {
			addr := addressOf(u, c, f, before)
			if !addr.IsValid() {
				lacking = fmt.Sprintf("%s (%s) has no usable %s address", c.link.Name, c.why, name(f))
				break
			}
			choice.Interface.IP.Set(f, addr)
			choice.PublicIP.Set(f, addr)
			if fixed := s.PublicIP.Of(f); fixed.IsValid() {
				choice.PublicIP.Set(f, fixed)
			}
		}
		if lacking == "" {
			return choice, nil
		}
		if !slices.Contains(refused, lacking) {
			refused = append(refused, lacking)
		}
	}
	if len(refused) == 0 {
		refused = []string{asked}
	}
	// The interface may come up any moment, so this is no wrong configuration.
	return Choice{}, exit.WithHint(exit.Errorf(exit.TryAgain, "choose interface: %s; there are %s", strings.Join(refused, "; "), inventory(u)),
		"name one with --iface")
}

// candidates lists what the selection names, best first; asked says what was looked for.
func (s Selection) candidates(u nl.Uplinks, families []state.Family) (list []candidate, asked string) {
	links := map[int]nl.Link{}
	for _, l := range u.Links {
		links[l.Index] = l
	}
	each := func(match func(text string) bool, why string) {
		for _, l := range u.Links {
			if match(l.Name) {
				list = append(list, candidate{link: l, why: why})
			}
		}
		for _, a := range u.Addrs {
			if ip := a.Prefix.Addr(); match(ip.String()) {
				list = append(list, candidate{link: links[a.Link], addr: ip, why: why})
			}
		}
	}
	for _, want := range s.Ifaces {
		addr, _ := netip.ParseAddr(want)
		each(func(text string) bool { return text == want || addr.IsValid() && text == addr.String() }, cmp.Or(s.because, "--iface "+want))
	}
	for _, re := range s.Regexes {
		each(func(text string) bool { return text != "lo" && re.MatchString(text) }, "--iface-regex "+re.String())
	}
	switch {
	case len(s.Ifaces) > 0 || len(s.Regexes) > 0:
		asked = "none matches " + strings.Join(s.Ifaces, ", ")
		if len(s.Ifaces) == 0 {
			asked = "none matches " + fmt.Sprint(s.Regexes)
		}
	case s.CanReach.IsValid():
		asked = fmt.Sprintf("no route to %s", s.CanReach)
		if l, ok := links[u.Reach]; ok {
			list = append(list, candidate{link: l, why: fmt.Sprintf("--iface-can-reach %s", s.CanReach)})
		}
	default:
		asked = "there is no default route"
		for _, f := range families {
			for _, index := range u.Default[f] {
				if l, ok := links[index]; ok {
					list = append(list, candidate{link: l, why: fmt.Sprintf("the %s default route", name(f))})
				}
			}
		}
	}
	return list, asked
}

// addressOf picks the address of a family on an interface: the one that matched, the one of the last
// lease, else the first of global scope that is no secondary or temporary one. Deprecated and
// tentative addresses are none.
func addressOf(u nl.Uplinks, c candidate, f state.Family, before state.Interface) netip.Addr {
	var best netip.Addr
	rank := 0
	for _, a := range u.Addrs {
		ip := a.Prefix.Addr()
		if a.Link != c.link.Index || state.FamilyOf(ip) != f || a.Unusable || ip.IsMulticast() || ip.IsUnspecified() {
			continue
		}
		r := 0
		switch global := a.Scope == 0 && !ip.IsLinkLocalUnicast() && !ip.IsLoopback(); {
		case ip == c.addr:
			r = 4
		case c.addr.IsValid() && state.FamilyOf(c.addr) == f: // another than the one asked for
		case global && before.Name == c.link.Name && ip == before.IP.Of(f) && !a.Secondary:
			r = 3
		case global && !a.Secondary:
			r = 2
		case global:
			r = 1
		}
		if r > rank {
			best, rank = ip, r
		}
	}
	return best
}

// inventory lists the interfaces with their addresses, for an error message.
func inventory(u nl.Uplinks) string {
	var all []string
	for _, l := range u.Links {
		if l.Name == "lo" {
			continue
		}
		var addrs []string
		for _, a := range u.Addrs {
			if a.Link == l.Index && !a.Prefix.Addr().IsLinkLocalUnicast() {
				addrs = append(addrs, a.Prefix.Addr().String())
			}
		}
		status := "down"
		if l.Up {
			status = "up"
		}
		all = append(all, fmt.Sprintf("%s (%s)", l.Name, strings.Join(append([]string{status}, addrs...), " ")))
		if len(all) == 20 {
			all = append(all, "more")
			break
		}
	}
	if len(all) == 0 {
		return "no interfaces"
	}
	return strings.Join(all, ", ")
}

func name(f state.Family) string {
	if f == state.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}
