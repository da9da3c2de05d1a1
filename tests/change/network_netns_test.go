//go:build netns

package change

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// follow wants what hangs on the network and on the node's subnet to have followed.
func (m *member) followed() string {
	lease := m.lease()
	env, err := os.ReadFile(m.run.SubnetEnv())
	if err != nil {
		return err.Error()
	}
	subnet := lease.Subnet.IPv4
	for _, line := range []string{
		"FLANNEL_NETWORK=" + lease.Network.IPv4.String(),
		fmt.Sprintf("FLANNEL_SUBNET=%s/%d", subnet.Addr().Next(), subnet.Bits()),
	} {
		if !strings.Contains(string(env), line+"\n") {
			return fmt.Sprintf("subnet.env has no %s:\n%s", line, env)
		}
	}
	rules := m.Run("nft", "list", "table", "inet", "towpath-masq")
	for _, part := range []string{"ip saddr " + lease.Network.IPv4.String() + " accept", "ip saddr " + subnet.String()} {
		if !strings.Contains(rules, part) {
			return fmt.Sprintf("no rule has %q:\n%s", part, rules)
		}
	}
	return ""
}

// reaches wants a packet to get through, both ways.
func reaches(t *testing.T, a, z *pod) {
	t.Helper()
	for _, f := range []*flow{start(t, a, z), start(t, z, a)} {
		f.through(1)
		f.stop()
	}
}

// TestWiderNetwork: the nodes keep their subnets, and their pods notice nothing.
func TestWiderNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, `{"Network": "10.244.0.0/20", "Backend": {"Type": "vxlan"}}`)
	subnets := []netip.Prefix{s.nodes[0].lease().Subnet.IPv4, s.nodes[1].lease().Subnet.IPv4}
	s.losesNothing("Network", []string{"10.244.0.0/16", "10.244.0.0/20"}, func(to string, _ func(int)) {
		for _, m := range s.nodes {
			m.configure(`{"Network": "` + to + `", "Backend": {"Type": "vxlan"}}`)
		}
	})
	for i, m := range s.nodes {
		s.until("all follows", m.followed)
		if now := m.lease().Subnet.IPv4; now != subnets[i] {
			t.Errorf("%s has %s, before %s", m.name, now, subnets[i])
		}
		m.atRest()
	}
	reaches(t, s.nodes[0].attach(), s.nodes[1].attach())
}

// TestOtherNetwork: the nodes get other subnets. New pods reach each other at once, beside old ones, which keep their gateway until they are
// remade.
func TestOtherNetwork(t *testing.T) {
	for name, netConf := range map[string]string{
		"Network":   `{"Network": "10.99.0.0/16", "Backend": {"Type": "vxlan"}}`,
		"SubnetLen": `{"Network": "10.244.0.0/16", "SubnetLen": 26, "Backend": {"Type": "vxlan"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2, conf(`"Type": "vxlan"`))
			a, z := s.nodes[0], s.nodes[1]
			before := a.lease().Subnet.IPv4
			neighbour := a.attach()
			for _, m := range s.nodes {
				m.configure(netConf)
			}
			s.until("another subnet", func() string {
				if a.lease().Subnet.IPv4 == before {
					return "it is not"
				}
				return ""
			})
			s.converges(name)
			for _, m := range s.nodes {
				s.until("all follows", m.followed)
			}
			reaches(t, a.attach(), z.attach())
			reaches(t, a.pods[0], neighbour)
			for _, p := range []*pod{a.pods[0], neighbour, z.pods[0]} {
				p.detach()
			}
			for _, m := range s.nodes {
				m.attach() // which finds nobody left who needs the old gateway
				lease := m.lease()
				if addrs := m.Run("ip", "-4", "-br", "addr", "show", "cni0"); len(strings.Fields(addrs)) != 3 || !strings.Contains(addrs, lease.Subnet.IPv4.Addr().Next().String()+"/") {
					t.Errorf("%s: the bridge has %s", m.name, addrs)
				}
				m.atRest()
			}
			reaches(t, a.pods[0], z.pods[0])
		})
	}
}
