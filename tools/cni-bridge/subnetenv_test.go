package main

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/state"
)

func lease(v4, v6 string) state.Lease {
	l := state.Lease{IPMasq: true}
	if v4 != "" {
		l.Network.IPv4, l.Subnet.IPv4 = netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix(v4)
	}
	if v6 != "" {
		l.Network.IPv6, l.Subnet.IPv6 = netip.MustParsePrefix("fd00:10::/48"), netip.MustParsePrefix(v6)
	}
	return l
}

// TestSubnetEnv: what is rendered is flannel's text, and is read back as it was.
func TestSubnetEnv(t *testing.T) {
	const v4 = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"
	const v6 = "FLANNEL_IPV6_NETWORK=fd00:10::/48\nFLANNEL_IPV6_SUBNET=fd00:10:0:1::1/64\n"
	const rest = "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	for want, l := range map[string]state.Lease{
		v4 + rest:      lease("10.244.1.0/24", ""),
		v6 + rest:      lease("", "fd00:10:0:1::/64"),
		v4 + v6 + rest: lease("10.244.1.0/24", "fd00:10:0:1::/64"),
	} {
		e := envOf(l, state.Link{MTU: 1450})
		if diff := cmp.Diff(want, string(e.render())); diff != "" {
			t.Errorf("rendered (-want +got):\n%s", diff)
		}
		back, err := parseSubnetEnv([]byte(want))
		if err != nil || back != e {
			t.Errorf("read back: %v\n%+v\n%+v", err, back, e)
		}
	}
}

// TestSubnetEnvOfOthers: comments, blank lines, keys of others, Windows' line ends and several
// networks do no harm.
func TestSubnetEnvOfOthers(t *testing.T) {
	e, err := parseSubnetEnv([]byte("# made by hand\r\n\r\nFLANNEL_NETWORK=10.244.0.0/16,10.245.0.0/16,10.244.0.0/16\r\n" +
		"FLANNEL_SUBNET=10.244.1.9/24\r\nOTHER=1=2\nFLANNEL_MTU = 1450\nFLANNEL_IPMASQ=false\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.245.0.0/16")}
	if !slices.Equal(e.networks(), want) || e.Subnet.IPv4.String() != "10.244.1.0/24" || e.Gateway.IPv4.String() != "10.244.1.1" || e.IPMasq {
		t.Errorf("%+v", e)
	}
}

func FuzzSubnetEnv(f *testing.F) {
	for _, seed := range []string{
		"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
		"FLANNEL_NETWORK", "FLANNEL_SUBNET=", "FLANNEL_MTU=-1\n", "FLANNEL_IPV6_SUBNET=::ffff:10.0.0.1/120\n", "=\n", "\x00", "FLANNEL_SUBNET=0.0.0.0/0",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseSubnetEnv(data)
		if err != nil {
			return
		}
		sets, err := spanSets(e, nil)
		if err != nil || len(sets) == 0 {
			t.Fatalf("accepted, and of no use: %v %+v", err, e)
		}
		// The network of a family without a subnet is not rendered, nor a subnet without its network read.
		if e.Subnet.IPv4.IsValid() != (e.Networks.IPv4 != "") || e.Subnet.IPv6.IsValid() != (e.Networks.IPv6 != "") {
			return
		}
		if again, err := parseSubnetEnv(e.render()); err != nil || again != e {
			t.Errorf("rendered and read back: %v\n%+v\n%+v", err, e, again)
		}
	})
}
