package render

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// words are what somebody who may write objects can choose.
type words struct{ namespace, pod, key, value, policy, port string }

// hostile are words that would end a comment, a line, a set, a file's name.
var hostile = []words{
	{"dev", "web", "app", "web", "allow", "http"},
	{`x" drop; }`, "a\n\tdrop", "k\"", "v\x00", "p\ncounter accept", "h\""},
	{"../../etc", "..", "a/b", "*", "pi-dev/allow", "@sel4"},
	{"a_b", "a/b_c", "{env=prod}", "}", "", "-"},
	{"ns ns/pod", "# generation 0", "towpath E", "$x", "include \"/etc/passwd\"", "80"},
	{strings.Repeat("n", 300), strings.Repeat("p", 300), "k", strings.Repeat("ü", 200), strings.Repeat("p", 64), "http"},
	{"\u2028", "\u202e", "é", "\xff\xfe", "\x1b[2J", "\t"},
}

// clusterOf is a cluster of one meaning, whatever the words.
func clusterOf(w words) *model.Cluster {
	c := model.New("n1")
	c.SetNamespace(model.Namespace{Name: w.namespace, Labels: map[string]string{w.key: w.value}})
	c.SetNamespace(model.Namespace{Name: "victim", Labels: map[string]string{"team": "v"}})
	addr := func(a string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(a), netip.MustParseAddr("fd00:244:0:1::" + a[len(a)-1:])}
	}
	c.SetPod(model.Pod{
		Key: model.Key{Namespace: w.namespace, Name: w.pod}, Node: "n1", IPs: addr("10.244.1.2"), Labels: map[string]string{"hostile": "yes", w.key: w.value},
		Ports: []model.NamedPort{{Name: w.port, Protocol: model.TCP, Port: 8080}},
	})
	c.SetPod(model.Pod{Key: model.Key{Namespace: "victim", Name: "db"}, Node: "n1", IPs: addr("10.244.1.3"), Labels: map[string]string{"app": "db"}})
	port := intstr.FromString(w.port)
	number, tcp := intstr.FromInt32(5432), corev1.ProtocolTCP
	yes := &metav1.LabelSelector{MatchLabels: map[string]string{"hostile": "yes"}}
	_ = c.SetPolicy(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: w.policy},
		Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: yes}}, Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}}},
				{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{w.key: w.value}}}}},
			},
			Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}}}},
		},
	})
	_ = c.SetPolicy(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "victim", Name: "db"},
		Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}, Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &number}}},
		}},
	})
	return c
}

func render(c *model.Cluster, d model.Delta) (printed, *ruleset.Manifest) {
	r, out := New(testConfig), printed{}
	out.apply(r.Update(c, d))
	return out, r.Manifest("n1", nil)
}

// structure is the ruleset without its names: every name stands for what it names, every comment is empty. What a
// group tries, and what is in a set, is in an order that comes of names, which does not count.
func structure(t *testing.T, m *ruleset.Manifest, files printed) []string {
	t.Helper()
	meaning := map[string]string{} // by family and name; what is named comes first
	var out []string
	for _, e := range m.Entries {
		o, err := ruleset.Parse(e.Family(), []byte(files[e.Path]))
		if err != nil {
			t.Fatalf("%s: %v\n%s", e.Path, err, files[e.Path])
		}
		var lines []string
		for _, l := range o.Lines {
			l = quoted.ReplaceAllString(l, `""`)
			for _, name := range references(&ruleset.Object{Lines: []string{l}}) {
				l = strings.ReplaceAll(l, name, "<"+ruleset.Digest([]byte(meaning[o.Family+" "+name]))[:8]+">")
			}
			lines = append(lines, l)
		}
		if o.Kind != ruleset.Chain || strings.HasPrefix(o.Name, "g") {
			slices.Sort(lines)
		}
		text := strings.Join(append(o.Head, lines...), "\n")
		meaning[o.Family+" "+o.Name] = text
		out = append(out, o.Family+" "+string(o.Kind)+"\n"+text)
	}
	slices.Sort(out)
	return out
}

// FuzzRender: nobody who names objects can say with a name anything but a name.
func FuzzRender(f *testing.F) {
	for _, w := range hostile {
		f.Add(w.namespace, w.pod, w.key, w.value, w.policy, w.port)
	}
	f.Fuzz(func(t *testing.T, namespace, pod, key, value, policy, port string) {
		w := words{namespace, pod, key, value, policy, port}
		plainly := words{"dev", "web", "label", "value", "allow", "http"}
		if w.namespace == "" || w.policy == "" { // such an object is not taken
			w.namespace, w.policy = w.namespace+"x", w.policy+"x"
		}
		if w.namespace == "victim" || w.key == "hostile" || w.key == "team" || w.key == "app" || w.key == "kubernetes.io/metadata.name" {
			return // another cluster
		}
		c := clusterOf(w)
		d := c.Commit()
		for _, p := range c.Relevant() {
			if p.Name == w.policy && p.Invalid != "" { // then a part of it is to match nothing, and nothing else
				checkVictim(t, c, d)
				return
			}
		}
		got, gotManifest := render(c, d)
		checkReferences(t, gotManifest, got)
		p := clusterOf(plainly)
		want, wantManifest := render(p, p.Commit())
		if diff := cmp.Diff(structure(t, wantManifest, want), structure(t, gotManifest, got)); diff != "" {
			t.Errorf("%+v mean something else (-harmless +these):\n%s", w, diff)
		}
		for path, text := range got {
			if below, ok := strings.CutPrefix(path, "pods/"); ok && strings.Count(text, "\n") != 2 {
				t.Errorf("%s: not a line for each pod:\n%s", below, text)
			}
		}
	})
}

// checkVictim checks that the rules of a pod that the words do not concern are what they are without them.
func checkVictim(t *testing.T, c *model.Cluster, d model.Delta) {
	t.Helper()
	got, m := render(c, d)
	checkReferences(t, m, got)
	structure(t, m, got)
	const path = "inet/chains/pi-victim_db.nft"
	p := clusterOf(words{"dev", "web", "label", "value", "allow", "http"})
	want, _ := render(p, p.Commit())
	if got[path] != want[path] || got[path] == "" {
		t.Errorf("another's policy changed:\n%s\n%s", got[path], want[path])
	}
}
