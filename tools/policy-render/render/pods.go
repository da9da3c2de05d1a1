package render

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// device is what the kernel and nft both take for a device's name, without a wildcard.
var device = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,15}$`)

// CheckEndpoint says why an endpoint's port cannot be guarded.
func CheckEndpoint(e model.Endpoint) error {
	mac, err := net.ParseMAC(e.MAC)
	switch {
	case e.Veth != "" && !device.MatchString(e.Veth):
		return fmt.Errorf("hostVeth: %q is no device's name", e.Veth)
	case e.Bridge != "" && !device.MatchString(e.Bridge):
		return fmt.Errorf("bridge: %q is no device's name", e.Bridge)
	case e.MAC != "" && (err != nil || len(mac) != 6):
		return fmt.Errorf("mac: %q is no Ethernet address", e.MAC)
	}
	return nil
}

// table collects the elements of the sets and maps that hold pods.
type table map[ruleset.ID][]string

func (t table) add(fam string, kind ruleset.Kind, name, element string) {
	id := ruleset.ID{Family: fam, Kind: kind, Name: name}
	t[id] = append(t[id], element)
}

// podHeads are these sets and maps; each stands also while it is empty.
var podHeads = map[ruleset.ID]string{
	{Family: "inet", Kind: ruleset.Set, Name: "bridges"}:   "type ifname",
	{Family: "bridge", Kind: ruleset.Set, Name: "ports"}:   "type ifname",
	{Family: "bridge", Kind: ruleset.Set, Name: "mac"}:     "type ifname . ether_addr",
	{Family: "bridge", Kind: ruleset.Set, Name: "port4"}:   "type ifname . ether_addr . ipv4_addr",
	{Family: "bridge", Kind: ruleset.Set, Name: "port6"}:   "type ifname . ether_addr . ipv6_addr",
	{Family: "bridge", Kind: ruleset.Map, Name: "guarded"}: "type ifname : verdict",
	{Family: "bridge", Kind: ruleset.Set, Name: "target6"}: "typeof iifname . ether saddr . @th,64,128",
	{Family: "inet", Kind: ruleset.Map, Name: "egress4"}:   "type ipv4_addr : verdict",
	{Family: "inet", Kind: ruleset.Map, Name: "egress6"}:   "type ipv6_addr : verdict",
	{Family: "inet", Kind: ruleset.Map, Name: "ingress4"}:  "type ipv4_addr : verdict",
	{Family: "inet", Kind: ruleset.Map, Name: "ingress6"}:  "type ipv6_addr : verdict",
	{Family: "inet", Kind: ruleset.Set, Name: "self4"}:     "type ipv4_addr . ipv4_addr",
	{Family: "inet", Kind: ruleset.Set, Name: "self6"}:     "type ipv6_addr . ipv6_addr",
}

func (t table) objects() []*ruleset.Object {
	var out []*ruleset.Object
	for id, head := range podHeads {
		lines := t[id]
		slices.Sort(lines)
		out = append(out, &ruleset.Object{ID: id, Head: []string{head}, Lines: slices.Compact(lines)})
	}
	return out
}

// claim is what an address is to be judged by.
type claim struct {
	comment string
	groups  [2]string // chain to go to, empty: open
}

const closed = "unknown-pod"

// addPods takes the local pods in. Where two claim one address and are not to be judged alike, it is nobody's.
// guards are the groups whose ports are guarded.
func (t table) addPods(pods []*model.LocalPod, group func(model.Direction, []*model.Policy) string) (guards map[string]bool) {
	guards = map[string]bool{}
	claims := make(map[netip.Addr]claim, len(pods))
	for _, p := range pods {
		c := claim{comment: podComment(p.Key)}
		if p.Key == (model.Key{}) && p.Endpoint != nil {
			c.comment = nft.Quote(p.Endpoint.ID)
		}
		for d := range c.groups {
			c.groups[d] = group(model.Direction(d), p.Policies[d])
		}
		if in := c.groups[model.Ingress]; in != "" && p.Endpoint != nil && device.MatchString(p.Endpoint.Veth) && !forEveryone(p.Policies[model.Ingress]) {
			guards[in] = true
			t.add("bridge", ruleset.Map, "guarded", `"`+p.Endpoint.Veth+`" : goto deny-`+in)
		}
		for _, a := range p.IPs {
			if have, ok := claims[a]; ok && have.groups != c.groups {
				c.groups = [2]string{closed, closed}
			}
			claims[a] = c
			for _, b := range p.IPs {
				if f := familyOf(a); f == familyOf(b) {
					t.add("inet", ruleset.Set, "self"+f.suffix, a.String()+" . "+b.String())
				}
			}
		}
	}
	for a, c := range claims {
		for d, chain := range c.groups {
			verdict := open[d]
			if chain != "" {
				verdict = "goto " + chain
			}
			t.add("inet", ruleset.Map, word[d]+familyOf(a).suffix, a.String()+" comment "+c.comment+" : "+verdict)
		}
	}
	return guards
}

// addPort takes an endpoint's port in.
func (t table) addPort(e model.Endpoint) {
	mac, err := net.ParseMAC(e.MAC)
	if e.Veth == "" || err != nil || CheckEndpoint(e) != nil {
		return
	}
	if e.Bridge != "" {
		t.add("inet", ruleset.Set, "bridges", `"`+e.Bridge+`"`)
	}
	port := `"` + e.Veth + `"`
	t.add("bridge", ruleset.Set, "ports", port)
	owner := port + " . " + mac.String()
	t.add("bridge", ruleset.Set, "mac", owner)
	for _, a := range append(slices.Clone(e.IPs), linkLocal(mac)) {
		if a.Is4() {
			t.add("bridge", ruleset.Set, "port4", owner+" . "+a.String())
			continue
		}
		raw := a.As16()
		t.add("bridge", ruleset.Set, "port6", owner+" . "+a.String())
		t.add("bridge", ruleset.Set, "target6", owner+" . 0x"+hex.EncodeToString(raw[:]))
	}
}

// linkLocal is the address that the kernel gives a device by itself.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}
