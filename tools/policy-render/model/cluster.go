package model

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
)

// Cluster is the objects, indexed. Set… and Delete… take note of a change; Commit brings it into force and says what it
// meant. Questions are to be asked after a Commit. It is not for concurrent use, except that questions
// may be asked at the same time while nobody changes anything.
type Cluster struct {
	node       string
	strict     bool // see RequireNamespaces
	nodeAddrs  map[netip.Addr]bool
	namespaces map[string]*namespace
	byAddr     map[netip.Addr]*pod   // the first by name
	twins      map[netip.Addr][]*pod // the others, where two pods have one address
	hidden     map[netip.Addr][]*pod // pods whose status claims an address that an endpoint of another pod has
	sets       map[setID]*Set
	hashes     map[setHash]*Set
	endpoints  map[string]*endpoint
	byPod      map[Key][]*endpoint
	byEndpoint map[netip.Addr]int // endpoints that have the address
	hosts      map[string]string  // one copy of each node's name
	hostIPs    map[netip.Addr][]netip.Addr
	hostAddrs  map[hostAddr]int // pods that tell of it
	locals     []*LocalPod
	relevant   map[*policy]struct{}
	live       map[*group]struct{}          // with local pods, as of the last Commit
	active     map[string]map[*Set]struct{} // sets in use by the one namespace of their pods; "": any

	// What changed since the last Commit.
	commit     int
	committed  bool
	pending    map[Key]*compiled // nil: deleted
	before     map[Key]was
	owners0    map[netip.Addr]Key
	groups     map[*group]struct{} // that got or lost local pods
	dirty      map[*namespace]struct{}
	localDirty bool
	wasUsed    map[*Set]bool // of the sets whose use changed
	touched    map[*policy]touch
	loose      []*Set // that perhaps no policy names
	buf        []byte
	keys       []string
}

type (
	setID struct {
		kind Kind
		key  string
	}
	setHash struct {
		kind Kind
		hash string
	}
	// endpoint knows its pod when that is the instance which it was made for.
	endpoint struct {
		Endpoint
		pod *pod
	}
	// policy is a policy of the cluster; its pointer, and that of Policy, stay the same while it has its name.
	policy struct {
		compiled
		groups int // groups with local pods that it isolates
	}
	// touch is what happened to a policy since the last Commit.
	touch struct {
		wasRelevant bool
		content     bool // its rules may be others
	}
	// was is what of a pod at the last Commit decides the sets that it was in.
	was struct {
		group *group
		addrs []netip.Addr
	}
)

// New makes an empty cluster, seen from a node; without one no pod is local.
func New(node string) *Cluster {
	return &Cluster{
		node: node, nodeAddrs: map[netip.Addr]bool{}, namespaces: map[string]*namespace{},
		byAddr: map[netip.Addr]*pod{}, twins: map[netip.Addr][]*pod{}, hidden: map[netip.Addr][]*pod{},
		sets: map[setID]*Set{}, hashes: map[setHash]*Set{}, endpoints: map[string]*endpoint{}, byPod: map[Key][]*endpoint{},
		byEndpoint: map[netip.Addr]int{}, hosts: map[string]string{}, hostIPs: map[netip.Addr][]netip.Addr{}, hostAddrs: map[hostAddr]int{},
		relevant: map[*policy]struct{}{}, live: map[*group]struct{}{}, pending: map[Key]*compiled{}, before: map[Key]was{},
		owners0: map[netip.Addr]Key{}, groups: map[*group]struct{}{}, dirty: map[*namespace]struct{}{}, active: map[string]map[*Set]struct{}{},
		wasUsed: map[*Set]bool{}, touched: map[*policy]touch{},
	}
}

// SetNodeAddrs says which addresses the node has, beside those that its pods tell of (status.hostIPs, and podIPs with
// hostNetwork): from these it always reaches its own pods.
func (c *Cluster) SetNodeAddrs(addrs []netip.Addr) {
	c.nodeAddrs = map[netip.Addr]bool{}
	for _, a := range addrs {
		c.nodeAddrs[a.Unmap()] = true
	}
}

// RequireNamespaces says that every namespace has an object, which is only not known yet where it is missing: until it is,
// no selector of labels takes the namespace, since NotIn and DoesNotExist would hold for labels that it has. It is to be
// called before anything is set. Without it, a namespace without an object has the label of its name alone.
func (c *Cluster) RequireNamespaces() { c.strict = true }

// unknown is the labels of a namespace without an object; none, which no object's are, where they are not known.
func (c *Cluster) unknown(name string) map[string]string {
	if c.strict {
		return map[string]string{}
	}
	return map[string]string{nameLabel: name}
}

// namespace gives the namespace of this name, known or not.
func (c *Cluster) namespace(name string) *namespace {
	n := c.namespaces[name]
	if n == nil {
		n = &namespace{
			name: name, labels: c.unknown(name),
			groups: map[string]*group{}, pods: map[string]*pod{}, policies: map[string]*policy{}, live: map[*group]struct{}{},
		}
		c.namespaces[name] = n
	}
	return n
}

func (c *Cluster) eachNamespace(only string, f func(*namespace)) {
	if only != "" {
		if n := c.namespaces[only]; n != nil {
			f(n)
		}
		return
	}
	for _, n := range c.namespaces {
		f(n)
	}
}

func (c *Cluster) relabel(n *namespace, labels map[string]string) {
	c.dirty[n] = struct{}{}
	if maps.Equal(n.labels, labels) {
		return
	}
	if n.old == nil {
		n.old = n.labels
	}
	n.labels = labels
}

// SetNamespace adds or replaces a namespace.
func (c *Cluster) SetNamespace(ns Namespace) {
	n := c.namespace(ns.Name)
	n.given = true
	labels := make(map[string]string, len(ns.Labels)+1)
	maps.Copy(labels, ns.Labels)
	labels[nameLabel] = ns.Name // as the API server does, whatever was written
	c.relabel(n, labels)
}

// DeleteNamespace takes the labels of a namespace away; its pods and policies stay until they are deleted.
func (c *Cluster) DeleteNamespace(name string) {
	if n := c.namespaces[name]; n != nil {
		n.given = false
		c.relabel(n, c.unknown(name))
	}
}

// SetPod adds or replaces a pod. The maps and slices of it must not change afterwards.
func (c *Cluster) SetPod(in Pod) {
	n := c.namespace(in.Namespace)
	p := n.pods[in.Name]
	in.Ports = canonicalPorts(in.Ports)
	in.IPs = canonicalAddrs(in.IPs)
	in.HostIPs = c.sharedHostIPs(in.HostIPs)
	if p == nil {
		p = &pod{}
		c.note(in.Key, p)
		n.pods[in.Name] = p
		in.Namespace = n.name
	} else {
		if p.equal(&in) {
			return // most changes of a pod are of its conditions
		}
		c.note(in.Key, p)
		in.Key = p.Key
	}
	in.Node = c.host(in.Node)
	g := p.group
	if g == nil || !maps.Equal(g.labels, in.Labels) || !slices.Equal(g.ports, in.Ports) {
		c.buf, c.keys = groupKey(c.buf, c.keys, in.Labels, in.Ports)
		if g = n.groups[string(c.buf)]; g == nil {
			g = &group{ns: n, key: string(c.buf), labels: in.Labels, ports: in.Ports}
			n.groups[g.key] = g
		}
	}
	c.regroup(p, nil)
	c.countHost(p, -1)
	in.Labels, in.Ports = g.labels, g.ports
	p.Pod = in
	c.countHost(p, 1)
	c.regroup(p, g)
	c.attach(p.Key, p)
}

// DeletePod removes a pod.
func (c *Cluster) DeletePod(k Key) {
	n := c.namespaces[k.Namespace]
	if n == nil || n.pods[k.Name] == nil {
		return
	}
	p := n.pods[k.Name]
	c.note(k, p)
	c.regroup(p, nil)
	c.countHost(p, -1)
	p.Finished = true // whoever still points here sees nobody
	c.attach(k, p)
	delete(n.pods, k.Name)
	c.drop(n)
}

// drop forgets a namespace that nothing needs.
func (c *Cluster) drop(n *namespace) {
	if c.namespaces[n.name] == n && !n.given && n.old == nil && len(n.pods) == 0 && len(n.policies) == 0 && len(n.groups) == 0 {
		delete(c.namespaces, n.name)
	}
}

// regroup moves a pod into a group, or out of its own where g is nil.
func (c *Cluster) regroup(p *pod, g *group) {
	if old := p.group; old != nil {
		c.list(p, false)
		c.setLocal(p, false)
		if old.members--; old.members == 0 {
			delete(old.ns.groups, old.key)
		}
	}
	if p.group = g; g != nil {
		if g.members++; g.members == 1 {
			g.ns.groups[g.key] = g
		}
	}
}

// list puts a pod into its group's list, or takes it out.
func (c *Cluster) list(p *pod, in bool) {
	g := p.group
	listed := p.at < len(g.pods) && g.pods[p.at] == p
	switch {
	case in && !listed:
		p.at = len(g.pods)
		g.pods = append(g.pods, p)
	case !in && listed:
		last := g.pods[len(g.pods)-1]
		g.pods[p.at], last.at = last, p.at
		g.pods[len(g.pods)-1] = nil
		g.pods = g.pods[:len(g.pods)-1]
	}
}

func (c *Cluster) setLocal(p *pod, local bool) {
	if p.local == local {
		return
	}
	p.local = local
	c.groups[p.group] = struct{}{}
	if local {
		p.group.locals++
	} else {
		p.group.locals--
	}
}

// note keeps what the pod was at the last Commit.
func (c *Cluster) note(k Key, p *pod) {
	if p.local {
		c.localDirty = true
	}
	if !c.committed {
		return
	}
	if _, ok := c.before[k]; !ok {
		c.before[k] = was{p.group, p.addrs}
	}
}

func (c *Cluster) host(name string) string {
	if s, ok := c.hosts[name]; ok {
		return s
	}
	c.hosts[name] = name
	return name
}

func (c *Cluster) sharedHostIPs(in []netip.Addr) []netip.Addr {
	in = canonicalAddrs(in)
	if len(in) == 0 {
		return nil
	}
	if have := c.hostIPs[in[0]]; slices.Equal(have, in) {
		return have
	}
	c.hostIPs[in[0]] = in
	return in
}

// SetPolicy adds or replaces a policy. What of it is invalid matches nothing (see Policy.Invalid); an error means
// that it was not taken.
func (c *Cluster) SetPolicy(np *networkingv1.NetworkPolicy) error {
	if np == nil || np.Name == "" || np.Namespace == "" {
		return errors.New("take network policy: it has no name or no namespace")
	}
	c.pending[Key{np.Namespace, np.Name}] = compile(np, c.intern)
	return nil
}

// DeletePolicy removes a policy.
func (c *Cluster) DeletePolicy(k Key) { c.pending[k] = nil }

// intern gives the one set of this content. A hash that another set has is salted, so that nobody gets into
// the set of another by finding a collision.
func (c *Cluster) intern(s *Set) *Set {
	id := setID{s.kind, s.key}
	if have := c.sets[id]; have != nil {
		return have
	}
	s.c = c
	for salt := 0; ; salt++ {
		s.hash = hashOf(s.kind, s.key, salt)
		if _, taken := c.hashes[setHash{s.kind, s.hash}]; !taken {
			break
		}
	}
	c.sets[id], c.hashes[setHash{s.kind, s.hash}] = s, s
	c.loose = append(c.loose, s)
	return s
}
