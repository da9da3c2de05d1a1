package model

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/towpath/towpath/lib/state"
)

// pieces is everything that a cluster says, by what a Delta would name.
func pieces(c *Cluster) map[string]string {
	out := map[string]string{}
	for _, l := range c.LocalPods() {
		out[podPiece(l)] = podText(l)
	}
	for _, p := range c.Relevant() {
		out["policy "+p.String()] = policyText(p)
	}
	for _, s := range c.Sets() {
		out["set "+s.Key()] = setText(s)
	}
	for _, p := range c.Pods() {
		for _, a := range c.Addrs(p.Key) {
			out["name "+a.String()] = c.PodByAddr(a).String()
		}
	}
	return out
}

func podPiece(l *LocalPod) string { return fmt.Sprintf("pod %s %s", l.Key, l.endpointID()) }

func podText(l *LocalPod) string {
	text := fmt.Sprint(l.IPs)
	for dir, list := range l.Policies {
		for _, p := range list {
			text += fmt.Sprintf(" %d:%s", dir, p.Key)
		}
	}
	return text
}

func policyText(p *Policy) string {
	text := fmt.Sprintf("%s %v %q", p.Subjects, p.Isolates, p.Invalid)
	for dir, rules := range p.Rules {
		for _, r := range rules {
			text += fmt.Sprintf("\n%d[%d] %v %v %v", dir, r.Index, r.AnyPeer, r.AnyPort, r.Ports)
			for _, s := range r.Peers {
				text += " peer " + s.Key()
			}
			for _, n := range r.Named {
				text += " named " + n.Set.Key()
			}
		}
	}
	return text
}

func setText(s *Set) string {
	return fmt.Sprint(s.Hash(), s.Members(state.IPv4), s.Members(state.IPv6), s.Ranges(state.IPv4), s.Ranges(state.IPv6))
}

// apply changes only what the delta names, as a renderer would.
func apply(shadow map[string]string, c *Cluster, d Delta) {
	for _, l := range d.Pods {
		delete(shadow, podPiece(l))
		if !l.Gone {
			shadow[podPiece(l)] = podText(l)
		}
	}
	relevant := map[Key]*Policy{}
	for _, p := range c.Relevant() {
		relevant[p.Key] = p
	}
	for _, k := range d.Policies {
		delete(shadow, "policy "+k.String())
		if p := relevant[k]; p != nil {
			shadow["policy "+k.String()] = policyText(p)
		}
	}
	for _, s := range d.Sets {
		delete(shadow, "set "+s.Key())
		if s.InUse() {
			shadow["set "+s.Key()] = setText(s)
		}
	}
	for _, a := range d.Names {
		delete(shadow, "name "+a.String())
		if p := c.PodByAddr(a); p != nil {
			shadow["name "+a.String()] = p.String()
		}
	}
}

// objects of the random worlds, kept apart from the cluster, to build another one of and to judge by.
type objectsNow struct {
	namespaces map[string]Namespace
	pods       map[Key]Pod
	policies   map[Key]*networkingv1.NetworkPolicy
	endpoints  map[string]Endpoint
}

func (o *objectsNow) fresh() (*Cluster, Delta) {
	c := New("n1")
	for _, e := range o.endpoints {
		c.SetEndpoint(e)
	}
	for _, p := range o.policies {
		if err := c.SetPolicy(p); err != nil {
			panic(err)
		}
	}
	for _, p := range o.pods {
		c.SetPod(p)
	}
	for _, n := range o.namespaces {
		c.SetNamespace(n)
	}
	return c, c.Commit()
}

// step makes one random change of the objects and the cluster.
func (o *objectsNow) step(r *rand.Rand, c *Cluster) {
	ns := pick(r, "dev", "prod", "test")
	k := Key{ns, pick(r, "a", "b", "c", "d", "e", "f")}
	switch r.IntN(12) {
	case 0:
		n := Namespace{ns, randomLabels(r)}
		o.namespaces[ns] = n
		c.SetNamespace(n)
	case 1:
		delete(o.namespaces, ns)
		c.DeleteNamespace(ns)
	case 2, 3, 4, 5:
		p := randomPod(r, k)
		o.pods[k] = p
		c.SetPod(p)
	case 6:
		delete(o.pods, k)
		c.DeletePod(k)
	case 7, 8:
		p := randomPolicy(r, k)
		o.policies[k] = p
		if err := c.SetPolicy(p); err != nil {
			panic(err)
		}
	case 9:
		delete(o.policies, k)
		c.DeletePolicy(k)
	case 10:
		e := Endpoint{ID: pick(r, "x-eth0", "y-eth0", "z-eth0"), Pod: k, UID: pick(r, "", "1", "2"), IPs: randomAddrs(r)}
		if r.IntN(5) == 0 {
			e.Pod, e.UID = Key{}, ""
		}
		o.endpoints[e.ID] = e
		c.SetEndpoint(e)
	case 11:
		id := pick(r, "x-eth0", "y-eth0", "z-eth0")
		delete(o.endpoints, id)
		c.DeleteEndpoint(id)
	}
}

// TestIncrementalEqualsFromScratch changes random objects, and compares after every Commit what the cluster says, and
// what one would know who only followed the deltas, with a new cluster of the same objects.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	rounds, steps := 150, 60
	if testing.Short() {
		rounds = 20
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 3))
		o := &objectsNow{map[string]Namespace{}, map[Key]Pod{}, map[Key]*networkingv1.NetworkPolicy{}, map[string]Endpoint{}}
		c := New("n1")
		shadow := map[string]string{}
		for step := range steps {
			before := members(c)
			for range 1 + r.IntN(4)*r.IntN(4) {
				o.step(r, c)
			}
			d := c.Commit()
			if step > 0 {
				checkMoved(t, d, before, members(c))
			}
			apply(shadow, c, d)
			f, first := o.fresh()
			want := pieces(f)
			checkEqual(t, seed, step, "incremental", pieces(c), want)
			checkEqual(t, seed, step, "by deltas", shadow, want)
			if !slices.Equal(d.Waiting, first.Waiting) {
				t.Fatalf("seed %d step %d: waiting %v, want %v", seed, step, d.Waiting, first.Waiting)
			}
			if again := c.Commit(); len(again.Pods)+len(again.Policies)+len(again.Sets)+len(again.Names) > 0 {
				t.Fatalf("seed %d step %d: a Commit of nothing says %+v", seed, step, again)
			}
			o.judge(t, r, c, fmt.Sprintf("seed %d step %d", seed, step))
		}
		for id := range o.endpoints {
			c.DeleteEndpoint(id)
		}
		for k := range o.pods {
			c.DeletePod(k)
		}
		for k := range o.policies {
			c.DeletePolicy(k)
		}
		for n := range o.namespaces {
			c.DeleteNamespace(n)
		}
		c.Commit()
		if n := len(c.sets) + len(c.hashes) + len(c.byAddr) + len(c.twins) + len(c.hidden) + len(c.relevant) + len(c.active) + len(c.byPod) + len(c.byEndpoint) + len(c.namespaces); n > 0 {
			t.Fatalf("seed %d: %d things are left of nothing: %d sets, %d namespaces", seed, n, len(c.sets), len(c.namespaces))
		}
	}
}

// members are the members of each set in use.
func members(c *Cluster) map[string]map[Member]bool {
	out := map[string]map[Member]bool{}
	for _, s := range c.Sets() {
		out[s.Key()] = map[Member]bool{}
		for _, m := range append(s.Members(state.IPv4), s.Members(state.IPv6)...) {
			m.Pod = Key{}
			out[s.Key()][m] = true
		}
	}
	return out
}

// checkMoved wants every address that came into or went out of a set which stayed in use among Moved.
func checkMoved(t *testing.T, d Delta, before, now map[string]map[Member]bool) {
	t.Helper()
	for key, was := range before {
		is, stayed := now[key]
		if !stayed {
			continue
		}
		for _, pair := range [][2]map[Member]bool{{was, is}, {is, was}} {
			for m := range pair[0] {
				if !pair[1][m] && !slices.Contains(d.Moved, m.Addr) {
					t.Fatalf("set %s: %v moved, and is not among %v", key, m, d.Moved)
				}
			}
		}
	}
}

func checkEqual(t *testing.T, seed uint64, step int, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got  %s\nwant %s", k, got[k], v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: should not be there: %s", k, v)
		}
	}
	t.Fatalf("seed %d step %d: %s differs from scratch", seed, step, what)
}

// judge compares verdicts with the ones of naive, for random pairs.
func (o *objectsNow) judge(t *testing.T, r *rand.Rand, c *Cluster, where string) {
	t.Helper()
	for range 20 {
		k := Key{pick(r, "dev", "prod", "test"), pick(r, "a", "b", "c", "d", "e", "f")}
		addrs := c.Addrs(k)
		if len(addrs) == 0 {
			continue
		}
		self, peer := addrs[r.IntN(len(addrs))], randomAddr(r)
		dir, proto, port := Direction(r.IntN(2)), pick(r, TCP, UDP, SCTP, ICMP), pick[uint16](r, 79, 80, 81, 8080, 8081, 53)
		got := c.Judge(dir, k, self, peer, proto, port)
		if want := o.naive(c, dir, k, self, peer, proto, port); got.Allowed != want {
			t.Fatalf("%s: direction %d of %s %s, peer %s, %s %d: got %v, naively %v", where, dir, k, self, peer, proto, port, got.Allowed, want)
		}
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(r.IntN(6))})
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(6))})
}

func randomAddrs(r *rand.Rand) []netip.Addr {
	var out []netip.Addr
	for range r.IntN(3) {
		out = append(out, randomAddr(r))
	}
	return out
}
