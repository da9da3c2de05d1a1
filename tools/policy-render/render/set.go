package render

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/nft"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// setObjects are the halves of a compiled set, of the families in use. An empty half stands too, since it may get
// members any moment; a CIDR set's may not.
func (c *Config) setObjects(s *model.Set) []*ruleset.Object {
	var out []*ruleset.Object
	for _, f := range c.used() {
		o := &ruleset.Object{
			ID:    ruleset.ID{Family: "inet", Kind: ruleset.Set, Name: SetName(s, f.suffix)},
			Notes: []string{clean(s.Key())},
			Head:  []string{"type " + f.kind},
		}
		switch s.Kind() {
		case model.CIDRSet:
			ranges := s.Ranges(f.Family)
			if len(ranges) == 0 {
				continue
			}
			o.Head = append(o.Head, "flags interval")
			o.Lines = make([]string, 0, len(ranges))
			for _, r := range ranges {
				o.Lines = append(o.Lines, rangeText(r))
			}
		case model.PortSet:
			o.Head = []string{"type " + f.kind + " . inet_service"}
			for _, m := range s.Members(f.Family) {
				o.Lines = append(o.Lines, fmt.Sprintf("%s . %d comment %s", m.Addr, m.Port, podComment(m.Pod)))
			}
		default:
			members := s.Members(f.Family)
			o.Lines = make([]string, len(members))
			var b []byte
			for i, m := range members {
				b = m.Addr.AppendTo(b[:0])
				b = append(b, " comment "...)
				o.Lines[i] = string(append(b, podComment(m.Pod)...))
			}
		}
		slices.Sort(o.Lines)
		out = append(out, o)
	}
	return out
}

// podComment is a pod's name as nft takes it.
func podComment(k model.Key) string {
	if plain(k.Namespace) && plain(k.Name) && len(k.Namespace)+len(k.Name) < 120 {
		return `"` + k.Namespace + "/" + k.Name + `"`
	}
	return nft.Quote(k.Namespace + "/" + k.Name)
}

// rangeText is an address, a prefix where it is one, or a range.
func rangeText(r model.Range) string {
	if r.From == r.To {
		return r.From.String()
	}
	for bits := r.From.BitLen() - 1; bits >= 0; bits-- {
		p, _ := r.From.Prefix(bits)
		if p.Addr() != r.From {
			break
		}
		if last(p) == r.To {
			return p.String()
		}
	}
	return r.From.String() + "-" + r.To.String()
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(raw); bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
