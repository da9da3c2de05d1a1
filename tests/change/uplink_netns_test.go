//go:build netns

package change

import (
	"testing"

	"github.com/towpath/towpath/lib/state"
)

// uplinkChanges are changes of the nodes' way to each other.
var uplinkChanges = []struct {
	name    string
	env     []string        // of the nodes
	prepare func(m *member) // on both nodes; then do is done on both, else on the second
	do      func(m *member)
}{
	{name: "address", do: func(m *member) {
		m.Run("ip", "addr", "add", "192.168.7.22/24", "dev", "eth0")
		m.Run("ip", "addr", "del", "192.168.7.2/24", "dev", "eth0")
		m.Try("ip", "addr", "add", "192.168.7.22/24", "dev", "eth0") // gone with the first where promote_secondaries is 0
		m.Try("ip", "route", "add", "default", "via", "192.168.7.254")
	}},
	{name: "MTU", do: func(m *member) { m.Run("ip", "link", "set", "eth0", "mtu", "1400") }},
	// The kernel tells nobody of IPv4 routes that go with their device.
	{name: "down and up", do: func(m *member) {
		m.Run("ip", "link", "set", "eth0", "down")
		m.Run("ip", "link", "set", "eth0", "up")
		m.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	}},
	{name: "renamed", do: func(m *member) {
		m.Run("ip", "link", "set", "eth0", "down")
		m.Run("ip", "link", "set", "eth0", "name", "ens3")
		m.Run("ip", "link", "set", "ens3", "up")
		m.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	}},
	{name: "renamed while up", do: func(m *member) { m.Run("ip", "link", "set", "eth0", "name", "ens3") }},
	{name: "made anew", do: func(m *member) {
		m.Run("ip", "link", "del", "eth0")
		m.nic("eth0", "192.168.7.2/24")
		m.Run("ip", "route", "add", "default", "via", "192.168.7.254")
	}},
	{name: "second NIC that gets the default route", prepare: func(m *member) { m.nic("eth1", "192.168.8."+m.number()+"/24") }, do: func(m *member) {
		m.Run("ip", "route", "replace", "default", "via", "192.168.8.254", "dev", "eth1")
	}},
	{name: "second NIC of the list", env: []string{"TOWPATH_IFACE=eth9\neth0"}, prepare: func(m *member) {
		m.nic("eth1", "192.168.8."+m.number()+"/24") // else the new address leads nowhere where it is not there yet
	}, do: func(m *member) {
		m.Run("ip", "link", "set", "eth1", "name", "eth9")
	}},
}

// TestUplink changes nodes' interfaces and addresses under traffic: they and their peers follow. What is lost is printed only: while an address is
// nowhere, or the kernel holds an interface back that has just come up, nobody can deliver.
func TestUplink(t *testing.T) {
	for _, backend := range []string{"vxlan", "host-gw"} {
		for _, c := range uplinkChanges {
			t.Run(backend+" "+c.name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, 2, conf(`"Type": "`+backend+`"`), c.env...)
				if c.prepare != nil {
					c.prepare(s.nodes[0])
					c.prepare(s.nodes[1])
				}
				interfaces := []state.Interface{s.nodes[0].lease().Interface, s.nodes[1].lease().Interface}
				s.change(c.name, func(func(int)) {
					if c.do(s.nodes[1]); c.prepare != nil {
						c.do(s.nodes[0])
					}
					if c.name != "made anew" && c.name != "down and up" {
						s.until("the interface is another", func() string {
							if s.nodes[1].lease().Interface != interfaces[1] && (c.prepare == nil || s.nodes[0].lease().Interface != interfaces[0]) {
								return ""
							}
							return "it is not"
						})
					}
				})
				for _, m := range s.nodes {
					m.atRest()
				}
			})
		}
	}
}
