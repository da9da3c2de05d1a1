package objects

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// FuzzRead reads anything, and brings what was taken into a cluster. A list that was cut without parsing has to hold
// what it holds when parsed as a whole, and reading again by digest has to find the same objects.
func FuzzRead(f *testing.F) {
	multi, list, asJSON := manyPods(2)
	for _, s := range [][]byte{
		multi, list, asJSON, []byte(policyHead + "spec: {podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}, {port: http, protocol: SCTP}]}], egress: [{}]}\n"),
		[]byte("kind: List\nitems:\n- kind: Pod\n  metadata: &m {name: a}\n- kind: Namespace\n  metadata: *m\n"),
		[]byte("kind: PodList\nitems:\n  -\n    metadata: {name: a, labels: {\"a\": 'b'}}\n    status: {podIPs: [{ip: '::1'}]}\n# end\n"),
		[]byte("kind: List\nitems:\n- kind: Pod\n  metadata:\n    name: \"a\n- b\"\n- x: |\n    - c\n"),
		[]byte(`{"kind":"NetworkPolicyList","items":[{"metadata":{"name":"p"},"spec":{"podSelector":{"matchLabels":{"a":"\u0062"}}}}]}`),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Read(bytes.NewReader(data), "f", Options{})
		if err != nil {
			if exit.Of(err) != exit.BadInput || !strings.HasPrefix(err.Error(), `read "f": document `) && !strings.HasPrefix(err.Error(), `read document `) {
				t.Fatalf("error %v of status %s", err, exit.Of(err))
			}
			return
		}
		c := model.New("n1")
		c.SetEndpoint(model.Endpoint{ID: "e", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
		if err := Load(c, got); err != nil {
			t.Fatal(err)
		}
		c.Commit()
		for _, p := range c.Policies() {
			if p.Invalid != "" {
				t.Fatalf("taken, but %s: %s", p.Key, p.Invalid)
			}
		}
		first, err := parse("f", data, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		have := known{}
		for _, o := range first {
			have[o.digest] = &entry{digest: o.digest}
			if o.object != nil {
				have[o.digest].id = o.object.ID()
			}
		}
		second, err := parse("f", data, Options{}, have)
		if err != nil || len(first) != len(second) {
			t.Fatalf("read again: %d objects, then %d, %v", len(first), len(second), err)
		}
		for i := range first {
			var id ID
			if first[i].object != nil {
				id = first[i].object.ID()
			}
			if second[i].entry == nil || second[i].entry.id != id || second[i].object != nil {
				t.Fatalf("read again: %v, then %+v", id, second[i])
			}
		}
		for _, doc := range documents(data) {
			if _, _, _, ok := splitItems(doc); !ok || isJSON(doc) {
				continue
			}
			text, err := yaml.YAMLToJSONStrict(doc)
			if err != nil {
				continue // a plain "yes" for a name is taken where only names are read, and not by way of JSON
			}
			cut, err1 := Read(bytes.NewReader(doc), "f", Options{})
			whole, err2 := Read(bytes.NewReader(text), "f", Options{})
			if err1 == nil && err2 == nil && describe(cut) != describe(whole) {
				t.Fatalf("cut:   %s\nwhole: %s", describe(cut), describe(whole))
			}
		}
	})
}

func describe(objects []Object) string {
	var b strings.Builder
	for i := range objects {
		o := &objects[i]
		fmt.Fprintf(&b, "%s ", o.ID())
		if o.Pod != nil {
			fmt.Fprintf(&b, "%v %v %v %v\n", o.Pod.Labels, o.Pod.IPs, o.Pod.Ports, o.Pod.Node)
		}
		if o.Policy != nil {
			text, _ := json.Marshal(o.Policy.Spec)
			b.Write(text)
		}
		if o.Namespace != nil {
			fmt.Fprintln(&b, o.Namespace.Labels)
		}
	}
	return b.String()
}

// FuzzScanner compares what the scanner hands out of an object with what encoding/json finds in it.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":[{"c":"]}\""}],"d":{"e":null}}`, ` { "a" : "\\" , "b" : true } `, `{"a":1,}`, `{"a"}`, `{"a":}`, `{1:2}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := map[string]string{}
		s := &scanner{data: data}
		err := s.object(func(key string, value []byte) error {
			got[key] = string(value)
			return nil
		})
		var want map[string]json.RawMessage
		if json.Unmarshal(data, &want) != nil || want == nil {
			return // what is malformed further down is found by who decodes it
		}
		if err != nil || s.peek() != 0 {
			t.Fatalf("%q: %v at %d", data, err, s.at)
		}
		if strings.Contains(string(data), `\`) || !json.Valid(data) {
			return // keys are compared as they are written
		}
		for k, v := range want {
			if strings.ToValidUTF8(k, "") == k && !strings.Contains(k, "\ufffd") && got[k] != string(v) {
				t.Fatalf("%q: key %q is %q, want %q", data, k, got[k], v)
			}
		}
	})
}
