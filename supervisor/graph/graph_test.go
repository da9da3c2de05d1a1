package graph

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/supervisor/stage"
)

// of makes stages from lines "name: inputs -> outputs"; an input in brackets is optional, one with an
// exclamation mark a gate, an output in brackets is written in some configurations only.
func of(lines ...string) []*stage.Stage {
	var out []*stage.Stage
	for _, line := range lines {
		name, files, _ := strings.Cut(line, ":")
		in, makes, _ := strings.Cut(files, "->")
		s := &stage.Stage{Name: name}
		for _, f := range strings.Fields(in) {
			switch f[0] {
			case '[':
				s.Optional = append(s.Optional, strings.Trim(f, "[]"))
			case '!':
				s.Gates = append(s.Gates, f[1:])
			default:
				s.Inputs = append(s.Inputs, f)
			}
		}
		for _, f := range strings.Fields(makes) {
			if strings.HasPrefix(f, "[") {
				s.Maybe = append(s.Maybe, strings.Trim(f, "[]"))
			} else {
				s.Outputs = append(s.Outputs, f)
			}
		}
		out = append(out, s)
	}
	return out
}

var node = []string{
	"cni: lease.json link.json routes.json -> /etc/conflist",
	"gw: host-gw.json -> link.json",
	"lease: /etc/net-conf.json [link.json] -> lease.json peers/ [vxlan.json] [host-gw.json]",
	"masq: lease.json ->",
	"routes: lease.json link.json peers/.synced -> routes.json",
	"vxlan: vxlan.json -> link.json",
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"alone", []string{"a: ->"}, "a"},
		{"names decide", []string{"b: ->", "a: ->"}, "a b"},
		{"files decide", []string{"a: x ->", "b: -> x"}, "b a"},
		{"chain", []string{"a: y -> z", "b: x -> y", "c: -> x", "d: z ->"}, "c b a d"},
		{"optional is no edge", []string{"a: [x] -> y", "b: y -> x"}, "a b"},
		{"file in a directory", []string{"a: d/.synced ->", "b: -> d/"}, "b a"},
		{"directory of a file", []string{"a: d/ ->", "b: -> d/x"}, "b a"},
		{"node", node, "lease gw masq vxlan routes cni"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := Build(of(c.lines...))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range g.Stages {
				names = append(names, s.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("order %q, want %q", got, c.want)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"itself", []string{"a: x -> x"}, "in a circle: a needs x of a"},
		{"two", []string{"a: y -> x", "b: x -> y"}, "in a circle: a needs y of b, b needs x of a"},
		{"three, and one behind", []string{"a: w ->", "b: z -> w x", "c: x -> y", "d: y -> z"}, "b needs z of d, d needs y of c, c needs x of b"},
		{"by a directory", []string{"a: d/x -> y", "b: y -> d/"}, "a needs d/x of b, b needs y of a"},
		{"two producers", []string{"a: -> x", "b: -> x"}, "stages a and b both write x"},
		{"same gate", []string{"a: g -> x", "b: g -> x"}, "stages a and b both write x"},
		{"gate of one only", []string{"a: g -> x", "b: -> x"}, "stages a and b both write x"},
		{"one inside the other's", []string{"a: -> d/", "b: -> d/x"}, "stages a and b both write d/"},
		{"maybe counts", []string{"a: -> [x]", "b: -> x"}, "stages a and b both write x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Build(of(c.lines...))
			if err == nil || !strings.Contains(err.Error(), c.want) || exit.Of(err) != exit.BadConfig {
				t.Errorf("error %v, exit status %d; want %q", err, exit.Of(err), c.want)
			}
		})
	}
	_, err := Build(of("a: -> x", "b: -> x", "c: y -> y"))
	if err == nil || !strings.Contains(err.Error(), "both write x") || !strings.Contains(err.Error(), "c needs y of c") {
		t.Errorf("not every fault is named: %v", err)
	}
}

func TestIdle(t *testing.T) {
	g, err := Build(of(node...))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		settled string
		missing map[string][]string
		want    string
	}{
		{"vxlan at work", "lease vxlan routes cni masq", map[string][]string{"gw": {"host-gw.json"}}, "gw"},
		{"lease not yet", "", map[string][]string{"gw": {"host-gw.json"}, "vxlan": {"vxlan.json"}}, ""},
		{"no net-conf", "", map[string][]string{"lease": {"/etc/net-conf.json"}, "masq": {"lease.json"}}, ""},
		{
			"a back end of another kind", "lease masq",
			map[string][]string{"gw": {"host-gw.json"}, "vxlan": {"vxlan.json"}, "routes": {"link.json"}, "cni": {"link.json", "routes.json"}},
			"gw vxlan routes cni",
		},
		{"somebody removed link.json", "lease vxlan masq", map[string][]string{"gw": {"host-gw.json"}, "routes": {"link.json"}}, "gw"},
	} {
		t.Run(c.name, func(t *testing.T) {
			idle := g.Idle(c.missing, func(name string) bool {
				return strings.Contains(" "+c.settled+" ", " "+name+" ")
			})
			want := map[string]bool{}
			for _, s := range g.Stages {
				want[s.Name] = strings.Contains(" "+c.want+" ", " "+s.Name+" ")
			}
			if diff := cmp.Diff(want, idle); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPictures(t *testing.T) {
	g, err := Build(of(node...))
	if err != nil {
		t.Fatal(err)
	}
	var text, dot strings.Builder
	g.Text(&text, nil)
	g.DOT(&dot, nil)
	for file, got := range map[string]string{"node.txt": text.String(), "node.dot": dot.String()} {
		path := filepath.Join("testdata", file)
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}
