package state

import "net/netip"

// Family names an address family.
type Family string

// The address families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Families is both families, IPv4 first.
var Families = [...]Family{IPv4, IPv6}

// FamilyOf is the family of an address (an IPv4-mapped IPv6 address counts as IPv4).
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Pair holds one value per address family; the zero value of T means "this family is not used".
type Pair[T comparable] struct {
	IPv4 T `json:"ipv4,omitzero"`
	IPv6 T `json:"ipv6,omitzero"`
}

// Of returns the value of family f.
func (p Pair[T]) Of(f Family) T {
	if f == IPv6 {
		return p.IPv6
	}
	return p.IPv4
}

// Set sets the value of family f.
func (p *Pair[T]) Set(f Family, v T) {
	if f == IPv6 {
		p.IPv6 = v
	} else {
		p.IPv4 = v
	}
}

// Has says whether family f has a value.
func (p Pair[T]) Has(f Family) bool {
	var zero T
	return p.Of(f) != zero
}
