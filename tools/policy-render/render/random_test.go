package render

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

var testConfig = Config{
	Network:    state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.0.0/16"), IPv6: netip.MustParsePrefix("fd00:244::/48")},
	Subnet:     state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.1.0/24"), IPv6: netip.MustParsePrefix("fd00:244:0:1::/64")},
	TunnelPort: 8472, PoliceNode: true, DropInvalid: true, CutMark: 0x80000, LogGroup: 100, LogRate: "10/second",
}

// scene is objects by name, as an API server would hold them.
type scene struct {
	namespaces map[string]model.Namespace
	pods       map[model.Key]model.Pod
	policies   map[model.Key]*networkingv1.NetworkPolicy
	endpoints  map[string]model.Endpoint
}

func newScene() *scene {
	return &scene{map[string]model.Namespace{}, map[model.Key]model.Pod{}, map[model.Key]*networkingv1.NetworkPolicy{}, map[string]model.Endpoint{}}
}

// shuffled are the values of a map in an order that r decides.
func shuffled[K comparable, V any](r *rand.Rand, m map[K]V) []V {
	out := slices.Collect(maps.Values(m))
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// printed is what stands after an Update, by path.
type printed map[string]string

func (p printed) apply(c Changes) {
	for id, o := range c.Objects {
		if o == nil {
			delete(p, id.Path())
		}
	}
	for path, text := range c.Texts {
		p[path] = string(text)
	}
	for name, text := range c.Names {
		if delete(p, "pods/"+name); len(text) > 0 {
			p["pods/"+name] = string(text)
		}
	}
}

// fromScratch prints the scene, given in an order that r decides.
func (s *scene) fromScratch(t *testing.T, r *rand.Rand) (printed, *ruleset.Manifest) {
	c, p := model.New("n1"), New(testConfig)
	steps := []func(){
		func() {
			for _, n := range shuffled(r, s.namespaces) {
				c.SetNamespace(n)
			}
		},
		func() {
			for _, x := range shuffled(r, s.pods) {
				c.SetPod(x)
			}
		},
		func() {
			for _, np := range shuffled(r, s.policies) {
				if err := c.SetPolicy(np); err != nil {
					t.Fatal(err)
				}
			}
		},
		func() {
			for _, e := range shuffled(r, s.endpoints) {
				c.SetEndpoint(e)
				p.SetEndpoint(e)
			}
		},
	}
	r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, f := range steps {
		f()
	}
	out := printed{}
	out.apply(p.Update(c, c.Commit()))
	return out, p.Manifest("n1", nil)
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomLabels(r *rand.Rand) map[string]string {
	out := map[string]string{}
	for _, k := range []string{"app", "tier"} {
		if r.IntN(3) > 0 {
			out[k] = pick(r, "a", "b", "c")
		}
	}
	return out
}

func randomSelector(r *rand.Rand) *metav1.LabelSelector {
	switch r.IntN(4) {
	case 0:
		return &metav1.LabelSelector{}
	case 1:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "app", Operator: pick(r, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn), Values: []string{"a", "b"}},
		}}
	}
	return &metav1.LabelSelector{MatchLabels: randomLabels(r)}
}

func randomPeers(r *rand.Rand) (out []networkingv1.NetworkPolicyPeer) {
	for range r.IntN(3) {
		switch r.IntN(4) {
		case 0:
			out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: pick(r,
				&networkingv1.IPBlock{CIDR: "10.244.0.0/16", Except: []string{"10.244.1.2/32"}},
				&networkingv1.IPBlock{CIDR: "0.0.0.0/0"}, &networkingv1.IPBlock{CIDR: "fd00:244::/48"}, &networkingv1.IPBlock{CIDR: "::/0", Except: []string{"fd00::/8"}})})
		case 1:
			out = append(out, networkingv1.NetworkPolicyPeer{NamespaceSelector: randomSelector(r)})
		case 2:
			out = append(out, networkingv1.NetworkPolicyPeer{NamespaceSelector: randomSelector(r), PodSelector: randomSelector(r)})
		default:
			out = append(out, networkingv1.NetworkPolicyPeer{PodSelector: randomSelector(r)})
		}
	}
	return out
}

func randomPorts(r *rand.Rand) (out []networkingv1.NetworkPolicyPort) {
	for range r.IntN(3) {
		p := networkingv1.NetworkPolicyPort{Protocol: new(pick(r, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP))}
		switch r.IntN(4) {
		case 0:
		case 1:
			p.Port = new(intstr.FromString(pick(r, "http", "dns")))
		case 2:
			p.Port, p.EndPort = new(intstr.FromInt32(int32(1000+r.IntN(3)))), new(int32(1003+r.IntN(3)))
		default:
			p.Port = new(intstr.FromInt32(pick[int32](r, 80, 443, 53)))
		}
		out = append(out, p)
	}
	return out
}

func randomPolicy(r *rand.Rand, k model.Key) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}}
	np.Spec.PodSelector = *randomSelector(r)
	for range r.IntN(3) {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: randomPeers(r), Ports: randomPorts(r)})
	}
	for range r.IntN(3) {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: randomPeers(r), Ports: randomPorts(r)})
	}
	if r.IntN(2) == 0 {
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	}
	return np
}

func randomPod(r *rand.Rand, k model.Key, i int) model.Pod {
	p := model.Pod{Key: k, UID: k.Name, Labels: randomLabels(r), Node: pick(r, "n1", "n2"), Finished: r.IntN(8) == 0, HostNetwork: r.IntN(12) == 0}
	node := 1
	if p.Node == "n2" {
		node = 2
	}
	p.IPs = []netip.Addr{
		netip.AddrFrom4([4]byte{10, 244, byte(node), byte(2 + i%6)}), // now and then two pods have one
		netip.MustParseAddr(fmt.Sprintf("fd00:244:0:%d::%x", node, 2+i)),
	}
	if r.IntN(2) == 0 {
		p.Ports = []model.NamedPort{{Name: "http", Protocol: model.TCP, Port: pick[uint16](r, 80, 8080)}, {Name: "dns", Protocol: model.UDP, Port: 53}}
	}
	return p
}

// change does one random thing to the scene and to a cluster.
func (s *scene) change(t *testing.T, r *rand.Rand, c *model.Cluster, p *Renderer) {
	k := model.Key{Namespace: pick(r, "dev", "prod", "default"), Name: ""}
	i := r.IntN(8)
	switch r.IntN(9) {
	case 0:
		n := model.Namespace{Name: k.Namespace, Labels: randomLabels(r)}
		s.namespaces[n.Name] = n
		c.SetNamespace(n)
	case 1:
		delete(s.namespaces, k.Namespace)
		c.DeleteNamespace(k.Namespace)
	case 2, 3:
		k.Name = fmt.Sprint("pod", i)
		s.pods[k] = randomPod(r, k, i)
		c.SetPod(s.pods[k])
	case 4:
		k.Name = fmt.Sprint("pod", i)
		delete(s.pods, k)
		c.DeletePod(k)
	case 5, 6:
		k.Name = fmt.Sprint("policy", i)
		s.policies[k] = randomPolicy(r, k)
		if err := c.SetPolicy(s.policies[k]); err != nil {
			t.Fatal(err)
		}
	case 7:
		k.Name = fmt.Sprint("policy", i)
		delete(s.policies, k)
		c.DeletePolicy(k)
	case 8:
		id := fmt.Sprintf("c%d-eth0", i)
		if _, ok := s.endpoints[id]; ok {
			delete(s.endpoints, id)
			c.DeleteEndpoint(id)
			p.DeleteEndpoint(id)
			return
		}
		k.Name = fmt.Sprint("pod", i)
		if r.IntN(6) == 0 {
			k = model.Key{}
		}
		e := model.Endpoint{
			ID: id, Pod: k, UID: k.Name, Veth: fmt.Sprint("veth", i), MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), Bridge: "cni0",
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 1, byte(100 + i)}), netip.MustParseAddr(fmt.Sprintf("fd00:244:0:1::1%x", i))},
		}
		s.endpoints[id] = e
		c.SetEndpoint(e)
		p.SetEndpoint(e)
	}
}

// TestIncrementalEqualsFromScratch: whatever changes, and in whatever order objects came, the text is the same.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		s, c, p := newScene(), model.New("n1"), New(testConfig)
		stands := printed{}
		for step := range 60 {
			for range 1 + r.IntN(3) {
				s.change(t, r, c, p)
			}
			stands.apply(p.Update(c, c.Commit()))
			fresh, manifest := s.fromScratch(t, r)
			if diff := cmp.Diff(fresh, stands); diff != "" {
				t.Fatalf("seed %d, step %d (-from scratch +incremental):\n%s", seed, step, diff)
			}
			if diff := cmp.Diff(manifest, p.Manifest("n1", nil)); diff != "" {
				t.Fatalf("seed %d, step %d: policy.nft: %s", seed, step, diff)
			}
			checkReferences(t, manifest, stands)
			again, whole := New(testConfig), printed{} // as after a change of the lease
			for _, e := range s.endpoints {
				again.SetEndpoint(e)
			}
			whole.apply(again.Update(c, Everything(c)))
			if diff := cmp.Diff(stands, whole); diff != "" {
				t.Fatalf("seed %d, step %d (-incremental +printed again):\n%s", seed, step, diff)
			}
		}
	}
}

// checkReferences checks that every object stands in policy.nft, after those it names.
func checkReferences(t *testing.T, m *ruleset.Manifest, files printed) {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range m.Entries {
		text, ok := files[e.Path]
		if !ok || ruleset.Digest([]byte(text)) != e.Digest {
			t.Fatalf("%s is named and not there in that form", e.Path)
		}
		o, err := ruleset.Parse(e.Family(), []byte(text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", e.Path, err, text)
		}
		for _, name := range references(o) {
			if !seen[o.Family+" "+name] {
				t.Fatalf("%s names %s, which comes later or not at all\n%s", e.Path, name, text)
			}
		}
		seen[o.Family+" "+o.Name] = true
	}
}
