//go:build netns

package change

import (
	"fmt"
	"testing"
	"time"
)

const network = `"Network": "10.244.0.0/16"`

func conf(backend string) string { return fmt.Sprintf(`{%s, "Backend": {%s}}`, network, backend) }

// changes are edits of net-conf.json, there and back.
var changes = []struct{ name, from, to string }{
	{"vxlan host-gw", `"Type": "vxlan"`, `"Type": "host-gw"`},
	{"VNI", `"Type": "vxlan"`, `"Type": "vxlan", "VNI": 2`},
	{"Port", `"Type": "vxlan"`, `"Type": "vxlan", "Port": 8473`},
	{"MTU", `"Type": "vxlan"`, `"Type": "vxlan", "MTU": 1400`},
	{"DirectRouting", `"Type": "vxlan"`, `"Type": "vxlan", "DirectRouting": true`},
}

// TestBackend edits the back end of running nodes, on all at once and one by one. There is always a way that leads there: a new one
// is made before an old one goes, and what is sent the old way arrives for a while.
func TestBackend(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 3, conf(c.from))
			s.losesNothing(c.name+", all at once", []string{c.to, c.from}, func(to string, _ func(int)) {
				for _, m := range s.nodes {
					m.configure(conf(to))
				}
			})
			s.losesNothing(c.name+", one by one", []string{c.to, c.from}, func(to string, through func(int)) {
				for _, m := range s.nodes {
					through(50)
					m.configure(conf(to))
					s.until(m.name+" has moved", func() string { _, _, _, why := m.moved(); return why })
				}
			})
		})
	}
}

// change makes a change under traffic, and prints what was lost and how long it took.
func (s *site) change(what string, do func(through func(int))) loss {
	s.t.Helper()
	through, stop := s.flows()
	s.edited = time.Now()
	do(through)
	s.converges(what)
	took := time.Since(s.edited)
	through(50)
	l := stop()
	s.t.Logf("%s: %s, done %.0f ms after the last edit", what, l, float64(took.Microseconds())/1000)
	return l
}

// losesNothing makes changes that have to lose nothing. Since a kernel that is too busy drops packets by itself, once in three is enough:
// a wrong order would show each time.
func (s *site) losesNothing(what string, list []string, do func(to string, through func(int))) {
	s.t.Helper()
	for range 3 {
		var lost []string
		for _, to := range list {
			lost = append(lost, s.change(what+", to "+to, func(through func(int)) { do(to, through) }).where...)
		}
		if len(lost) == 0 {
			return
		}
	}
	s.t.Errorf("%s: each time something is lost", what)
}
