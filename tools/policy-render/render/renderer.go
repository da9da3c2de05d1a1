package render

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Renderer keeps what of a cluster is printed, by digest, and prints what changes.
type Renderer struct {
	config    Config
	entries   []entry // in the order in which nft can load them
	groups    map[string]group
	known     map[list]named
	guards    map[string]bool               // groups with guarded ports
	everyone  map[model.Key]bool            // policies that allow whatever comes in
	using     map[model.Key]map[string]bool // groups by policy
	ports     map[string]int                // port sets by name: chains that name them
	portsOf   map[string][]string           // by chain
	endpoints map[string]model.Endpoint
	names     map[netip.Prefix]map[netip.Addr]struct{}
	dirty     bool // an endpoint changed
	changes   Changes
}

type entry struct {
	rank int
	ruleset.Entry
}

type group struct {
	direction model.Direction
	policies  []*model.Policy
}

// list is a list of policies as the model has it: pods of equal labels share one.
type list struct {
	first **model.Policy
	d     model.Direction
}

// named is the group of a list.
type named struct {
	name     string
	policies []*model.Policy
}

// Changes are the files to write and to remove, by path below policy/. An object of nil goes.
type Changes struct {
	Objects map[ruleset.ID]*ruleset.Object
	Texts   map[string][]byte // of the objects that are there, by ID.Path
	Names   map[string][]byte // files of pods' names, below pods/; nil: none is left
}

// New makes a renderer that has printed nothing yet.
func New(c Config) *Renderer {
	return &Renderer{
		config: c, groups: map[string]group{}, guards: map[string]bool{}, everyone: map[model.Key]bool{}, using: map[model.Key]map[string]bool{}, ports: map[string]int{}, portsOf: map[string][]string{},
		endpoints: map[string]model.Endpoint{}, names: map[netip.Prefix]map[netip.Addr]struct{}{},
	}
}

// SetEndpoint tells of a port to guard, whether or not its pod is known.
func (r *Renderer) SetEndpoint(e model.Endpoint) { r.endpoints[e.ID], r.dirty = e, true }

// DeleteEndpoint tells that a port is gone.
func (r *Renderer) DeleteEndpoint(id string) {
	delete(r.endpoints, id)
	r.dirty = true
}

// Update prints what the model's last Commit changed, and the endpoints set since.
func (r *Renderer) Update(c *model.Cluster, d model.Delta) Changes {
	r.changes = Changes{Objects: map[ruleset.ID]*ruleset.Object{}, Texts: map[string][]byte{}, Names: map[string][]byte{}}
	if len(r.entries) == 0 {
		for _, o := range r.config.frame() {
			r.put(o)
		}
		r.dirty = true
	}
	for _, s := range d.Sets {
		r.set(s)
	}
	stale := r.policies(c, d.Policies)
	if len(d.Pods) > 0 || r.dirty {
		maps.Copy(stale, r.pods(c))
	}
	for name := range stale {
		if g, ok := r.groups[name]; ok {
			r.group(name, g)
		}
	}
	r.rename(c, d.Names)
	r.dirty = false
	return r.changes
}

// Manifest is policy.nft as things stand.
func (r *Renderer) Manifest(node string, covered []string) *ruleset.Manifest {
	m := &ruleset.Manifest{Node: node, Endpoints: covered, Entries: make([]ruleset.Entry, len(r.entries))}
	for i, e := range r.entries {
		m.Entries[i] = e.Entry
	}
	return m
}

func (r *Renderer) set(s *model.Set) {
	if s.InUse() {
		for _, o := range r.config.setObjects(s) {
			r.put(o)
		}
		return
	}
	for _, f := range families {
		r.remove(ruleset.ID{Family: "inet", Kind: ruleset.Set, Name: SetName(s, f.suffix)})
	}
}

// policies prints the chains of these policies and returns the groups that have to be printed again.
func (r *Renderer) policies(c *model.Cluster, keys []model.Key) map[string]bool {
	stale := map[string]bool{}
	if len(keys) == 0 {
		return stale
	}
	relevant := c.Relevant()
	for _, k := range keys {
		i, found := slices.BinarySearchFunc(relevant, k, func(p *model.Policy, k model.Key) int { return compareKeys(p.Key, k) })
		if every := found && forEveryone(relevant[i:i+1]); every != r.everyone[k] {
			r.dirty = true
			if delete(r.everyone, k); every {
				r.everyone[k] = true
			}
		}
		for d := range 2 {
			dir := model.Direction(d)
			var o *ruleset.Object
			var sets []*ruleset.Object
			if found && relevant[i].Isolates[d] {
				o, sets = r.config.policyChain(dir, relevant[i])
			}
			id := ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: PolicyChain(dir, k)}
			if r.has(id) != (o != nil) {
				maps.Copy(stale, r.using[k])
			}
			r.holdPorts(id.Name, sets)
			if o == nil {
				r.remove(id)
			} else {
				r.put(o)
			}
		}
	}
	return stale
}

// holdPorts notes which port sets a chain names, and removes those that none does any more.
func (r *Renderer) holdPorts(chain string, sets []*ruleset.Object) {
	var names []string
	for _, s := range sets {
		if r.ports[s.Name]++; r.ports[s.Name] == 1 {
			r.put(s)
		}
		names = append(names, s.Name)
	}
	for _, name := range r.portsOf[chain] {
		if r.ports[name]--; r.ports[name] == 0 {
			delete(r.ports, name)
			r.remove(ruleset.ID{Family: "inet", Kind: ruleset.Set, Name: name})
		}
	}
	if delete(r.portsOf, chain); len(names) > 0 {
		r.portsOf[chain] = names
	}
}

// pods prints the tables that hold pods, and returns the groups that are new.
func (r *Renderer) pods(c *model.Cluster) map[string]bool {
	groups := map[string]group{}
	known := map[list]named{}
	t := table{}
	guards := t.addPods(c.LocalPods(), func(d model.Direction, policies []*model.Policy) string {
		if len(policies) == 0 {
			return ""
		}
		at := list{&policies[0], d}
		n, ok := known[at]
		if !ok {
			if n = r.known[at]; !slices.Equal(n.policies, policies) {
				n = named{groupChain(d, policies), slices.Clone(policies)}
			}
			known[at], groups[n.name] = n, group{d, policies}
		}
		return n.name
	})
	r.known = known
	for _, e := range r.endpoints {
		t.addPort(e)
	}
	for _, o := range t.objects() {
		r.put(o)
	}
	for name := range guards {
		if !r.guards[name] {
			r.put(r.config.guard(name))
		}
	}
	for name := range r.guards {
		if !guards[name] {
			r.remove(r.config.guard(name).ID)
		}
	}
	r.guards = guards
	fresh := map[string]bool{}
	for name, g := range groups {
		if _, ok := r.groups[name]; !ok {
			fresh[name] = true
			r.use(name, g.policies, true)
		}
	}
	for name, g := range r.groups {
		if _, ok := groups[name]; !ok {
			r.use(name, g.policies, false)
			r.remove(ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: name})
			r.remove(ruleset.DenyChain("inet", name))
		}
	}
	r.groups = groups
	return fresh
}

func (r *Renderer) use(name string, policies []*model.Policy, in bool) {
	for _, p := range policies {
		switch {
		case in && r.using[p.Key] == nil:
			r.using[p.Key] = map[string]bool{name: true}
		case in:
			r.using[p.Key][name] = true
		default:
			if delete(r.using[p.Key], name); len(r.using[p.Key]) == 0 {
				delete(r.using, p.Key)
			}
		}
	}
}

// maxNote is how long a note about several policies gets.
const maxNote = 120

// group prints the chain that tries a list of policies, and the chain that ends it.
func (r *Renderer) group(name string, g group) {
	var lines []string
	note := word[g.direction] + ":"
	var notes []string
	for _, p := range g.policies {
		chain := PolicyChain(g.direction, p.Key)
		if r.has(ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: chain}) {
			lines = append(lines, "jump "+chain)
		}
		note += " " + keyText(p.Key)
		notes = append(notes, word[g.direction]+": "+keyText(p.Key))
	}
	if len(note) <= maxNote {
		notes = []string{note}
	}
	o := chain("inet", name, "", append(lines, "goto deny-"+name)...)
	o.Notes = notes
	r.put(o)
	deny := chain("inet", ruleset.DenyChain("inet", name).Name, "",
		append([]string{"ip saddr . ip daddr @self4 accept", "ip6 saddr . ip6 daddr @self6 accept"},
			r.config.logAndDrop(denial[g.direction], name)...)...)
	deny.Notes = notes
	r.put(deny)
}

func compareKeys(a, b model.Key) int {
	if a.Namespace != b.Namespace {
		return strings.Compare(a.Namespace, b.Namespace)
	}
	return strings.Compare(a.Name, b.Name)
}

// Everything is the Delta of a cluster that nothing was printed of yet.
func Everything(c *model.Cluster) model.Delta {
	d := model.Delta{Pods: c.LocalPods(), Sets: c.Sets()}
	for _, p := range c.Relevant() {
		d.Policies = append(d.Policies, p.Key)
	}
	for _, p := range c.Pods() {
		d.Names = append(d.Names, c.Addrs(p.Key)...)
	}
	return d
}
