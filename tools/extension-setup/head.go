package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

// The keys of the commands in net-conf.json.
const (
	keyPre      = "PreStartupCommand"
	keyPost     = "PostStartupCommand"
	keyAdd      = "SubnetAddCommand"
	keyRemove   = "SubnetRemoveCommand"
	keyShutdown = "ShutdownCommand"
)

var keys = []string{keyPre, keyPost, keyAdd, keyRemove, keyShutdown}

// head is what this node was told, beside the other nodes.
type head struct {
	commands map[string]string // by key
	network  state.Pair[netip.Prefix]
	subnet   state.Pair[netip.Prefix]
	env      []string // of PostStartupCommand
	link     state.Link
}

func (s *step) readHead() (head, error) {
	in, link, err := s.uplink.Look()
	if err != nil {
		return head{}, err
	}
	lease, err := state.Load[state.Lease](s.run.Lease())
	if errors.Is(err, fs.ErrNotExist) {
		err = exit.WithHint(err, "subnet-lease writes it; --run-dir says where")
	}
	if err != nil {
		return head{}, err
	}
	if lease.Backend.Type != backend || lease.Subnet != in.Subnet || lease.PublicIP != in.PublicIP {
		return head{}, exit.WithHint(exit.Errorf(exit.TryAgain, "%q and %q do not agree", s.run.Lease(), s.run.Backend(backend)), "subnet-lease writes both")
	}
	h := head{commands: map[string]string{}, network: lease.Network, subnet: in.Subnet, link: link, env: environment(in.Subnet, in.PublicIP)}
	h.env = append([]string{"NETWORK=" + text(lease.Network.IPv4)}, h.env...)
	if len(in.Backend.Raw) > 0 {
		var raw map[string]any
		if err := state.Decode(in.Backend.Raw, &raw); err != nil {
			return head{}, &state.Error{Path: s.run.Backend(backend), Key: "backend.raw", Err: err}
		}
		for _, key := range keys {
			h.commands[key], _ = raw[key].(string)
		}
	}
	for _, key := range keys {
		if _, err := parse(h.commands[key]); err != nil {
			return head{}, exit.WithHint(&state.Error{Path: s.run.Backend(backend), Key: "backend.raw." + key, Err: err, Code: exit.BadConfig},
				"no shell runs the command: put it into a script and name that, or write sh -c '…' where there is a shell")
		}
	}
	return h, nil
}

// environment is what flannel tells a command of a node, be it this one or another.
func environment(subnet state.Pair[netip.Prefix], public state.Pair[netip.Addr]) []string {
	return []string{
		"SUBNET=" + text(subnet.IPv4), "IPV6SUBNET=" + text(subnet.IPv6), "PUBLIC_IP=" + text(public.IPv4), "PUBLIC_IPV6=" + text(public.IPv6),
	}
}

// text is a value, or nothing where it has none.
func text[T interface {
	IsValid() bool
	String() string
}](v T) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// startup is the record of the start-up commands once they have run.
func (s *step) startup(h head) state.ExtensionStartup {
	return state.ExtensionStartup{
		Version: state.Version, PreStartup: h.commands[keyPre], PostStartup: h.commands[keyPost], Shutdown: h.commands[keyShutdown], Env: h.env,
		Boot: s.place.Boot, Netns: s.place.Netns,
	}
}

// here says that a record is of this boot and this network namespace.
func (s *step) here(r state.ExtensionStartup) bool {
	return r.Boot == s.place.Boot && r.Netns == s.place.Netns
}

// stands says that what was run for have is what is wanted. Where no command was told of the node's addresses they do
// not matter.
func stands(have, want state.ExtensionStartup) bool {
	return have.Done && have.PreStartup == want.PreStartup && have.PostStartup == want.PostStartup &&
		(want.PostStartup == "" || slices.Equal(have.Env, want.Env))
}

// linkWith is link.json with what PreStartupCommand printed.
func (h head) linkWith(r state.ExtensionStartup) (state.Link, error) {
	link := h.link
	if r.PreStartup == "" {
		return link, nil
	}
	data, err := json.Marshal(r.Data)
	if err != nil {
		return link, err
	}
	// flannel publishes it with IPv4's; where that is not used there is only the other place.
	if h.subnet.Has(state.IPv4) {
		link.Publish.Data = data
	} else {
		link.Publish.DataV6 = data
	}
	return link, nil
}

// verdict is what a peer needs.
type verdict struct {
	want *state.ExtensionPeer // nil: nothing
	keep bool                 // whatever was run for it stays
	why  string               // why it is left out
}

// decide says what a peer needs. It is pure.
func (h head) decide(p state.Peer) verdict {
	if p.Backend.Type != backend {
		// A cluster changes its back end node by node; the old way leads there until both have.
		return verdict{keep: true, why: fmt.Sprintf("its backend is %s, this node's %s", p.Backend.Type, backend)}
	}
	var subnet state.Pair[netip.Prefix]
	for _, f := range state.Families {
		their, own, network := p.Subnet.Of(f), h.subnet.Of(f), h.network.Of(f)
		switch {
		case !p.Subnet.Has(f) || !h.subnet.Has(f):
		case own.Overlaps(their):
			return verdict{why: fmt.Sprintf("its subnet %s overlaps this node's %s", their, own)}
		case !network.Contains(their.Addr()) || their.Bits() < network.Bits():
			return verdict{why: fmt.Sprintf("its subnet %s is outside the network %s", their, network)}
		default:
			subnet.Set(f, their)
		}
	}
	if subnet == (state.Pair[netip.Prefix]{}) {
		return verdict{why: "it has no subnet of a family that this node uses"}
	}
	if h.commands[keyAdd]+h.commands[keyRemove] == "" {
		return verdict{}
	}
	data := p.Backend.Data
	if len(data) == 0 || string(data) == "null" {
		data = p.Backend.DataV6
	}
	want := state.ExtensionPeer{
		Version: state.Version, Add: h.commands[keyAdd], Remove: h.commands[keyRemove], Env: environment(subnet, p.PublicIP), Done: true,
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &want.Data); err != nil {
			return verdict{keep: true, why: "what it has published is no text: " + err.Error()}
		}
	}
	want.Data = strings.TrimSpace(want.Data)
	return verdict{want: &want}
}
