package graph

import (
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/supervisor/stage"
)

// policed is a node whose pods may wait for their policies.
var policed = []string{
	"cni: lease.json !routes.json !loaded.json -> /etc/conflist",
	"lease: /etc/net-conf.json -> lease.json",
	"load: policy.nft -> loaded.json",
	"render: lease.json /etc/objects/ -> policy/ policy.nft",
	"routes: lease.json -> routes.json",
}

func TestWaive(t *testing.T) {
	for _, c := range []struct {
		name   string
		masked string
		have   string
		gates  string
		idle   string
	}{
		{"no objects", "", "/etc/net-conf.json lease.json routes.json", "cni:loaded.json", "load render"},
		{"objects, not loaded yet", "", "/etc/net-conf.json lease.json routes.json /etc/objects/", "", ""},
		{"objects went, loaded stands", "", "/etc/net-conf.json lease.json routes.json policy.nft loaded.json", "", ""},
		{"objects went, loaded too", "", "/etc/net-conf.json lease.json routes.json policy.nft", "", ""},
		{"routes not yet: it has to wait in any case", "", "/etc/net-conf.json lease.json", "", ""},
		{"nothing yet", "", "", "", ""},
		{"not configured, with what was left: routes can run", "", "lease.json", "", ""},
		{"load is masked", "load", "/etc/net-conf.json lease.json routes.json /etc/objects/", "cni:loaded.json", ""},
		{"render is masked", "render", "/etc/net-conf.json lease.json routes.json /etc/objects/", "cni:loaded.json", "load"},
		{"both are masked", "load render", "/etc/net-conf.json lease.json routes.json /etc/objects/", "cni:loaded.json", ""},
		{"a masked writer of an input", "lease", "", "", ""},
		{"two gates", "load routes", "lease.json", "cni:loaded.json,routes.json", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			hidden := strings.Fields(c.masked)
			var stages, masked []*stage.Stage
			for _, s := range of(policed...) {
				if slices.Contains(hidden, s.Name) {
					masked = append(masked, s)
				} else {
					stages = append(stages, s)
				}
			}
			g, err := Build(stages)
			if err != nil {
				t.Fatal(err)
			}
			g.Masked = masked
			have, missing := strings.Fields(c.have), map[string][]string{}
			for _, s := range g.Stages {
				missing[s.Name] = slices.DeleteFunc(s.Required(), func(f string) bool { return slices.Contains(have, f) })
			}
			w := g.Waive(missing)
			var gates, idle []string
			for _, s := range g.Stages {
				if out := w.Gates[s.Name]; len(out) > 0 {
					slices.Sort(out)
					gates = append(gates, s.Name+":"+strings.Join(out, ","))
				}
				if w.Idle[s.Name] {
					idle = append(idle, s.Name)
				}
			}
			slices.Sort(idle)
			if got := strings.Join(gates, " "); got != c.gates {
				t.Errorf("gates left out %q, want %q", got, c.gates)
			}
			if got := strings.Join(idle, " "); got != c.idle {
				t.Errorf("idle %q, want %q", got, c.idle)
			}
		})
	}
}

// TestWaiveNotWithoutWriter: a gate that no stage writes is somebody's to make by hand, and a file below the run
// directory is expected to come.
func TestWaiveNotWithoutWriter(t *testing.T) {
	for _, lines := range [][]string{
		{"a: !gate -> x"},
		{"a: !/etc/gate -> x"},
		{"a: names -> greeting", "b: !greeting -> y"},
	} {
		g, err := Build(of(lines...))
		if err != nil {
			t.Fatal(err)
		}
		missing := map[string][]string{}
		for _, s := range g.Stages {
			missing[s.Name] = s.Required()
		}
		if w := g.Waive(missing); len(w.Gates) > 0 {
			t.Errorf("%v: left out %v", lines, w.Gates)
		}
	}
}
