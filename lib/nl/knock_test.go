package nl

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// refusal is a control message of an error queue.
func refusal(level, kind int, origin, icmpType, code byte, sockaddr []byte) []byte {
	data := make([]byte, 16, 64)
	data[4], data[5], data[6] = origin, icmpType, code
	data = append(data, sockaddr...)
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := unix.Cmsghdr{Level: int32(level), Type: int32(kind)}
	h.SetLen(unix.CmsgLen(len(data)))
	n, err := binary.Encode(b, binary.NativeEndian, h)
	if err != nil {
		panic(err)
	}
	copy(b[unix.CmsgLen(0):], data)
	return b[:max(n, len(b))]
}

func sockaddr4(last byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	return append(b, 0, 0, 10, 244, 2, last, 0, 0, 0, 0, 0, 0, 0, 0)
}

func sockaddr6() []byte {
	b := binary.NativeEndian.AppendUint16(nil, unix.AF_INET6)
	return append(append(b, 0, 0, 0, 0, 0, 0, 0xfd, 0, 0, 0x10, 0, 2), make([]byte, 14)...)
}

func TestParseRefusal(t *testing.T) {
	icmp := refusal(unix.SOL_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 3, sockaddr4(0))
	for _, tc := range []struct {
		name    string
		control []byte
		by      string
		ok      bool
	}{
		{"port unreachable", icmp, "10.244.2.0", true},
		{"port unreachable, IPv6", refusal(unix.SOL_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6, 1, 4, sockaddr6()), "fd00:10:2::", true},
		{"after another message", append(refusal(unix.SOL_IP, unix.IP_TTL, 0, 0, 0, nil), icmp...), "10.244.2.0", true},
		{"host unreachable, of a router", refusal(unix.SOL_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 1, sockaddr4(9)), "10.244.2.9", false},
		{"no route, of this node", refusal(unix.SOL_IP, unix.IP_RECVERR, 1, 3, 3, sockaddr4(0)), "10.244.2.0", false},
		{"time exceeded", refusal(unix.SOL_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 11, 0, sockaddr4(0)), "10.244.2.0", false},
		{"IPv6 with IPv4's numbers", refusal(unix.SOL_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6, 3, 3, sockaddr6()), "fd00:10:2::", false},
		{"no address", refusal(unix.SOL_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 3, make([]byte, 16)), "", false},
		{"cut off", icmp[:len(icmp)-20], "", false},
		{"nothing", nil, "", false},
	} {
		by, ok := parseRefusal(tc.control)
		if want, _ := netip.ParseAddr(tc.by); by != want || ok != tc.ok {
			t.Errorf("%s: %v %t", tc.name, by, ok)
		}
	}
}

func FuzzParseRefusal(f *testing.F) {
	f.Add(refusal(unix.SOL_IP, unix.IP_RECVERR, unix.SO_EE_ORIGIN_ICMP, 3, 3, sockaddr4(0)))
	f.Add(refusal(unix.SOL_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6, 1, 4, sockaddr6()))
	f.Fuzz(func(t *testing.T, control []byte) {
		if by, ok := parseRefusal(control); ok && !by.IsValid() {
			t.Error("an answer of nobody")
		}
	})
}
