package explain

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
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

// TestMatrixGroups: pods that are treated alike are one row, whatever their labels, and the outside is one; where
// policies tell its parts apart, a footnote does.
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
           1 2 3
1 3 pods   + + +
2 dev/web  +   +
3 external + ~
group 1: dev/a dev/b dev/c
3 to 2: 203.0.113.0/24: allow | others: deny
`
	if d := cmp.Diff(want, text.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestMatrixOutside: what is allowed for a part of the outside only, private or not, is ~ with the blocks in a footnote.
func TestMatrixOutside(t *testing.T) {
	c := model.New("n1")
	for i, name := range []string{"a", "b"} {
		c.SetPod(model.Pod{
			Key: model.Key{Namespace: "dev", Name: name}, Labels: map[string]string{"app": name}, Node: "n1",
			IPs: addrs(fmt.Sprintf("10.244.1.%d", i+2), fmt.Sprintf("fd00:1::%d", i+2)), HostIPs: addrs("203.0.113.7"),
		})
	}
	addPolicies(t, c, map[string]string{
		"dev/in": `{podSelector: {matchLabels: {app: a}}, ingress: [
			{from: [{ipBlock: {cidr: 'fd77::/16'}}], ports: [{port: 80}]},
			{from: [{ipBlock: {cidr: 10.244.1.3/32}}, {ipBlock: {cidr: 10.244.0.0/16}}, {ipBlock: {cidr: 203.0.113.7/32}}], ports: [{port: 81}]},
			{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 82}]}, {from: [{ipBlock: {cidr: '::/0'}}, {ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 83}]}]}`,
		"dev/out": `{podSelector: {matchLabels: {app: b}}, policyTypes: [Egress], egress: [
			{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}], ports: [{port: 80}]}]}`,
	})
	c.Commit()
	s := &Setting{Cluster: c, Network: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	for _, q := range []struct {
		port    uint16
		in, out string // cells of external to dev/a and dev/b to external in CSV
		notes   []string
	}{
		{80, "part", "part", []string{"2 to 3: 169.254.169.254/32: deny | other IPv4: allow | other IPv6: deny", "3 to 1: fd77::/16: allow | others: deny"}},
		{81, "deny", "deny", nil}, // pods and a node are not outside
		{82, "allow (IPv4), deny (IPv6)", "deny", nil},
		{83, "allow", "deny", nil},
	} {
		m := NewMatrix(s, &Port{Protocol: model.TCP, Number: q.port})
		if d := cmp.Diff(q.notes, m.footnotes()); d != "" {
			t.Errorf("port %d: footnotes (-want +got)\n%s", q.port, d)
		}
		var table, text, page bytes.Buffer
		if err := errors.Join(m.CSV(&table), m.Text(&text), m.HTML(&page)); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&table).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{rows[3][1], rows[2][3]}; rows[0][3] != "external" || got != [2]string{q.in, q.out} {
			t.Errorf("port %d: %q", q.port, rows)
		}
		for _, n := range q.notes {
			if !strings.Contains(text.String(), "\n"+n+"\n") || !strings.Contains(page.String(), "<li>"+n+"</li>") {
				t.Errorf("port %d: %q is not in\n%s%s", q.port, n, text.String(), page.String())
			}
		}
		for _, end := range []struct {
			from, to string
			split    bool
		}{{"external", "dev/a", q.in == "part"}, {"dev/b", "external", q.out == "part"}} {
			got := explainText(t, s, end.from, end.to, fmt.Sprint(q.port))
			if strings.Contains(got, "of the addresses outside, these are another matter") != end.split {
				t.Errorf("%s\nbut the outside is told apart: %v", got, end.split)
			}
		}
	}
	every := NewMatrix(s, nil)
	if got := every.footnotes(); len(got) != 2 || got[1] != "3 to 1: fd77::/16: TCP 80, 83 | other IPv4: TCP 82-83 | other IPv6: TCP 83" {
		t.Errorf("every port: %q", got)
	}
}

// TestExplainFamilies: what was asked about is said to differ, not the pods that have the addresses.
func TestExplainFamilies(t *testing.T) {
	s := story(t, nil)
	for ends, want := range map[[2]string]string{
		{"fd00:2::2", "10.244.1.2"}:   "fd00:2::2 is an IPv6 address and 10.244.1.2 is an IPv4 address: no packet has one of each",
		{"2001:db8::1", "10.244.1.2"}: "2001:db8::1 is an IPv6 address and 10.244.1.2 is an IPv4 address: no packet has one of each",
		{"fd00:1::2", "prod/db"}:      "fd00:1::2 is an IPv6 address, and prod/db has none",
		{"prod/db", "fd00:1::2"}:      "fd00:1::2 is an IPv6 address, and prod/db has none",
		{"prod/db", "prod/only6"}:     "prod/db and prod/only6 have no address family in common",
	} {
		got := explainText(t, s, ends[0], ends[1], "80")
		if !strings.HasPrefix(got, "deny\n") || !strings.Contains(got, "note: "+want+"\n") {
			t.Errorf("%s to %s: %s", ends[0], ends[1], got)
		}
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
