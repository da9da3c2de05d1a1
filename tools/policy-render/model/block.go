package model

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath/towpath/lib/state"
)

// ParseBlock reads an address block as the API server always has: leading zeros are decimal, bits
// below the mask are dropped, IPv4 written as IPv6 is IPv4.
func ParseBlock(s string) (netip.Prefix, error) {
	fail := func() (netip.Prefix, error) {
		return netip.Prefix{}, fmt.Errorf("%q is not an address block such as 10.244.0.0/16 or fd00::/64", s)
	}
	text, mask, ok := strings.Cut(s, "/")
	if !ok || mask == "" || len(mask) > 8 || strings.Trim(mask, "0123456789") != "" {
		return fail()
	}
	bits, err := strconv.Atoi(mask)
	if err != nil {
		return fail()
	}
	addr, err := netip.ParseAddr(trimZeros(text))
	if err != nil || addr.Zone() != "" || bits > addr.BitLen() {
		return fail()
	}
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits).Masked(), nil
}

// trimZeros drops leading zeros of the decimal parts of an IPv4 address.
func trimZeros(s string) string {
	head, tail := "", s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		head, tail = s[:i+1], s[i+1:]
	}
	if !strings.Contains(tail, ".") {
		return s
	}
	parts := strings.Split(tail, ".")
	for i, p := range parts {
		if t := strings.TrimLeft(p, "0"); t != "" {
			parts[i] = t
		} else if p != "" {
			parts[i] = "0"
		}
	}
	return head + strings.Join(parts, ".")
}

// CheckExcept says what is wrong with an exception of a block: it has to be a real part of it.
func CheckExcept(block, except netip.Prefix) error {
	if block.Addr().BitLen() != except.Addr().BitLen() {
		return errors.New("is of the other address family")
	}
	if !block.Contains(except.Addr()) || except.Bits() <= block.Bits() {
		return fmt.Errorf("is no part of %s", block)
	}
	return nil
}

func rangeOf(p netip.Prefix) Range {
	last := p.Addr().As16()
	for bit := p.Bits() + 128 - p.Addr().BitLen(); bit < 128; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	to := netip.AddrFrom16(last)
	if p.Addr().Is4() {
		to = to.Unmap()
	}
	return Range{p.Addr(), to}
}

// subtract leaves of a block what no exception covers.
func subtract(block netip.Prefix, except []netip.Prefix) []Range {
	holes := make([]Range, 0, len(except))
	for _, e := range except {
		holes = append(holes, rangeOf(e))
	}
	left := []Range{}
	rest := rangeOf(block)
	for _, h := range merge(holes) {
		if h.From.Compare(rest.From) > 0 {
			left = append(left, Range{rest.From, h.From.Prev()})
		}
		rest.From = h.To.Next()
		if !rest.From.IsValid() || rest.From.Compare(rest.To) > 0 {
			return left
		}
	}
	return append(left, rest)
}

// merge sorts ranges, IPv4 first, and joins those that overlap or touch. It reuses its argument.
func merge(in []Range) []Range {
	slices.SortFunc(in, func(a, b Range) int { return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To)) })
	out := in[:0]
	for _, r := range in {
		if n := len(out); n > 0 && out[n-1].From.BitLen() == r.From.BitLen() {
			last := &out[n-1]
			if next := last.To.Next(); !next.IsValid() || r.From.Compare(next) <= 0 {
				if r.To.Compare(last.To) > 0 {
					last.To = r.To
				}
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// String is "10.244.0.0/16" where the range is a block, an address, or "10.244.0.1-10.244.0.9".
func (r Range) String() string {
	if r.From == r.To {
		return r.From.String()
	}
	for bits := r.From.BitLen() - 1; bits >= 0; bits-- {
		p := netip.PrefixFrom(r.From, bits)
		if p.Masked().Addr() != r.From {
			break
		}
		if rangeOf(p).To == r.To {
			return p.String()
		}
	}
	return r.From.String() + "-" + r.To.String()
}

func inRanges(ranges []Range, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(ranges, a, func(r Range, a netip.Addr) int { return r.From.Compare(a) })
	return found || i > 0 && ranges[i-1].To.Compare(a) >= 0 && ranges[i-1].To.BitLen() == a.BitLen()
}

func ofFamily(ranges []Range, f state.Family) []Range {
	i, _ := slices.BinarySearchFunc(ranges, 128, func(r Range, bits int) int { return cmp.Compare(r.From.BitLen(), bits) })
	if f == state.IPv4 {
		return ranges[:i:i]
	}
	return ranges[i:]
}
