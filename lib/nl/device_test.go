package nl

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParseDevice: no message, however broken, brings a program down.
func FuzzParseDevice(f *testing.F) {
	whole := appendAttrText(appendLink(nil, 7, unix.IFF_UP, 0), unix.IFLA_IFNAME, "v0")
	slave := appendAttr(nil, infoSlaveData, appendAttrBool(nil, brportHairpin, true))
	whole = appendAttr(whole, unix.IFLA_LINKINFO, append(appendAttrText(nil, infoKind, "veth"), slave...))
	for _, seed := range [][]byte{whole, whole[:len(whole)-3], {}, make([]byte, unix.SizeofIfInfomsg)} {
		f.Add(seed)
	}
	if d, ok := parseDevice(whole); !ok || d.Name != "v0" || d.Kind != "veth" || !d.Hairpin || !d.Up {
		f.Errorf("%+v %t", d, ok)
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseDevice(b) })
}

func TestLast(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.0.0/24": "10.1.0.255", "10.1.0.5/32": "10.1.0.5", "0.0.0.0/0": "255.255.255.255", "10.0.0.0/9": "10.127.255.255",
		"fd00::/64": "fd00::ffff:ffff:ffff:ffff",
	} {
		if got := Last(netip.MustParsePrefix(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
