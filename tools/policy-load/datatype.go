package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// datatype is a data type of nft: how its values are written, and how the kernel has them.
type datatype struct {
	id    uint32 // nft's number of it, kept by the kernel for whoever lists a set
	size  int    // bytes
	order uint32 // nft's byte order: 1 the host's, 2 big endian
	parse func(text string) ([]byte, error)
}

const (
	hostOrder = 1
	bigEndian = 2
)

var datatypes = map[string]*datatype{
	"ipv4_addr":    {7, 4, bigEndian, func(s string) ([]byte, error) { return address(s, 4) }},
	"ipv6_addr":    {8, 16, bigEndian, func(s string) ([]byte, error) { return address(s, 16) }},
	"ether_addr":   {9, 6, bigEndian, etherAddress},
	"ether_type":   {10, 2, bigEndian, named(map[string]uint64{"ip": unix.ETH_P_IP, "arp": unix.ETH_P_ARP, "ip6": unix.ETH_P_IPV6, "vlan": unix.ETH_P_8021Q}, 2)},
	"arp_op":       {11, 2, bigEndian, named(map[string]uint64{"request": 1, "reply": 2}, 2)},
	"inet_proto":   {12, 1, bigEndian, named(protocols, 1)},
	"inet_service": {13, 2, bigEndian, named(nil, 2)},
	"icmp_type": {14, 1, bigEndian, named(map[string]uint64{
		"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8, "router-advertisement": 9,
		"router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
	}, 1)},
	"mark": {19, 4, hostOrder, hostNumber},
	"icmpv6_type": {29, 1, bigEndian, named(map[string]uint64{
		"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128,
		"echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132,
		"nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "mld2-listener-report": 143,
	}, 1)},
	"ct_state": {26, 4, hostOrder, func(s string) ([]byte, error) {
		bit, ok := stateBits[s]
		if !ok {
			return nil, fmt.Errorf("%q is no state", s)
		}
		return binary.NativeEndian.AppendUint32(nil, bit), nil
	}},
	"ifname":  {41, 16, hostOrder, interfaceName},
	"integer": {4, 16, bigEndian, hexadecimal}, // of 128 bits, as raw payload is
	"hops":    {4, 1, bigEndian, named(nil, 1)},
	// These are in no set: what nft calls them does not matter.
	"nfproto": {0, 1, hostOrder, named(map[string]uint64{"ipv4": unix.NFPROTO_IPV4, "ipv6": unix.NFPROTO_IPV6}, 1)},
	"fib_type": {0, 4, hostOrder, func(s string) ([]byte, error) {
		n, ok := map[string]uint32{"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5}[s]
		if !ok {
			return nil, fmt.Errorf("%q is no type of address that is known here", s)
		}
		return binary.NativeEndian.AppendUint32(nil, n), nil
	}},
	"ct_dir": {0, 1, hostOrder, named(map[string]uint64{"original": 0, "reply": 1}, 1)},
}

var protocols = map[string]uint64{
	"icmp": unix.IPPROTO_ICMP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP,
	"ipv6-icmp": unix.IPPROTO_ICMPV6, "icmpv6": unix.IPPROTO_ICMPV6, "igmp": unix.IPPROTO_IGMP, "udplite": unix.IPPROTO_UDPLITE,
	"dccp": unix.IPPROTO_DCCP, "esp": unix.IPPROTO_ESP, "ah": unix.IPPROTO_AH, "gre": unix.IPPROTO_GRE,
}

// named reads a number, or a name for one, into size bytes, big endian.
func named(names map[string]uint64, size int) func(string) ([]byte, error) {
	return func(s string) ([]byte, error) {
		n, ok := names[s]
		if !ok {
			var err error
			if n, err = number(s, 8*size); err != nil {
				return nil, fmt.Errorf("%q is no value that is known here", s)
			}
		}
		return binary.BigEndian.AppendUint64(nil, n)[8-size:], nil
	}
}

func hexadecimal(s string) ([]byte, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != 16 {
		return nil, fmt.Errorf("%q is not 0x and 32 digits", s)
	}
	return b, nil
}

func hostNumber(s string) ([]byte, error) {
	n, err := number(s, 32)
	if err != nil {
		return nil, err
	}
	return binary.NativeEndian.AppendUint32(nil, uint32(n)), nil
}

func address(s string, size int) ([]byte, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || len(a.AsSlice()) != size {
		return nil, fmt.Errorf("%q is no address of %d bytes", s, size)
	}
	return a.AsSlice(), nil
}

func etherAddress(s string) ([]byte, error) {
	a, err := net.ParseMAC(s)
	if err != nil || len(a) != 6 || strings.Count(s, ":") != 5 {
		return nil, fmt.Errorf("%q is no Ethernet address", s)
	}
	return a, nil
}

func interfaceName(s string) ([]byte, error) {
	s, err := unquote(s)
	if err != nil || s == "" || len(s) >= unix.IFNAMSIZ || strings.ContainsAny(s, "*\\") {
		return nil, fmt.Errorf("%q is no name of an interface", s)
	}
	return append([]byte(s), make([]byte, unix.IFNAMSIZ-len(s))...), nil
}

// number reads a decimal number, or a hexadecimal one after 0x. One that begins with a 0 is left to nft to make sense of.
func number(s string, bits int) (uint64, error) {
	digits, base := s, 10
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		digits, base = hex, 16
	} else if len(s) > 1 && s[0] == '0' {
		digits = ""
	}
	n, err := strconv.ParseUint(digits, base, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of %d bits", s, bits)
	}
	return n, nil
}

// comment takes the quotes off a comment of the length that nft takes.
func comment(quoted string) (string, error) {
	text, err := unquote(quoted)
	if err == nil && (text == "" || len(text) > maxComment) {
		err = fmt.Errorf("a comment that nft would not take")
	}
	return text, err
}

// unquote takes the quotes off a string that may have them. nft knows no escape inside.
func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	if len(s) < 2 || !strings.HasSuffix(s, `"`) || strings.Contains(s[1:len(s)-1], `"`) {
		return "", fmt.Errorf("%s is not in quotes", s)
	}
	return s[1 : len(s)-1], nil
}

// span is the first and the last value of a range, a prefix or a single value. single says that it was
// written as one.
func (d *datatype) span(s string) (from, to []byte, single bool, err error) {
	if a, b, ok := strings.Cut(s, "-"); ok && d.size != unix.IFNAMSIZ && (d.id == 7 || d.id == 8 || d.id == 13) {
		if from, err = d.parse(a); err != nil {
			return nil, nil, false, err
		}
		to, err = d.parse(b)
		return from, to, false, err
	}
	if a, b, ok := strings.Cut(s, "/"); ok && (d.id == 7 || d.id == 8) {
		if from, err = d.parse(a); err != nil {
			return nil, nil, false, err
		}
		bits, err := strconv.ParseUint(b, 10, 8)
		if err != nil || int(bits) > 8*d.size {
			return nil, nil, false, fmt.Errorf("%q is no prefix", s)
		}
		to = append([]byte{}, from...)
		for i := int(bits); i < 8*d.size; i++ {
			if from[i/8]&(0x80>>(i%8)) != 0 {
				return nil, nil, false, fmt.Errorf("%q has host bits set", s)
			}
			to[i/8] |= 0x80 >> (i % 8)
		}
		return from, to, false, nil
	}
	from, err = d.parse(s)
	return from, from, true, err
}

// key is the type of the keys of a set or map.
type key struct {
	parts []*datatype
	id    uint32
	size  int // bytes; in a concatenation each part is padded to four
}

func keyOfType(text string) (key, error) {
	var k key
	for name := range strings.SplitSeq(text, " . ") {
		d := datatypes[name]
		if d == nil || d.id == 0 {
			return key{}, fmt.Errorf("type %q is not known here", name)
		}
		k.parts = append(k.parts, d)
		k.id = k.id<<6 | d.id
		k.size += padded(d.size)
	}
	if len(k.parts) == 1 {
		k.size = k.parts[0].size
	}
	return k, nil
}

func padded(n int) int { return (n + 3) &^ 3 }

// span is the first and the last key of an element.
func (k key) span(text string) (from, to []byte, err error) {
	if len(k.parts) == 1 {
		from, to, _, err = k.parts[0].span(text)
		return from, to, err
	}
	parts := strings.Split(text, " . ")
	if len(parts) != len(k.parts) {
		return nil, nil, fmt.Errorf("%q has not %d parts", text, len(k.parts))
	}
	for i, p := range parts {
		a, b, _, err := k.parts[i].span(p)
		if err != nil {
			return nil, nil, err
		}
		pad := make([]byte, padded(len(a))-len(a))
		from = append(append(from, a...), pad...)
		to = append(append(to, b...), pad...)
	}
	return from, to, nil
}
