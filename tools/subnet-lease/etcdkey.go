package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

// attributes is the value of a lease in etcd, field for field as flannel writes it.
type attributes struct {
	PublicIP      string
	PublicIPv6    *string
	BackendType   string          `json:",omitempty"`
	BackendData   json.RawMessage `json:",omitempty"`
	BackendV6Data json.RawMessage `json:",omitempty"`
}

// noIPv4 is what flannel writes for an address that is not there.
const noIPv4 = "0.0.0.0"

// valueOf is the value of a record. flannel's udp has no type; that of a reservation has, since one without is a reservation
// that nobody has taken up.
func valueOf(r Record) (string, error) {
	v := attributes{PublicIP: noIPv4, BackendType: r.Backend.Type, BackendData: inFlannelsOrder(r.Backend.Data), BackendV6Data: inFlannelsOrder(r.Backend.DataV6)}
	if r.PublicIP.Has(state.IPv4) {
		v.PublicIP = r.PublicIP.IPv4.String()
	}
	if r.PublicIP.Has(state.IPv6) {
		text := r.PublicIP.IPv6.String()
		v.PublicIPv6 = &text
	}
	if v.BackendType == "udp" && !r.Reserved() {
		v.BackendType = ""
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// recordAt reads a key, below subnets/, and its value.
func recordAt(key string, value []byte, created, lease int64) (Record, error) {
	subnets, err := subnetsAt(key)
	r := Record{Version: state.Version, Subnet: subnets, Created: created, Lease: lease}
	if err != nil {
		return r, err
	}
	var v attributes
	if err := json.Unmarshal(value, &v); err != nil {
		return r, fmt.Errorf("value: %w", err)
	}
	address := func(f state.Family, text string) error {
		addr, err := netip.ParseAddr(text)
		if addr = addr.Unmap(); err != nil || addr.Zone() != "" || state.FamilyOf(addr) != f {
			return fmt.Errorf("value: %.60q is no %s address", text, name(f))
		}
		if !addr.IsUnspecified() {
			r.PublicIP.Set(f, addr)
		}
		return nil
	}
	if v.PublicIP != "" {
		err = address(state.IPv4, v.PublicIP)
	}
	if err == nil && v.PublicIPv6 != nil {
		err = address(state.IPv6, *v.PublicIPv6)
	}
	if err == nil && r.PublicIP == (state.Pair[netip.Addr]{}) {
		err = fmt.Errorf("value: PublicIP is missing")
	}
	r.Backend = state.Published{Type: intern(v.BackendType), Data: inFlannelsOrder(v.BackendData), DataV6: inFlannelsOrder(v.BackendV6Data)}
	if r.Backend.Type == "" && lease != 0 {
		r.Backend.Type = "udp"
	}
	return r, err
}

// keyOf is a record's key below subnets/: 10.5.52.0-24, 10.5.52.0-24&fd00::-64. IPv6 alone, which flannel does not have in etcd, is
// fd00::-64, and flannel passes it over.
func keyOf(subnets state.Pair[netip.Prefix]) string {
	var parts []string
	for _, p := range claimsOf(subnets) {
		parts = append(parts, fmt.Sprintf("%s-%d", p.Addr(), p.Bits()))
	}
	return strings.Join(parts, "&")
}

func subnetsAt(key string) (subnets state.Pair[netip.Prefix], err error) {
	for part := range strings.SplitSeq(key, "&") {
		i := strings.LastIndexByte(part, '-')
		p, err := netip.ParsePrefix(part[:max(i, 0)] + "/" + part[i+1:])
		if err != nil || p != p.Masked() || p.Addr().Is4In6() || subnets.Has(state.FamilyOf(p.Addr())) {
			return subnets, fmt.Errorf("key: %.100q is no subnet, as in 10.5.52.0-24", key)
		}
		subnets.Set(state.FamilyOf(p.Addr()), p)
	}
	return subnets, nil
}

// addressName is a node's name where only its address is known, as in etcd: 192.168.7.1, fd00-7--1. Of two addresses the IPv4 one
// counts, as with flannel.
func addressName(publicIP state.Pair[netip.Addr]) string {
	switch {
	case publicIP.Has(state.IPv4):
		return publicIP.IPv4.String()
	case publicIP.Has(state.IPv6):
		text := publicIP.IPv6.String()
		if strings.HasPrefix(text, ":") {
			text = "0" + text
		}
		if strings.HasSuffix(text, ":") {
			text += "0"
		}
		return strings.ReplaceAll(text, ":", "-")
	}
	return ""
}

// addressOfName undoes addressName.
func addressOfName(node string) (publicIP state.Pair[netip.Addr], ok bool) {
	addr, err := netip.ParseAddr(node)
	if err != nil {
		addr, err = netip.ParseAddr(strings.ReplaceAll(node, "-", ":"))
	}
	if err != nil || addr.IsUnspecified() || addr.Zone() != "" {
		return publicIP, false
	}
	publicIP.Set(state.FamilyOf(addr.Unmap()), addr.Unmap())
	return publicIP, true
}

// keyName is a key as a name, where it is not the only one of its address or the address cannot be read.
func keyName(key string) string { return strings.NewReplacer("&", ".", ":", "-").Replace(key) }
