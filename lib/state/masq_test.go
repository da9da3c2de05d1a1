package state

import "testing"

func TestMasqStaysBelowNet(t *testing.T) {
	for name, ok := range map[string]bool{
		"net/ipv4/ip_forward": true, "net/ipv6/conf/eth0.5/accept_ra": true,
		"kernel/core_pattern": false, "net/../kernel/core_pattern": false, "/net/x": false, "": false, "net/": false, "net/a//b": false,
	} {
		m := Masq{Version: Version, Sysctls: []MasqSysctl{{Name: name, Was: "0", Set: "1"}}}
		if err := m.Validate(); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
		m.Sysctls[0] = MasqSysctl{Name: "net/ipv4/ip_forward", Was: "0", Set: "1", Also: map[string]string{name: "1"}}
		if err := m.Validate(); (err == nil) != ok {
			t.Errorf("also %q: %v", name, err)
		}
	}
	m := Masq{Version: Version, Sysctls: []MasqSysctl{{Name: "net/ipv4/ip_forward", Set: "1"}}}
	if m.Validate() == nil {
		t.Error("a value is missing")
	}
}
