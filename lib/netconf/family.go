package netconf

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

// family is what differs between the address families in the file.
type family struct {
	of                                 state.Family
	enable, network, length, min, max  string // keys
	wide, usual, longest, smallest, ip int
	example                            string
	special                            []netip.Prefix // no network may touch these
}

// families holds flannel's limits: a Network of at most `wide` bits gets subnets of `usual` bits,
// a smaller one subnets two bits longer than itself; a subnet has at most `longest` bits and a
// network at most `smallest`, so that a subnet holds a gateway and a pod at least.
var families = []family{
	{
		of: state.IPv4, enable: "EnableIPv4", network: "Network", length: "SubnetLen", min: "SubnetMin", max: "SubnetMax",
		wide: 22, usual: 24, longest: 30, smallest: 28, ip: 32, example: "10.244.0.0/16",
		special: prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"),
	},
	{
		of: state.IPv6, enable: "EnableIPv6", network: "IPv6Network", length: "IPv6SubnetLen", min: "IPv6SubnetMin", max: "IPv6SubnetMax",
		wide: 62, usual: 64, longest: 126, smallest: 124, ip: 128, example: "fd00:10:244::/48",
		special: prefixes("::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
	},
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// family reads the keys of one enabled family.
func (p *parser) family(cfg *Config, top object, f family) error {
	network, err := p.network(top, f)
	if err != nil {
		return err
	}
	length, err := p.subnetLen(top, f, network)
	if err != nil {
		return err
	}
	first := netip.PrefixFrom(network.Addr(), length)
	last := netip.PrefixFrom(Last(network), length).Masked()
	lo, err := p.subnet(top, f, f.min, network, length, first)
	if err != nil {
		return err
	}
	hi, err := p.subnet(top, f, f.max, network, length, last)
	if err != nil {
		return err
	}
	if hi.Addr().Less(lo.Addr()) {
		return p.fail(f.max, fmt.Sprintf("give a subnet at or after %s", lo), "%s lies before %s %s", hi, f.min, lo)
	}
	cfg.Network.Set(f.of, network)
	cfg.SubnetLen.Set(f.of, length)
	cfg.SubnetMin.Set(f.of, lo)
	cfg.SubnetMax.Set(f.of, hi)
	return nil
}

func (p *parser) network(top object, f family) (netip.Prefix, error) {
	text, _, err := decode[string](p, top, "", f.network)
	if err != nil {
		return netip.Prefix{}, err
	}
	hint := fmt.Sprintf("give the address range of the whole cluster, for example %q", f.example)
	if text == "" {
		if typo := misspelt(top, topKeys, f.network); typo != "" {
			return netip.Prefix{}, p.fail(f.network, hint, "missing, and %s is on: is the unknown key %q meant for it?", f.enable, typo)
		}
		return netip.Prefix{}, p.fail(f.network, hint, "missing, and %s is on", f.enable)
	}
	network, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return network, p.fail(f.network, hint, "%q is no address range", text)
	}
	if network.Addr().BitLen() != f.ip {
		return network, p.fail(f.network, hint, "%s is of the other address family", network)
	}
	if network != network.Masked() {
		p.notice("%s %s has host bits set: it is read as %s", f.network, network, network.Masked())
		network = network.Masked()
	}
	if network.Bits() > f.smallest {
		return network, p.fail(f.network, fmt.Sprintf("use a /%d or a larger one", f.smallest), "%s is too small to lease subnets of", network)
	}
	for _, s := range f.special {
		if network.Overlaps(s) {
			return network, p.fail(f.network, hint, "%s holds addresses of %s, which are not for pods", network, s)
		}
	}
	return network, nil
}

func (p *parser) subnetLen(top object, f family, network netip.Prefix) (int, error) {
	length := f.usual
	if network.Bits() > f.wide {
		length = network.Bits() + 2
	}
	switch v, _, err := decode[int](p, top, "", f.length); {
	case err != nil:
		return 0, err
	case v != 0: // 0 means "not given" to flannel
		length = v
	}
	lowest := network.Bits() + 2
	if length < lowest || length > f.longest {
		hint := fmt.Sprintf("give a length from %d to %d, or leave it out", lowest, f.longest)
		return 0, p.fail(f.length, hint, "/%d is no length for subnets of %s", length, network)
	}
	return length, nil
}

// subnet reads a bound of the subnets, an address or an address with the subnets' length.
func (p *parser) subnet(top object, f family, key string, network netip.Prefix, length int, def netip.Prefix) (netip.Prefix, error) {
	text, _, err := decode[string](p, top, "", key)
	if err != nil || text == "" {
		return def, err
	}
	hint := fmt.Sprintf("give a subnet of %s such as %q, or leave it out", network, def)
	trimmed := strings.TrimSpace(text)
	subnet, err := netip.ParsePrefix(trimmed)
	if !strings.Contains(trimmed, "/") {
		var addr netip.Addr
		addr, err = netip.ParseAddr(trimmed)
		subnet = netip.PrefixFrom(addr, length)
	}
	switch {
	case err != nil:
		return def, p.fail(key, hint, "%q is neither an address nor a subnet", text)
	case subnet.Addr().BitLen() != f.ip || subnet.Addr().Zone() != "":
		return def, p.fail(key, hint, "%q is of the other address family", text)
	case subnet.Bits() != length:
		return def, p.fail(key, fmt.Sprintf("write %s/%d, or set %s to %d", subnet.Addr(), length, f.length, subnet.Bits()),
			"%s has another length than %s, which is %d", subnet, f.length, length)
	case subnet != subnet.Masked():
		return def, p.fail(key, fmt.Sprintf("write %s", subnet.Masked()), "%q is not where a subnet of /%d begins", text, length)
	case !network.Contains(subnet.Addr()):
		return def, p.fail(key, hint, "%s lies outside %s %s", subnet, f.network, network)
	}
	return subnet, nil
}

// Last is the last address of p.
func Last(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	host := p.Addr().BitLen() - p.Bits()
	for i := 15; host > 0; i, host = i-1, host-8 {
		b[i] |= byte(1<<min(host, 8) - 1)
	}
	last := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		return last.Unmap()
	}
	return last
}
