//go:build netns

package change

import (
	"regexp"
	"strings"
	"testing"
)

// TestBrokenEdit: what cannot be used is said in the status and changes nothing, and what is right is taken.
func TestBrokenEdit(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, conf(`"Type": "vxlan"`))
	m := s.nodes[1]
	for _, c := range []struct{ text, says string }{
		{`{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"`, "net-conf.json"},
		{"", "net-conf.json"},
		{conf(`"Type": "carrier-pigeon"`), `unknown back end "carrier-pigeon"`},
		{conf(`"Type": "vxlan", "VNI": 16777216`), "16777216 is out of range"},
		{conf(`"Type": "vxlan", "Port": 70000`), "70000 is out of range"},
		{conf(`"Type": "vxlan", "MTU": 9000`), "9000 is more than the 1500 of eth0"},
		{`{"Network": "10.244.0.0/33", "Backend": {"Type": "vxlan"}}`, "10.244.0.0/33"},
		{`{"Network": "192.168.0.0/16", "SubnetMin": "192.168.7.0", "SubnetMax": "192.168.7.0", "Backend": {"Type": "vxlan"}}`, "192.168.7"},
	} {
		s.until("the pod's link is up, which the kernel says a moment after it is", func() string {
			links := m.Run("ip", "-br", "link")
			if strings.Contains(links, "NO-CARRIER") || starting.MatchString(links) {
				return links
			}
			return ""
		})
		before := m.kernel()
		s.change(c.says, func(through func(int)) {
			m.configure(c.text)
			s.until("the status says "+c.says, func() string {
				text, well := m.status()
				if well || !strings.Contains(text, "failing: ") || !strings.Contains(text, c.says) {
					return text
				}
				return ""
			})
			through(20)
			if after := m.kernel(); after != before {
				t.Errorf("%s: changed:\n%s\nbefore:\n%s", c.text, after, before)
			}
			m.configure(conf(`"Type": "vxlan"`))
			m.atRest()
		})
	}
	s.losesNothing("a right one after all", []string{`"Type": "vxlan", "VNI": 7`}, func(to string, _ func(int)) {
		s.nodes[0].configure(conf(to))
		m.configure(conf(to))
	})
}

var starting = regexp.MustCompile(`(?m)^veth\S+ +UNKNOWN `)

// kernel is what the node's programs have made there.
func (m *member) kernel() string {
	return m.Run("ip", "-br", "link") + m.Run("ip", "route") + m.Run("bridge", "fdb", "show", "dev", "flannel.1") + m.Run("nft", "list", "ruleset")
}
