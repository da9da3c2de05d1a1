package state

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// CheckNodeName says what is wrong with the name of a node: it must be what Kubernetes allows as the
// name of a Node (RFC 1123 subdomain), which also keeps it from leaving its directory. It is no
// regular expression because compiling that one takes 0.5 ms of each start of the CNI plugin.
func CheckNodeName(name string) error {
	alphanumeric := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	ok := 0 < len(name) && len(name) <= 253 && alphanumeric(name[0]) && alphanumeric(name[len(name)-1])
	for i := range len(name) {
		ok = ok && (alphanumeric(name[i]) || name[i] == '-' || name[i] == '.')
	}
	if !ok {
		return fmt.Errorf("%q is no node name (lower-case letters, digits, '-' and '.', at most 253)", name)
	}
	return nil
}

func missing(key string) error { return &KeyError{Key: key, Err: errors.New("missing")} }

func checkNode(name string) error {
	if name == "" {
		return missing("node")
	}
	if err := CheckNodeName(name); err != nil {
		return &KeyError{Key: "node", Err: err}
	}
	return nil
}

// checkSubnets demands one subnet at least, each masked, of its own family.
func checkSubnets(key string, p Pair[netip.Prefix]) error {
	if !p.Has(IPv4) && !p.Has(IPv6) {
		return missing(key)
	}
	for _, f := range Families {
		s := p.Of(f)
		switch {
		case !p.Has(f):
		case FamilyOf(s.Addr()) != f:
			return &KeyError{Key: key + "." + string(f), Err: fmt.Errorf("%s is of the other family", s)}
		case s != s.Masked():
			return &KeyError{Key: key + "." + string(f), Err: fmt.Errorf("%s has host bits set: write %s", s, s.Masked())}
		}
	}
	return nil
}

func checkAddrs(key string, p Pair[netip.Addr]) error {
	for _, f := range Families {
		if p.Has(f) && FamilyOf(p.Of(f)) != f {
			return &KeyError{Key: key + "." + string(f), Err: fmt.Errorf("%s is of the other family", p.Of(f))}
		}
	}
	return nil
}

func checkInterface(i Interface) error {
	if i.Name == "" {
		return missing("interface.name")
	}
	if i.MTU <= 0 {
		return &KeyError{Key: "interface.mtu", Err: fmt.Errorf("%d is no MTU", i.MTU)}
	}
	return checkAddrs("interface.ip", i.IP)
}

// Validate checks what the consumers rely on.
func (l *Lease) Validate() error {
	if l.Backend.Type == "" {
		return missing("backend.type")
	}
	return errors.Join(checkNode(l.Node), checkSubnets("network", l.Network), checkSubnets("subnet", l.Subnet),
		checkAddrs("publicIP", l.PublicIP), checkInterface(l.Interface))
}

// Validate checks what route-sync relies on.
func (p *Peer) Validate() error {
	if p.Backend.Type == "" {
		return missing("backend.type")
	}
	return errors.Join(checkNode(p.Node), checkSubnets("subnet", p.Subnet), checkAddrs("publicIP", p.PublicIP))
}

// Validate checks what the setup tools rely on.
func (b *BackendInput) Validate() error {
	if b.Backend.Type == "" {
		return missing("backend.type")
	}
	return errors.Join(checkNode(b.Node), checkSubnets("subnet", b.Subnet), checkAddrs("publicIP", b.PublicIP),
		checkInterface(b.Interface))
}

// Validate checks what route-sync and cni-bridge conf rely on.
func (l *Link) Validate() error {
	if l.Device.IPv4.Name == "" && l.Device.IPv6.Name == "" {
		return missing("device")
	}
	if l.MTU <= 0 {
		return &KeyError{Key: "mtu", Err: fmt.Errorf("%d is no MTU", l.MTU)}
	}
	for _, f := range Families {
		if mac := l.Device.Of(f).VtepMAC; mac != "" {
			if _, err := net.ParseMAC(mac); err != nil {
				return &KeyError{Key: "device." + string(f) + ".vtepMAC", Err: err}
			}
		}
	}
	if l.Publish.Type == "" {
		return missing("publish.type")
	}
	return nil
}
