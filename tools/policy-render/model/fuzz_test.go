package model

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/towpath/towpath/lib/state"
)

// FuzzCompile takes any policy, valid or not, and judges packets by it: the blocks of a rule have to be the ones that a
// plain reading of them gives, and nothing may be allowed where the policy has no rule.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"podSelector":{"matchLabels":{"a":"b"}},"ingress":[{}],"policyTypes":["Ingress","X"]}`,
		`{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.0.0.0/9","10.192.0.0/10"]}},{"ipBlock":{"cidr":"0.0.0.0/0"}}],"ports":[{"port":1,"endPort":65535},{"port":"http"}]}]}`,
		`{"egress":[{"to":[{"podSelector":{}},{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"NotIn","values":["b","b"]}]}},{"ipBlock":{"cidr":"::ffff:10.0.0.0/104"}}],"ports":[{"protocol":"SCTP","port":"x"},{}]}]}`,
		`{"egress":[{"to":[{"ipBlock":{"cidr":"::/0","except":["ffff::/16","::/1"]}}]}]}`,
	} {
		f.Add([]byte(s), []byte{10, 0, 0, 1}, uint16(80))
	}
	f.Fuzz(func(t *testing.T, spec, peer []byte, port uint16) {
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name = "dev", "p"
		if json.Unmarshal(spec, &np.Spec) != nil {
			return
		}
		a, ok := netip.AddrFromSlice(peer)
		if !ok {
			return
		}
		a = a.Unmap()
		c := New("n1")
		subject := netip.MustParseAddr("203.0.113.9")
		c.SetPod(Pod{Key: Key{"dev", "s"}, Node: "n1", IPs: []netip.Addr{subject}, Ports: []NamedPort{{"http", TCP, 80}}})
		c.SetPod(Pod{Key: Key{"dev", "p"}, Labels: map[string]string{"a": "b"}, IPs: []netip.Addr{a}, Ports: []NamedPort{{"x", SCTP, 80}}})
		if err := c.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
		c.Commit()
		for _, p := range c.Policies() {
			for dir, rules := range p.Rules {
				for _, r := range rules {
					checkCompiled(t, c, p, Direction(dir), &r, a, subject, port)
				}
			}
		}
	})
}

func checkCompiled(t *testing.T, c *Cluster, p *Policy, dir Direction, r *Rule, a, subject netip.Addr, port uint16) {
	if r.AnyPeer && len(r.Peers) > 0 || r.AnyPort && len(r.Ports)+len(r.Named) > 0 {
		t.Fatalf("any and some: %+v", r)
	}
	for i, q := range r.Ports {
		if q.From > q.To || i > 0 && r.Ports[i-1].Protocol == q.Protocol && int(r.Ports[i-1].To)+1 >= int(q.From) {
			t.Fatalf("ports are not merged: %v", r.Ports)
		}
	}
	for _, s := range r.Peers {
		all := slices.Concat(s.Ranges(state.IPv4), s.Ranges(state.IPv6))
		in := false
		for i, x := range all {
			if x.From.Compare(x.To) > 0 || i > 0 && all[i-1].From.BitLen() == x.From.BitLen() && all[i-1].To.Next().Compare(x.From) >= 0 {
				t.Fatalf("ranges are not disjoint: %v", all)
			}
			in = in || x.From.BitLen() == a.BitLen() && x.From.Compare(a) <= 0 && a.Compare(x.To) <= 0
		}
		if s.Kind() == CIDRSet && (in != s.Contains(a) || len(all) == 0) {
			t.Fatalf("%s in %v: %v", a, all, s.Contains(a))
		}
	}
	if v := c.Judge(dir, Key{"dev", "s"}, subject, a, TCP, port); v.Allowed && a != subject && len(v.Isolating) > 0 && v.Rule == nil {
		t.Fatalf("allowed by nothing: %+v of %+v", v, p)
	}
}

// FuzzBlock compares the reading of blocks and what is left of them with the arithmetic on single addresses.
func FuzzBlock(f *testing.F) {
	f.Add("10.0.0.0/8", "10.1.0.0/16", "10.255.0.0/17", []byte{10, 1, 0, 0})
	f.Add("010.000.1.2/024", "10.0.1.0/25", "", []byte{10, 0, 1, 128})
	f.Add("::/0", "ffff::/16", "8000::/1", []byte{15: 1})
	f.Add("::ffff:10.0.0.0/104", "10.0.0.0/9", "x", []byte{10, 0, 1, 128})
	f.Fuzz(func(t *testing.T, block, e1, e2 string, addr []byte) {
		b, err := ParseBlock(block)
		if err != nil {
			return
		}
		if again, err := ParseBlock(b.String()); err != nil || again != b {
			t.Fatalf("%q is %s is %s, %v", block, b, again, err)
		}
		a, ok := netip.AddrFromSlice(addr)
		if !ok {
			return
		}
		a = a.Unmap()
		want := b.Contains(a)
		var except []netip.Prefix
		for _, s := range []string{e1, e2} {
			if e, err := ParseBlock(s); err == nil && CheckExcept(b, e) == nil {
				except = append(except, e)
				want = want && !e.Contains(a)
			}
		}
		left := merge(subtract(b, except))
		if inRanges(left, a) != want {
			t.Fatalf("%s in %s but not %v: %v", a, b, except, left)
		}
	})
}
