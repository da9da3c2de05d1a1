// Package explain says in words, as JSON and as a page what the compiled policies mean: why a packet passes or
// not, what a change of policies allows and forbids, and who reaches whom. It evaluates the model that the
// renderer prints and asks model.Cluster.Judge for every verdict, so that it cannot disagree with the rules.
// It reads and writes nothing.
package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/typo"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Setting is what a question is answered against.
type Setting struct {
	Cluster *model.Cluster
	// Node is the name of the node of the rules and NodeAddrs its addresses, where they are known.
	Node      string
	NodeAddrs []netip.Addr
	// Subnets are the pod subnets of the node of the rules, where they are known: an address in there that no pod
	// has is closed.
	Subnets []netip.Prefix
	// TunnelPort is the UDP port of the tunnel between the nodes, 0: unknown, and Network the pod network. A pod may not send
	// to that port out of the network, nor to a node.
	TunnelPort int
	Network    []netip.Prefix
	// EgressAllowed: pods may send to their own node whatever policies say (--node-egress allow).
	EgressAllowed bool
	// Placed are the pods that were given an address to be judged by (see Place).
	Placed map[model.Key]bool
	// Waiting are the pods that this node has an endpoint for which does not fit the object: it is another instance's.
	Waiting map[model.Key]bool
}

// End is an end of a connection: a pod, an address, or, where neither is set, some address outside the cluster.
type End struct {
	Pod  model.Key
	Addr netip.Addr
}

// ParseEnd reads NAMESPACE/POD, an address, or "external".
func ParseEnd(s string) (End, error) {
	if s == "external" {
		return End{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return End{Addr: a.Unmap()}, nil
	}
	ns, name, ok := strings.Cut(s, "/")
	if !ok || !model.IsDNSLabel(ns) || !model.IsDNSName(name) {
		return End{}, exit.WithHint(exit.Errorf(exit.Usage, "%q is neither NAMESPACE/POD, nor an address, nor \"external\"", s),
			"a pod is written with its namespace: default/web")
	}
	return End{Pod: model.Key{Namespace: ns, Name: name}}, nil
}

func (e End) external() bool { return e == End{} }

// Port is what the connection is to.
type Port struct {
	Protocol model.Protocol // 0 for a name alone
	Number   uint16
	Name     string
}

// ParsePort reads "80/TCP", "80" (TCP), "http" and "http/TCP" (of the destination's named ports) and "icmp".
func ParsePort(s string) (Port, error) {
	text, protocol, ok := strings.Cut(s, "/")
	p := Port{}
	if ok {
		if p.Protocol, ok = model.ParseProtocol(strings.ToUpper(protocol)); !ok {
			return p, exit.Errorf(exit.Usage, "port %q: the protocol is TCP, UDP or SCTP", s)
		}
	} else if strings.EqualFold(s, "icmp") {
		return Port{Protocol: model.ICMP}, nil
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
		if p.Number = uint16(n); p.Protocol == 0 {
			p.Protocol = model.TCP
		}
		return p, nil
	}
	if err := model.CheckPortName(text); err != nil {
		return p, exit.Errorf(exit.Usage, "port %q: it is N/PROTOCOL (80/TCP), a port's name, or icmp", s)
	}
	p.Name = text
	return p, nil
}

// resolve finds what a port's name means for the destination.
func (p Port) resolve(to *party) (Port, []string, error) {
	if p.Name == "" {
		return p, nil, nil
	}
	if to.pod == nil {
		return p, nil, exit.WithHint(exit.Errorf(exit.BadInput, "port %q: %s is no pod, so it has no names for ports", p.Name, to.name),
			"give a number: --port 80/TCP")
	}
	var found []model.NamedPort
	var names []string
	for _, np := range to.pod.Ports {
		names = append(names, fmt.Sprintf("%s (%d/%s)", np.Name, np.Port, np.Protocol))
		if np.Name == p.Name && (p.Protocol == 0 || p.Protocol == np.Protocol) {
			found = append(found, np)
		}
	}
	if len(found) == 0 {
		hint := "it has no named ports"
		if len(names) > 0 {
			hint = "its named ports are " + strings.Join(names, ", ")
		}
		return p, nil, exit.WithHint(exit.Errorf(exit.BadInput, "port %q: %s has no container port of that name", p.Name, to.name), "%s", hint)
	}
	var notes []string
	if len(found) > 1 {
		notes = append(notes, fmt.Sprintf("%s gives the name %s to several ports; this is about the first, %d/%s", to.name, p.Name, found[0].Port, found[0].Protocol))
	}
	return Port{Protocol: found[0].Protocol, Number: found[0].Port, Name: p.Name}, notes, nil
}

func (p Port) words() string {
	switch {
	case p.Protocol == model.ICMP || p.Protocol == model.ICMPv6:
		return "ICMP" // of either family
	case p.Name != "":
		return fmt.Sprintf("%s %d (%s)", p.Protocol, p.Number, p.Name)
	}
	return fmt.Sprintf("%s %d", p.Protocol, p.Number)
}

// party is an End, found.
type party struct {
	kind  string // pod, node, address, external
	name  string // for a text: dev/a, 10.0.0.1, external
	key   model.Key
	pod   *model.Pod // also of a hostNetwork or finished one
	node  string     // that it runs on, or that it is
	addrs []netip.Addr
	notes []string
	dead  string // why no packet can come from or to it
}

// subject says whether policies apply to it.
func (p *party) subject() bool { return p.kind == "pod" && p.dead == "" }

// find makes a party of an End.
func (s *Setting) find(e End, nodes map[netip.Addr]string) (*party, error) {
	switch {
	case e.external():
		return &party{kind: "external", name: "external"}, nil
	case e.Addr.IsValid():
		return s.findAddr(e.Addr, nodes), nil
	}
	pod := s.Cluster.Pod(e.Pod)
	if pod == nil {
		return nil, exit.WithHint(exit.Errorf(exit.BadInput, "find pod %s: the objects hold none of that name", e.Pod), "%s", s.nearest(e.Pod))
	}
	p := &party{kind: "pod", name: e.Pod.String(), key: e.Pod, pod: pod, node: pod.Node, addrs: s.Cluster.Addrs(e.Pod)}
	switch {
	case pod.Finished:
		p.dead = fmt.Sprintf("%s has finished: its addresses are in no set, and what comes from or to them is dropped as of an unknown pod", p.name)
	case pod.HostNetwork:
		p.kind = "node"
		p.addrs = slices.Clone(pod.HostIPs)
		for _, a := range pod.IPs {
			if !slices.Contains(p.addrs, a) {
				p.addrs = append(p.addrs, a)
			}
		}
		p.notes = append(p.notes, fmt.Sprintf("%s uses its node's network: no policy selects it, and it counts as an address of its node", p.name))
	case s.Waiting[e.Pod]:
		p.dead = fmt.Sprintf("%s on this node is another instance (uid) than the objects tell of: it stays closed until they do", p.name)
	case s.Placed[e.Pod]:
		p.notes = append(p.notes, fmt.Sprintf("%s has no address yet: it is judged by its labels, and by blocks of addresses only where they hold every address", p.name))
		return p, nil
	}
	if len(p.addrs) == 0 && p.dead == "" {
		p.dead = p.name + " has no address"
	}
	return p, nil
}

func (s *Setting) findAddr(a netip.Addr, nodes map[netip.Addr]string) *party {
	p := &party{kind: "address", name: a.String(), addrs: []netip.Addr{a}}
	if pod := s.Cluster.PodByAddr(a); pod != nil {
		p.kind, p.name, p.key, p.pod, p.node = "pod", pod.String(), pod.Key, pod, pod.Node
		return p
	}
	if node, ok := nodes[a]; ok {
		p.kind, p.node = "node", node
		p.notes = append(p.notes, fmt.Sprintf("%s is an address of node %s", a, node))
		return p
	}
	p.notes = append(p.notes, fmt.Sprintf("no pod and no node of the objects has the address %s", a))
	for _, subnet := range s.Subnets {
		if subnet.Contains(a) {
			p.dead = fmt.Sprintf("%s lies in this node's pod subnet %s and no pod is known to have it: it is closed", a, subnet)
		}
	}
	return p
}

// nodes are the addresses of nodes, as the pods on them tell.
func (s *Setting) nodes() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, a := range s.NodeAddrs {
		out[a] = s.Node
	}
	for _, p := range s.Cluster.Pods() {
		tells := p.HostIPs
		if p.HostNetwork {
			tells = slices.Concat(tells, p.IPs)
		}
		for _, a := range tells {
			if _, ok := out[a]; !ok && !p.Finished {
				out[a] = p.Node
			}
		}
	}
	return out
}

// nearest is a hint for a name that nothing has.
func (s *Setting) nearest(want model.Key) string {
	type near struct {
		distance int
		key      model.Key
	}
	var all []near
	for _, p := range s.Cluster.Pods() {
		d := typo.Distance(p.Name, want.Name)
		if strings.HasPrefix(p.Name, want.Name) {
			d = 1 // web for web-5d9c-x2k8p
		}
		if p.Namespace != want.Namespace {
			d += 1 + typo.Distance(p.Namespace, want.Namespace)
		}
		all = append(all, near{d, p.Key})
	}
	if len(all) == 0 {
		return "the objects hold no pods at all: is --objects right?"
	}
	slices.SortStableFunc(all, func(a, b near) int { return a.distance - b.distance })
	names := make([]string, min(3, len(all)))
	for i := range names {
		names[i] = all[i].key.String()
	}
	return "the nearest names are " + strings.Join(names, ", ")
}

var errBothExternal = errors.New("--from and --to are both outside the cluster: no policy of this cluster is about that")
