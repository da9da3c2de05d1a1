package explain

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// question is one packet.
type question struct {
	from, to string // a pod's name, or an address
	family   state.Family
	proto    model.Protocol
	port     uint16
}

var (
	askedPorts  = []uint16{0, 1, 79, 80, 81, 82, 83, 65535}
	askedProtos = []model.Protocol{model.TCP, model.UDP, model.SCTP, 47}
	askedOthers = addrs("203.0.113.9", "9.9.9.9", "10.1.0.14", "192.168.0.3", "fd00::77", "2001:db8::1")
)

// ask judges every question about these pods one by one.
func (s *Setting) ask(pods []model.Key) map[question]bool {
	type end struct {
		name string
		key  model.Key
		addr netip.Addr
	}
	out := map[question]bool{}
	for _, f := range state.Families {
		var ends []end
		for _, k := range pods {
			var a netip.Addr
			if first(s.Cluster.Addrs(k), f, &a) {
				ends = append(ends, end{k.String(), k, a})
			}
		}
		for _, a := range askedOthers {
			if state.FamilyOf(a) == f {
				ends = append(ends, end{name: a.String(), addr: a})
			}
		}
		for _, from := range ends {
			for _, to := range ends {
				if from == to || from.key == to.key {
					continue
				}
				for _, proto := range askedProtos {
					for _, port := range askedPorts {
						q := question{from.name, to.name, f, proto, port}
						out[q] = (from.key == model.Key{} || s.Cluster.Judge(model.Egress, from.key, from.addr, to.addr, proto, port).Allowed) &&
							(to.key == model.Key{} || s.Cluster.Judge(model.Ingress, to.key, to.addr, from.addr, proto, port).Allowed)
					}
				}
			}
		}
	}
	return out
}

// TestReachIsJudge: what is worked out for classes and all ports at once is what the model judges one by one.
func TestReachIsJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var seen [2]int
	for range 60 {
		s, _ := randomSetting(t, r)
		pods := s.subjects()
		with := newReach(s)
		classes := classify([]*reach{with}, pods, everywhere)
		find := func(name string) *class {
			for _, c := range classes {
				if slices.ContainsFunc(c.pods, func(k model.Key) bool { return k.String() == name }) {
					return c
				}
				if a, err := netip.ParseAddr(name); err == nil && slices.ContainsFunc(c.ranges, func(r model.Range) bool {
					return r.From.BitLen() == a.BitLen() && r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0
				}) {
					return c
				}
			}
			t.Fatalf("%s is in no class", name)
			return nil
		}
		byName := map[string]*class{}
		for q, want := range s.ask(pods) {
			for _, n := range []string{q.from, q.to} {
				if byName[n] == nil {
					byName[n] = find(n)
				}
			}
			f := slices.Index(state.Families[:], q.family)
			got := with.all[with.between(f, byName[q.from].views[0], byName[q.to].views[0])].Has(q.proto, q.port)
			if got != want {
				t.Fatalf("%+v: %v, judged %v", q, got, want)
			}
			seen[map[bool]int{true: 1}[got]]++
		}
	}
	if seen[0] < 10000 || seen[1] < 10000 {
		t.Errorf("%d denied, %d allowed", seen[0], seen[1])
	}
}

// TestDiffIsJudge: the changes are, one by one, those that the model judges in another way.
func TestDiffIsJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	changes := 0
	for range 40 {
		seed := r.Uint64()
		old, _ := randomSetting(t, rand.New(rand.NewPCG(seed, 1)))
		now, _ := randomSetting(t, rand.New(rand.NewPCG(seed, 1)))
		for i := range 3 {
			if err := now.Cluster.SetPolicy(randomPolicy(r, "ns1", fmt.Sprintf("np%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		now.Cluster.Commit()
		pods := old.subjects()
		want := [2]map[question]bool{{}, {}} // denied, allowed
		after := now.ask(pods)
		for q, was := range old.ask(pods) {
			if is := after[q]; is != was {
				want[map[bool]int{true: 1}[is]][q] = true
				changes++
			}
		}
		d := Diff(old, now)
		for i, list := range [][]Change{d.Denied, d.Allowed} {
			if got := expand(list, after); !cmp.Equal(got, want[i], cmp.AllowUnexported(question{})) {
				t.Fatalf("(-judged +said)\n%s", cmp.Diff(want[i], got, cmp.AllowUnexported(question{})))
			}
		}
		if same := Diff(now, now); len(same.Allowed)+len(same.Denied) > 0 || same.Text() != "" {
			t.Fatalf("nothing changed, and: %s", same.Text())
		}
	}
	if changes < 10000 {
		t.Errorf("only %d changes", changes)
	}
}

// expand is the questions that are asked of which the list says something.
func expand(list []Change, asked map[question]bool) map[question]bool {
	out := map[question]bool{}
	for _, c := range list {
		ends := func(e Ends, f state.Family) []string {
			names := slices.Clone(e.Pods)
			for _, a := range askedOthers {
				if state.FamilyOf(a) == f && slices.ContainsFunc(e.Addresses, func(words string) bool { return wordsHold(words, a) }) {
					names = append(names, a.String())
				}
			}
			return names
		}
		for _, f := range c.Families {
			for _, from := range ends(c.From, f) {
				for _, to := range ends(c.To, f) {
					_, fromAddr := netip.ParseAddr(from)
					_, toAddr := netip.ParseAddr(to)
					if from == to || fromAddr == nil && toAddr == nil {
						continue
					}
					for _, p := range c.Ports {
						for _, proto := range askedProtos {
							name := proto.String()
							if proto == 47 {
								name = "other"
							}
							for _, port := range askedPorts {
								if p.Protocol == name && p.From <= port && port <= p.To {
									if q := (question{from, to, f, proto, port}); hasKey(asked, q) {
										out[q] = true
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return out
}

func hasKey(m map[question]bool, q question) bool {
	_, ok := m[q]
	return ok
}

// wordsHold reads what blockWords wrote.
func wordsHold(words string, a netip.Addr) bool {
	in := func(list string) bool {
		return slices.ContainsFunc(strings.Split(list, ", "), func(one string) bool {
			if from, to, ok := strings.Cut(one, "-"); ok {
				f, t := netip.MustParseAddr(from), netip.MustParseAddr(to)
				return f.BitLen() == a.BitLen() && f.Compare(a) <= 0 && a.Compare(t) <= 0
			}
			return netip.MustParsePrefix(one).Contains(a)
		})
	}
	block, except, _ := strings.Cut(words, " except ")
	return in(block) && (except == "" || !in(except))
}

// TestMatrixIsJudge compares every cell for a port.
func TestMatrixIsJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 40 {
		s, _ := randomSetting(t, r)
		port := &Port{Protocol: protocols[r.IntN(3)], Number: uint16(79 + r.IntN(5))}
		var out bytes.Buffer
		if err := NewMatrix(s, port).CSV(&out); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		cells := map[[2]string]string{}
		for _, row := range rows[1:] {
			for j, cell := range row[1:] {
				cells[[2]string{row[0], rows[0][j+1]}] = cell
			}
		}
		pods := s.subjects()
		for i, from := range pods {
			for j, to := range pods {
				want := "self"
				if i != j {
					a, err := s.Explain(End{Pod: from}, End{Pod: to}, *port)
					if err != nil {
						t.Fatal(err)
					}
					switch {
					case len(a.Paths) == 0:
						want = "no common address family"
					case len(a.Paths) == 2 && a.Paths[0].Verdict != a.Paths[1].Verdict:
						want = a.Paths[0].Verdict + " (IPv4), " + a.Paths[1].Verdict + " (IPv6)"
					default:
						want = a.Verdict
					}
				}
				if got := cells[[2]string{from.String(), to.String()}]; got != want {
					t.Fatalf("%s to %s, %s: %q, explained %q", from, to, port.words(), got, want)
				}
			}
		}
	}
}

// TestMatrixOutsideIsJudge: of random clusters, a cell of the outside that is not in part is what the model says of every
// address outside.
func TestMatrixOutsideIsJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	asked := addrs("203.0.113.9", "9.9.9.9", "10.1.0.14", "10.0.0.200", "10.200.0.1", "192.168.0.3", "fd00::77", "fd77::1", "2001:db8::1")
	seen := map[string]int{}
	for range 300 {
		s, _ := randomSetting(t, r)
		port := Port{Protocol: protocols[r.IntN(2)], Number: uint16(80 + r.IntN(3))}
		m := NewMatrix(s, &port)
		last := len(m.groups) - 1
		for i, g := range m.groups[:last] {
			for _, k := range g.pods {
				for dir, n := range map[model.Direction]int{model.Egress: m.cells[i][last], model.Ingress: m.cells[last][i]} {
					a := m.answers[n]
					for _, peer := range asked {
						f := slices.Index(state.Families[:], state.FamilyOf(peer))
						var own netip.Addr
						if !first(s.Cluster.Addrs(k), state.Families[f], &own) || s.insider(peer, s.nodes()) {
							continue
						}
						got := s.Cluster.Judge(dir, k, own, peer, port.Protocol, port.Number).Allowed
						want := m.symbol(a) == "+" // else families differ, and the answer tells which
						if m.symbol(a) == "~" {
							want = a.ports[f].Has(port.Protocol, port.Number)
						}
						if a.parts == "" && got != want {
							t.Fatalf("%s direction %d, %s of %s: %v, and the cell says %q", k, dir, port.words(), peer, got, m.words(a))
						}
						seen[fmt.Sprint(a.parts != "", got)]++
					}
				}
			}
		}
	}
	for _, what := range []string{"true true", "true false", "false true", "false false"} {
		if seen[what] < 100 {
			t.Errorf("only %d cases of %s", seen[what], what)
		}
	}
}
