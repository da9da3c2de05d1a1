package oracle

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// cluster is a random cluster, small, so that its policies and packets have much to do with each other.
type cluster struct {
	*rand.Rand
	v4, v6     bool
	lax        bool // it holds selectors that no API server takes today and no file may have
	namespaces []model.Namespace
	pods       []model.Pod
	policies   []*networkingv1.NetworkPolicy
	// external are addresses that no pod has: of the Internet, of nodes, and of the pod network.
	external []netip.Addr
	owner    map[netip.Addr]*model.Pod // the pod that an address means, if any
}

// node is the one whose rules are rendered.
const node = "node1"

var (
	labelValues = map[string][]string{
		"app": {"web", "api", "db"}, "tier": {"front", "back"}, "version": {"1", "2", "3"}, "flag": {""}, "example.org/team": {"a", "b"},
	}
	labelKeys = []string{"app", "tier", "version", "flag", "example.org/team"}
	portNames = []string{"http", "dns", "metrics"}
	protocols = []model.Protocol{model.TCP, model.UDP, model.SCTP}
	ports     = []uint16{1, 53, 79, 80, 81, 443, 8080, 8081, 9000, 32768, 65535}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// chance is true in so many of a hundred cases.
func (c *cluster) chance(percent int) bool { return c.IntN(100) < percent }

func (c *cluster) labels() map[string]string {
	l := map[string]string{}
	for _, k := range labelKeys {
		if c.chance(55) {
			l[k] = pick(c.Rand, labelValues[k])
		}
	}
	return l
}

// address is an address of each family in use, of host n in subnet s; s 0 is the network of the nodes.
func (c *cluster) address(s, n int) []netip.Addr {
	var a []netip.Addr
	if c.v4 {
		text := fmt.Sprintf("10.244.%d.%d", s, n)
		if s == 0 {
			text = fmt.Sprintf("192.168.7.%d", n)
		}
		a = append(a, netip.MustParseAddr(text))
	}
	if c.v6 {
		text := fmt.Sprintf("fd00:10:244:%d::%x", s, n)
		if s == 0 {
			text = fmt.Sprintf("fd00:7::%x", n)
		}
		a = append(a, netip.MustParseAddr(text))
	}
	return a
}

func generate(seed uint64, v4, v6 bool) *cluster {
	c := &cluster{Rand: rand.New(rand.NewPCG(seed, 3)), v4: v4, v6: v6, owner: map[netip.Addr]*model.Pod{}}
	c.lax = seed%10 == 0
	for i := range 2 + c.IntN(3) {
		c.namespaces = append(c.namespaces, model.Namespace{Name: fmt.Sprintf("ns-%d", i), Labels: c.labels()})
	}
	c.makePods()
	for i := range c.IntN(25) {
		c.policies = append(c.policies, c.policy(i))
	}
	return c
}

func (c *cluster) makePods() {
	for i := range 8 + c.IntN(25) {
		subnet := 1 + min(c.IntN(5), 2) // node3 has more
		if c.chance(30) {
			subnet = 1
		}
		p := model.Pod{
			Key: model.Key{Namespace: pick(c.Rand, c.namespaces).Name, Name: fmt.Sprintf("pod-%d", i)},
			UID: fmt.Sprint(i), Labels: c.labels(), Node: fmt.Sprintf("node%d", subnet), IPs: c.address(subnet, 2+i),
			HostIPs: c.address(0, subnet), Ports: c.namedPorts(),
		}
		switch {
		case c.chance(6):
			p.HostNetwork, p.IPs = true, p.HostIPs
		case c.chance(8):
			p.Finished = true
		case c.chance(10) && i > 0 && c.pods[i-1].Finished && c.pods[i-1].Node == p.Node:
			p.IPs = c.pods[i-1].IPs // as it may be once the other has finished
		}
		c.pods = append(c.pods, p)
	}
	for i := range c.pods {
		p := &c.pods[i]
		for _, a := range p.IPs {
			switch {
			case p.HostNetwork:
				if p.Node != node {
					c.external = append(c.external, a)
				}
			case !p.Finished:
				c.owner[a] = p
			}
		}
	}
	for i := range c.pods {
		p := &c.pods[i]
		for _, a := range p.IPs { // the addresses of finished pods mean nobody; those of this node's are closed
			if p.Finished && c.owner[a] == nil && p.Node != node {
				c.external = append(c.external, a)
			}
		}
	}
	c.external = append(c.external, c.address(0, 9)...)
	c.external = append(c.external, c.address(9, 9)...) // of the pod network, and nobody's
	if c.v4 {
		c.external = append(c.external, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("8.8.8.8"))
	}
	if c.v6 {
		c.external = append(c.external, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::8000:0:0:1"), netip.MustParseAddr("2600::8"))
	}
}

// namedPorts are up to five, so that a name may occur twice, with one protocol or several.
func (c *cluster) namedPorts() []model.NamedPort {
	var list []model.NamedPort
	for range c.IntN(6) {
		list = append(list, model.NamedPort{Name: pick(c.Rand, portNames), Protocol: pick(c.Rand, protocols), Port: pick(c.Rand, ports)})
	}
	return list
}

// tuple is a packet to be judged: at least one end is a pod.
type tuple struct {
	from, to netip.Addr
	protocol model.Protocol
	port     uint16
}

func (c *cluster) tuples(n int) []tuple {
	var pods []netip.Addr
	for i := range c.pods {
		if p := &c.pods[i]; !p.HostNetwork && !p.Finished {
			pods = append(pods, p.IPs...)
		}
	}
	end := func() netip.Addr {
		if c.chance(78) {
			return pick(c.Rand, pods)
		}
		return pick(c.Rand, c.external)
	}
	var list []tuple
	for tries := 0; len(list) < n && tries < 100*n; tries++ {
		t := tuple{end(), end(), pick(c.Rand, protocols), pick(c.Rand, ports)}
		from, to := c.owner[t.from], c.owner[t.to]
		local := from != nil && from.Node == node || to != nil && to.Node == node
		if t.from.Is4() != t.to.Is4() || from == to || !local && !c.chance(20) {
			continue
		}
		if to != nil && slices.Contains(to.HostIPs, t.from) { // its own node
			continue
		}
		switch {
		case c.chance(12):
			t.protocol, t.port = model.ICMP, 0
			if t.from.Is6() {
				t.protocol = model.ICMPv6
			}
		case c.chance(30) && to != nil && len(to.Ports) > 0:
			p := pick(c.Rand, to.Ports)
			t.port = p.Port
			if c.chance(70) {
				t.protocol = p.Protocol
			}
		case c.chance(10):
			t.port = uint16(c.IntN(65536))
		}
		list = append(list, t)
	}
	return list
}
