package main

import (
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// field is something of a packet that a rule can match.
type field struct {
	kind *datatype
	load func(register uint32) expr.Any
	// layer3 and layer4 are the protocols that a packet must have for the field to be there; where the rule
	// does not say so already, nft puts a match on them before it.
	layer3 string
	layer4 byte
	// bits: the values are names of bits, of which any may be set (ct state).
	bits map[string]uint32
	// payload fields can be compared in part.
	base           expr.PayloadBase
	offset, length uint32
}

func meta(key expr.MetaKey, kind string) *field {
	return &field{kind: datatypes[kind], load: func(r uint32) expr.Any { return &expr.Meta{Key: key, Register: r} }}
}

func payload(base expr.PayloadBase, offset uint32, kind, layer3 string, layer4 byte) *field {
	d := datatypes[kind]
	f := &field{kind: d, layer3: layer3, layer4: layer4, base: base, offset: offset, length: uint32(d.size)}
	f.load = func(r uint32) expr.Any {
		return &expr.Payload{DestRegister: r, Base: base, Offset: offset, Len: f.length}
	}
	return f
}

// stateBits are the bits of ct state (NF_CT_STATE_*).
var stateBits = map[string]uint32{"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}

const (
	link      = expr.PayloadBaseLLHeader
	network   = expr.PayloadBaseNetworkHeader
	transport = expr.PayloadBaseTransportHeader
)

var fields = map[string]*field{
	"meta l4proto": meta(expr.MetaKeyL4PROTO, "inet_proto"), "meta nfproto": meta(expr.MetaKeyNFPROTO, "nfproto"),
	"meta protocol": meta(expr.MetaKeyPROTOCOL, "ether_type"), "meta mark": meta(expr.MetaKeyMARK, "mark"),
	"iifname": meta(expr.MetaKeyIIFNAME, "ifname"), "oifname": meta(expr.MetaKeyOIFNAME, "ifname"),
	"ct mark":      {kind: datatypes["mark"], load: func(r uint32) expr.Any { return &expr.Ct{Key: expr.CtKeyMARK, Register: r} }},
	"ct direction": {kind: datatypes["ct_dir"], load: func(r uint32) expr.Any { return &expr.Ct{Key: expr.CtKeyDIRECTION, Register: r} }},
	"ct state": {
		kind: datatypes["ct_state"], bits: stateBits,
		load: func(r uint32) expr.Any { return &expr.Ct{Key: expr.CtKeySTATE, Register: r} },
	},
	"fib daddr type": {kind: datatypes["fib_type"], load: func(r uint32) expr.Any {
		return &expr.Fib{Register: r, ResultADDRTYPE: true, FlagDADDR: true}
	}},
	"fib saddr type": {kind: datatypes["fib_type"], load: func(r uint32) expr.Any {
		return &expr.Fib{Register: r, ResultADDRTYPE: true, FlagSADDR: true}
	}},
	"ether daddr": payload(link, 0, "ether_addr", "", 0), "ether saddr": payload(link, 6, "ether_addr", "", 0),
	"ether type": payload(link, 12, "ether_type", "", 0),
	"ip saddr":   payload(network, 12, "ipv4_addr", "ip", 0), "ip daddr": payload(network, 16, "ipv4_addr", "ip", 0),
	"ip protocol": payload(network, 9, "inet_proto", "ip", 0),
	"ip6 saddr":   payload(network, 8, "ipv6_addr", "ip6", 0), "ip6 daddr": payload(network, 24, "ipv6_addr", "ip6", 0),
	"ip6 hoplimit": payload(network, 7, "hops", "ip6", 0),
	// The target of a neighbour advertisement, for which nft 1.0.6 has no name.
	"@th,64,128":    payload(transport, 8, "integer", "", 0),
	"arp operation": payload(network, 6, "arp_op", "arp", 0), "arp saddr ether": payload(network, 8, "ether_addr", "arp", 0),
	"arp saddr ip": payload(network, 14, "ipv4_addr", "arp", 0), "arp daddr ether": payload(network, 18, "ether_addr", "arp", 0),
	"arp daddr ip": payload(network, 24, "ipv4_addr", "arp", 0),
	"icmp type":    payload(transport, 0, "icmp_type", "ip", unix.IPPROTO_ICMP),
	"icmpv6 type":  payload(transport, 0, "icmpv6_type", "ip6", unix.IPPROTO_ICMPV6),
	"tcp sport":    payload(transport, 0, "inet_service", "", unix.IPPROTO_TCP), "tcp dport": payload(transport, 2, "inet_service", "", unix.IPPROTO_TCP),
	"udp sport": payload(transport, 0, "inet_service", "", unix.IPPROTO_UDP), "udp dport": payload(transport, 2, "inet_service", "", unix.IPPROTO_UDP),
	"sctp sport": payload(transport, 0, "inet_service", "", unix.IPPROTO_SCTP), "sctp dport": payload(transport, 2, "inet_service", "", unix.IPPROTO_SCTP),
	"th sport": payload(transport, 0, "inet_service", "", 0), "th dport": payload(transport, 2, "inet_service", "", 0),
}

// field reads a field's name, the longest that there is.
func (r *rule) field() (*field, error) {
	for n := min(3, len(r.words)); n > 0; n-- {
		if f := fields[strings.Join(r.words[:n], " ")]; f != nil {
			r.words = r.words[n:]
			return f, nil
		}
	}
	if len(r.words) == 0 {
		return nil, fmt.Errorf("the line ends early")
	}
	return nil, fmt.Errorf("%q is no match and no statement that is known here", r.words[0])
}

// depend puts the matches before a field that nft would put there.
func (r *rule) depend(f *field) error {
	switch {
	case f.layer3 == "" || f.layer3 == r.layer3:
	case r.layer3 != "":
		return fmt.Errorf("the packet cannot be of %s and of %s", r.layer3, f.layer3)
	case r.family == "inet":
		n, ok := map[string]byte{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6}[f.layer3]
		if !ok {
			return fmt.Errorf("%s is not in family %s", f.layer3, r.family)
		}
		r.add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equals([]byte{n}))
		r.layer3 = f.layer3
	default:
		value, err := datatypes["ether_type"].parse(f.layer3)
		if err != nil {
			return err
		}
		load := fields["meta protocol"].load
		if f.layer3 == "arp" || f.layer4 != 0 { // as nft has it
			load = fields["ether type"].load
		}
		r.add(load(unix.NFT_REG_1), equals(value))
		r.layer3 = f.layer3
	}
	switch {
	case f.layer4 == 0 || f.layer4 == r.layer4:
	case r.layer4 != 0:
		return fmt.Errorf("the packet cannot be of protocol %d and of %d", r.layer4, f.layer4)
	default:
		r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, equals([]byte{f.layer4}))
		r.layer4 = f.layer4
	}
	return nil
}

// learn notes what a match on a single value says about the protocols, so that no second match is put in.
func (r *rule) learn(f *field, value []byte) {
	switch f {
	case fields["meta l4proto"]:
		r.layer4 = value[0]
	case fields["meta nfproto"]:
		r.layer3 = map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}[value[0]]
	case fields["meta protocol"], fields["ether type"]:
		r.layer3 = map[[2]byte]string{{8, 0}: "ip", {8, 6}: "arp", {0x86, 0xdd}: "ip6"}[[2]byte(value)]
	case fields["ip protocol"]:
		r.layer4 = value[0]
	}
}

func equals(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: value}
}
