package main

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/state"
)

// Refusal is why a node cannot have the subnet that its Node object gives it. It is told in an Event, too.
type Refusal struct {
	Reason string // in the form of an Event's
	Err    error
}

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Adopt is Pick where somebody else gives out the subnets: the node's podCIDRs are its lease. have is what the node
// publishes now, want what it should; they differ only once link.json says how the node is reached, so that no other
// node, be it flannel's, ever reads half of it.
func (q Request) Adopt(own kube.Node) (have, want Record, err error) {
	refuse := func(reason, hint string, code exit.Code, format string, args ...any) error {
		return &Refusal{reason, exit.WithHint(exit.Errorf(code, format, args...), "%s", hint)}
	}
	subnets, err := podCIDRs(own)
	if err != nil {
		return have, want, refuse("InvalidPodCIDR", "the Node object's spec.podCIDRs cannot be used", exit.BadConfig, "node %q: %w", q.Node, err)
	}
	have = Record{Version: state.Version, Node: q.Node, Granted: stamp(own.Created)}
	for _, f := range q.Conf.Enabled() {
		p, network := subnets.Of(f), q.Conf.Network.Of(f)
		switch on := q.Uplink.overlapping(p, network); {
		case len(own.PodCIDRs) == 0:
			return have, want, refuse("PodCIDRMissing",
				"the controller manager assigns it: give it --allocate-node-cidrs and --cluster-cidr (kubeadm: podSubnet, --pod-network-cidr)",
				exit.TryAgain, "node %q has no podCIDR yet", q.Node)
		case !p.IsValid():
			return have, want, refuse("PodCIDRMissing",
				"give the controller manager's --cluster-cidr a range of each family, or switch the family off in net-conf.json",
				exit.TryAgain, "node %q has no podCIDR of %s, only %s", q.Node, name(f), strings.Join(own.PodCIDRs, " "))
		case network.Bits() > p.Bits() || !network.Contains(p.Addr()):
			return have, want, refuse("PodCIDROutsideNetwork",
				"make Network in net-conf.json the same range as the controller manager's --cluster-cidr",
				exit.BadConfig, "podCIDR %s of node %q lies outside the network %s of %s", p, q.Node, network, q.Path)
		case len(on) > 0:
			return have, want, refuse("PodCIDROverlapsNodes", "give the cluster a range for pods that no network of the nodes is in",
				exit.BadConfig, "podCIDR %s of node %q overlaps the network between the nodes: %s has the address %s", p, q.Node, q.Uplink.Dev, on[0])
		}
		have.Subnet.Set(f, p)
	}
	if have.PublicIP, have.Backend, err = publishedBy(own); err != nil {
		have.PublicIP, have.Backend = state.Pair[netip.Addr]{}, state.Published{} // written anew
	}
	have = restrict(have, q.Conf)
	want = have
	if q.Backend.Type == "" {
		return have, want, nil
	}
	want.PublicIP = q.PublicIP
	for f, key := range overwriteKeys {
		addr, err := addressIn(own, key, f)
		if err != nil {
			return have, want, refuse("InvalidAnnotation", "correct the annotation", exit.BadConfig, "node %q: %w", q.Node, err)
		}
		if addr.IsValid() {
			want.PublicIP.Set(f, addr)
		}
	}
	want.Backend = state.Published{
		Type: q.Backend.Type, Data: inFlannelsOrder(q.Backend.Data), DataV6: inFlannelsOrder(q.Backend.DataV6),
	}
	want = restrict(want, q.Conf)
	for _, f := range state.Families {
		if _, ok := annotationsOf(want.PublicIP, want.Backend)[publicKeys[f]]; ok {
			continue
		}
		// What cannot be told yet, as the new family of a tunnel that stands for one, stays as it was told.
		want.PublicIP.Set(f, have.PublicIP.Of(f))
		if f == state.IPv4 {
			want.Backend.Data = have.Backend.Data
		} else {
			want.Backend.DataV6 = have.Backend.DataV6
		}
	}
	return have, want, nil
}

// restrict leaves the families in use.
func restrict(r Record, conf netconf.Config) Record {
	for _, f := range state.Families {
		if conf.Network.Has(f) {
			continue
		}
		r.Subnet.Set(f, netip.Prefix{})
		r.PublicIP.Set(f, netip.Addr{})
		if f == state.IPv4 {
			r.Backend.Data = nil
		} else {
			r.Backend.DataV6 = nil
		}
	}
	return r
}

// given is the addresses that a node's annotations give it, as --public-ip and --public-ipv6 would.
func given(own kube.Node) (addrs state.Pair[netip.Addr], err error) {
	for f, key := range givenKeys {
		addr, err := addressIn(own, key, f)
		if err != nil {
			return addrs, &Refusal{"InvalidAnnotation", exit.WithHint(exit.Errorf(exit.BadConfig, "node %q: %w", own.Name, err), "correct the annotation")}
		}
		addrs.Set(f, addr)
	}
	return addrs, nil
}

// with is the selection with the addresses that annotations give. Where nothing else names the interface, it is the one that
// has the address.
func (s Selection) with(addrs state.Pair[netip.Addr]) Selection {
	for _, f := range state.Families {
		if !addrs.Has(f) {
			continue
		}
		s.PublicIP.Set(f, addrs.Of(f))
		if len(s.Ifaces) == 0 && len(s.Regexes) == 0 && !s.CanReach.IsValid() {
			s.Ifaces = []string{addrs.Of(f).String()}
			s.because = "the annotation " + givenKeys[f]
		}
	}
	return s
}

// confirm refuses what annotations ask for and the machine does not have: without --iface, the addresses are to be those of
// one interface, as with flannel.
func (s Selection) confirm(up Uplink, chosen error) error {
	if s.because == "" {
		return chosen
	}
	if chosen != nil {
		return &Refusal{"PublicIPNotLocal", exit.WithHint(chosen, "correct %s, or name the interface with --iface", s.because)}
	}
	for _, f := range state.Families {
		a := s.PublicIP.Of(f)
		if a.IsValid() && !slices.ContainsFunc(up.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return &Refusal{"PublicIPNotLocal", exit.WithHint(exit.Errorf(exit.TryAgain, "%s is no address of %s, which %s names", a, up.Dev, s.because),
				"correct the annotation %s, or name the interface with --iface", givenKeys[f])}
		}
	}
	return nil
}
