package explain

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/tools/policy-render/model"
)

// TestPageEscapes: names that no API server would let pass are text on the page, and in no cell of the CSV a formula
// of more than its name.
func TestPageEscapes(t *testing.T) {
	c := model.New("n1")
	for i, name := range []string{`<script>alert(1)</script>`, `"onmouseover="x`, `'&amp;`} {
		c.SetPod(model.Pod{Key: model.Key{Namespace: "<b>", Name: name}, Node: "n1", IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}})
	}
	addPolicies(t, c, map[string]string{"dev/x": `{podSelector: {}, policyTypes: [Ingress]}`})
	c.Commit()
	var page bytes.Buffer
	if err := NewMatrix(&Setting{Cluster: c}, nil).HTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script>", `"onmouseover`, "<b>", "'&amp;<"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, good := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;", "&#34;onmouseover=&#34;x", "&#39;&amp;amp;"} {
		if !strings.Contains(page.String(), good) {
			t.Errorf("the page lacks %q", good)
		}
	}
}

// TestMatrixGroups: pods that are treated alike are one row, whatever their labels, and the outside is one as long as
// no policy tells its parts apart.
func TestMatrixGroups(t *testing.T) {
	var text bytes.Buffer
	c := model.New("n1")
	for i, name := range []string{"a", "b", "c", "web"} {
		c.SetPod(model.Pod{
			Key: model.Key{Namespace: "dev", Name: name}, Labels: map[string]string{"app": name}, IPs: addrs("10.0.0." + string(rune('1'+i))),
		})
	}
	addPolicies(t, c, map[string]string{"dev/x": `{podSelector: {matchLabels: {app: web}}, ingress: [
		{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}, {from: [{podSelector: {}}, {ipBlock: {cidr: 203.0.113.0/24}}]}]}`})
	c.Commit()
	if err := NewMatrix(&Setting{Cluster: c}, &Port{Protocol: model.TCP, Number: 80}).Text(&text); err != nil {
		t.Fatal(err)
	}
	want := `TCP 80: + allowed, ~ in part, - denied; rows are sources
                          1 2 3 4
1 3 pods                  + + + +
2 dev/web                 +   + +
3 external                + -
4 external 203.0.113.0/24 + +
group 1: dev/a dev/b dev/c
`
	if d := cmp.Diff(want, text.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"80/TCP", "http", "dns/udp", "icmp", "0", "65536", "dev/a", "external", "fd00::1", "10.0.0.1", "::ffff:10.0.0.1", "a/b/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePort(s); err == nil && p.Name == "" && p.Number == 0 && p.Protocol != model.ICMP {
			t.Errorf("port %q is %+v", s, p)
		}
		if e, err := ParseEnd(s); err == nil && e.external() != (s == "external") {
			t.Errorf("end %q is %+v", s, e)
		}
		// A key of a set comes from the model, but is a text all the same.
		_ = parseSelects(s).String()
	})
}

func FuzzSelects(f *testing.F) {
	f.Add("app", "web", "team", "a", uint8(0))
	f.Add("a/b", "", "x.y", "1", uint8(3))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, op uint8) {
		for _, k := range []string{k1, k2} {
			if model.CheckLabelKey(k) != nil {
				return
			}
		}
		for _, v := range []string{v1, v2} {
			if model.CheckLabelValue(v) != nil {
				return
			}
		}
		first := []string{k1 + "=" + v1, k1 + " in (" + v1 + "," + v2 + ")", k1 + " notin (" + v1 + "," + v2 + ")", k1, "!" + k1}[op%5]
		s := parseSelects("{" + first + "," + k2 + "}/{" + k2 + "=" + v2 + "," + first + "}")
		if len(s.namespaces) != 2 || len(s.pods) != 2 || s.namespaces[0].text != first || s.pods[1].text != first || s.namespaces[0].key != k1 {
			t.Fatalf("%+v", s)
		}
		labels := map[string]string{k1: v1}
		wants := []bool{true, true, false, true, false}[op%5] // met by the labels
		if got := s.namespaces[0].lacks(labels) == ""; got != wants {
			t.Fatalf("%s: %v", first, got)
		}
		if got := s.namespaces[0].lacks(nil) == ""; got != (op%5 == 2 || op%5 == 4) {
			t.Fatalf("%s, no labels: %v", first, got)
		}
	})
}
