package main

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/lib/ruleset"
)

// raw reads hexadecimal with spaces.
func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	v4from2to3 = "0af40102 0af40203"
	v6from2to3 = "fd000010000000010000000000000002 fd000010000000020000000000000003"
)

func v4(protocol, rest string) string {
	return "45000040 00004000 40" + protocol + "0000" + v4from2to3 + rest
}
func v6(next, rest string) string { return "60000000 0040" + next + "40" + v6from2to3 + rest }

var packets = []struct {
	name      string
	etherType uint16
	text      string
	want      packet
}{
	{"TCP", 0x0800, v4("06", "9c40 0050"), packet{Protocol: "TCP", Ports: true, SrcPort: 40000, DstPort: 80}},
	{"UDP", 0x0800, v4("11", "9c40 0035 0000"), packet{Protocol: "UDP", Ports: true, SrcPort: 40000, DstPort: 53}},
	{"SCTP", 0x0800, v4("84", "9c40 2710"), packet{Protocol: "SCTP", Ports: true, SrcPort: 40000, DstPort: 10000}},
	{"ICMP", 0x0800, v4("01", "08"), packet{Protocol: "ICMP", Detail: "echo request"}},
	{"another ICMP", 0x0800, v4("01", "2a"), packet{Protocol: "ICMP", Detail: "type 42"}},
	{"GRE", 0x0800, v4("2f", "00000000"), packet{Protocol: "IP protocol 47"}},
	{"ports cut off", 0x0800, v4("06", "9c40"), packet{Protocol: "TCP"}},
	{"options", 0x0800, "46000040 00004000 40060000" + v4from2to3 + "00000000 9c40 0050", packet{Protocol: "TCP", Ports: true, SrcPort: 40000, DstPort: 80}},
	{"a later fragment", 0x0800, "45000040 00000001 40060000" + v4from2to3 + "9c40 0050", packet{Protocol: "TCP"}},
	{"a header that is too long", 0x0800, "4f000040 00004000 40060000" + v4from2to3 + "9c40 0050", packet{Protocol: "TCP"}},
	{"TCP over IPv6", 0x86dd, v6("06", "9c40 0050"), packet{Protocol: "TCP", Ports: true, SrcPort: 40000, DstPort: 80}},
	{"behind extensions", 0x86dd, v6("00", "3c 00 000000000000 11 00 000000000000 9c40 0035"), packet{Protocol: "UDP", Ports: true, SrcPort: 40000, DstPort: 53}},
	{"the first fragment", 0x86dd, v6("2c", "06 00 0001 00000001 9c40 0050"), packet{Protocol: "TCP", Ports: true, SrcPort: 40000, DstPort: 80}},
	{"a later fragment of IPv6", 0x86dd, v6("2c", "06 00 0008 00000001 9c40 0050"), packet{Protocol: "TCP"}},
	{"an extension cut off", 0x86dd, v6("00", "3c"), packet{Protocol: "IP protocol 0"}},
	{"ping over IPv6", 0x86dd, v6("3a", "80 00"), packet{Protocol: "ICMPv6", Detail: "echo request"}},
	{
		"a false advertisement", 0x86dd, v6("3a", "88 00 0000 00000000 fd000010000000010000000000000001"),
		packet{Protocol: "ICMPv6", Detail: "neighbor advertisement of fd00:10:0:1::1"},
	},
	{
		"ARP request", 0x0806, "0001 0800 06 04 0001 0a580af40102 0af40102 000000000000 0af40203",
		packet{Protocol: "ARP", Detail: "who has 10.244.2.3"},
	},
	{
		"ARP reply", 0x0806, "0001 0800 06 04 0002 0a580af40102 0af40102 000000000000 0af40203",
		packet{Protocol: "ARP", Detail: "10.244.1.2 is at 0a:58:0a:f4:01:02"},
	},
}

func TestPackets(t *testing.T) {
	for _, c := range packets {
		t.Run(c.name, func(t *testing.T) {
			c.want.Src, c.want.Dst = netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.244.2.3")
			if c.etherType == 0x86dd {
				c.want.Src, c.want.Dst = netip.MustParseAddr("fd00:10:0:1::2"), netip.MustParseAddr("fd00:10:0:2::3")
			}
			if diff := cmp.Diff(c.want, parsePacket(c.etherType, raw(t, c.text)), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, c := range []struct {
		etherType uint16
		text      string
		want      string
	}{{0x0800, "45", "IPv4"}, {0x86dd, "", "IPv6"}, {0x0806, "0001", "ARP"}, {0x88cc, "", "ether type 0x88cc"}} {
		if got := parsePacket(c.etherType, raw(t, c.text)); got != (packet{Protocol: c.want}) {
			t.Errorf("%q: %+v", c.text, got)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, c := range packets {
		f.Add(c.etherType, raw(f, c.text))
	}
	f.Fuzz(func(t *testing.T, etherType uint16, b []byte) {
		for n := range len(b) { // whatever is cut off
			p := parsePacket(etherType, b[:n])
			if p.Protocol == "" || p.Ports && !p.Src.IsValid() || p.Src.IsValid() != p.Dst.IsValid() {
				t.Errorf("%x: %+v", b[:n], p)
			}
		}
	})
}

func FuzzPrefix(f *testing.F) {
	for _, seed := range []string{"towpath E ge-5f1c ", "towpath ? unknown ", "netpol I x ", "", "towpath E ../../x "} {
		f.Add(seed)
	}
	n := &names{dir: "/nowhere"}
	f.Fuzz(func(t *testing.T, prefix string) {
		if kind, name, ok := ruleset.ParseLogPrefix(prefix); ok && (kind == "" || name == "" || len(n.policies(name)) > 0) {
			t.Errorf("%q: %q %q", prefix, kind, name)
		}
	})
}
