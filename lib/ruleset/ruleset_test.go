package ruleset

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var samples = []*Object{
	{
		ID: ID{"inet", Set, "sel4-5f1c"}, Notes: []string{"peers: pods app=web of dev"},
		Head: []string{"type ipv4_addr"}, Lines: []string{`10.244.1.2 comment "dev/a"`, `10.244.1.3 comment "dev/b, c"`},
	},
	{ID: ID{"inet", Set, "sel6-5f1c"}, Head: []string{"type ipv6_addr", `comment "x"`}},
	{ID: ID{"inet", Map, "egress4"}, Head: []string{"type ipv4_addr : verdict"}, Lines: []string{`10.244.1.2 comment "dev/a" : goto ingress`}},
	{
		ID:    ID{"inet", Chain, "pi-dev/allow.x"},
		Head:  []string{`comment "dev/allow.x"`},
		Lines: []string{`tcp dport @port-80 ip saddr @sel4-5f1c counter accept comment "ingress[0]"`, "return"},
	},
	{ID: ID{"inet", Chain, "forward"}, Head: []string{"type filter hook forward priority filter; policy accept;"}, Lines: []string{"goto egress"}},
	{ID: ID{"bridge", Chain, "empty"}},
}

func TestRoundTrip(t *testing.T) {
	for _, o := range samples {
		got, err := Parse(o.Family, o.Text())
		if err != nil {
			t.Fatalf("%s: %v\n%s", o.ID, err, o.Text())
		}
		if diff := cmp.Diff(o, got); diff != "" {
			t.Errorf("%s: %s", o.ID, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(samples[0].Text())
	for name, text := range map[string]string{
		"empty":         "",
		"cut off":       good[:len(good)-3],
		"other kind":    strings.Replace(good, "set", "quota", 1),
		"a table":       "table inet filter {\n" + good + "}\n",
		"not sorted":    strings.Replace(good, "10.244.1.2", "10.244.1.4", 1),
		"no comma":      strings.Replace(good, `b, c",`, `b, c"`, 1),
		"more":          good + "flush ruleset\n",
		"a note only":   "# x\n",
		"a note, ended": "# x",
	} {
		if o, err := Parse("inet", []byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, o)
		}
	}
}

func TestManifest(t *testing.T) {
	m := &Manifest{Node: "worker01", Endpoints: []string{"c1-eth0", "c2-eth0"}}
	for _, o := range samples {
		m.Entries = append(m.Entries, Entry{o.Path(), Digest(o.Text())})
	}
	text := m.Text("/run/x/policy")
	got, err := ParseManifest("/run/x/policy", text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
	for name, edit := range map[string][2]string{
		"digest":     {m.Entries[0].Digest, strings.Repeat("0", 32)},
		"generation": {m.Generation(), strings.Repeat("0", 32)},
		"escape":     {"policy/inet/sets/", "policy/../../"},
		"a block":    {"\tinclude", "}\ntable inet filter {\n\tinclude"},
		"a command":  {"\tinclude", "flush ruleset\n\tinclude"},
	} {
		if _, err := ParseManifest("/run/x/policy", []byte(strings.Replace(string(text), edit[0], edit[1], 1))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, cut := range []int{0, 1, len(text) / 2, len(text) - 1} {
		if _, err := ParseManifest("/run/x/policy", text[:cut]); err == nil {
			t.Errorf("accepted when cut at %d", cut)
		}
	}
}

func TestPathsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range samples {
		if seen[o.Path()] {
			t.Errorf("%s twice", o.Path())
		}
		seen[o.Path()] = true
	}
}

func FuzzParse(f *testing.F) {
	for _, o := range samples {
		f.Add(o.Text())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := Parse("inet", data); err == nil && string(o.Text()) != string(data) {
			t.Errorf("%q was read and is written as %q", data, o.Text())
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add((&Manifest{Node: "n", Entries: []Entry{{"inet/sets/a.nft", Digest(nil)}}}).Text("/p"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseManifest("/p", data)
	})
}

func TestManifestIsAskedAsText(t *testing.T) {
	m := &Manifest{Node: "n", Endpoints: []string{"ab-eth0"}, Entries: []Entry{{samples[0].Path(), Digest(samples[0].Text())}}}
	text := m.Text("/run/x/policy")
	if !Covers(text, "ab-eth0") || Covers(text, "b-eth0") || Covers(text, "ab-eth") {
		t.Error("Covers is wrong")
	}
	if !Names(text, samples[0].Path()) || Names(text, "sets/sel4-5f1c.nft ") || Names(text, samples[1].Path()) {
		t.Error("Names is wrong")
	}
}

func TestDirsHoldEveryPath(t *testing.T) {
	dirs := Dirs()
	for _, o := range samples {
		if dir := path.Dir(o.Path()); !slices.Contains(dirs, dir) {
			t.Errorf("%s is in %s, which is none of %q", o.ID, dir, dirs)
		}
	}
}

func TestLogPrefix(t *testing.T) {
	if d, name, ok := ParseLogPrefix(LogPrefix(Egress, "ge-5f1c")); !ok || d != Egress || name != "ge-5f1c" {
		t.Errorf("read back as %q %q %v", d, name, ok)
	}
	for _, other := range []string{"", "towpath", "netpol E ge-5f1c ", "towpath E ge 5f1c "} {
		if _, _, ok := ParseLogPrefix(other); ok {
			t.Errorf("%q is taken for ours", other)
		}
	}
}
