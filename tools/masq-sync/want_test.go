package main

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/state"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var defaults = options{RandomFully: true, ForwardRules: true, BridgeNF: "auto"}

func prefix(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

// lease is one with these networks and subnets; an empty one leaves the family out.
func lease(network4, subnet4, network6, subnet6 string) state.Lease {
	l := state.Lease{Version: state.Version, Node: "worker01", IPMasq: true, Backend: state.Backend{Type: "vxlan"}}
	l.Interface = state.Interface{Name: "eth0", MTU: 1500}
	l.Network = state.Pair[netip.Prefix]{IPv4: prefix(network4), IPv6: prefix(network6)}
	l.Subnet = state.Pair[netip.Prefix]{IPv4: prefix(subnet4), IPv6: prefix(subnet6)}
	return l
}

var (
	ipv4Lease = lease("10.244.0.0/16", "10.244.1.0/24", "", "")
	ipv6Lease = lease("", "", "fd00:244::/48", "fd00:244:0:1::/64")
	dualLease = lease("10.244.0.0/16", "10.244.1.0/24", "fd00:244::/48", "fd00:244:0:1::/64")
)

func mustWant(t testing.TB, l state.Lease, o options) want {
	t.Helper()
	w, err := wantOf("lease.json", l, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func unmasqueraded(l state.Lease) state.Lease {
	l.IPMasq = false
	return l
}

// tables are the cases of the golden files in testdata/tables, which the tests with a kernel load.
func tables(t testing.TB) map[string]want {
	return map[string]want{
		"ipv4":           mustWant(t, ipv4Lease, defaults),
		"ipv6":           mustWant(t, ipv6Lease, defaults),
		"dual":           mustWant(t, dualLease, defaults),
		"dual-no-masq":   mustWant(t, unmasqueraded(dualLease), defaults),
		"ipv4-no-random": mustWant(t, ipv4Lease, options{ForwardRules: true, BridgeNF: "auto"}),
		"ipv4-no-fwd":    mustWant(t, ipv4Lease, options{RandomFully: true, BridgeNF: "auto"}),
	}
}

func TestTables(t *testing.T) {
	for name, w := range tables(t) {
		table, ok := w.table()
		if !ok {
			t.Fatalf("%s: no table", name)
		}
		golden(t, filepath.Join("testdata", "tables", name+".nft"), table.Replace())
	}
	if table, ok := mustWant(t, unmasqueraded(dualLease), options{}).table(); ok {
		t.Errorf("nothing is wanted, and still there is %s", table)
	}
}

func golden(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(wanted) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, text, wanted)
	}
}

func TestLeaseThatDoesNotFit(t *testing.T) {
	uplink := dualLease
	uplink.Interface.Name = "../../../kernel"
	for name, c := range map[string]struct {
		lease state.Lease
		key   string
	}{
		"subnet elsewhere":        {lease("10.244.0.0/16", "10.245.1.0/24", "", ""), "subnet.ipv4"},
		"subnet larger":           {lease("10.244.0.0/16", "10.0.0.0/8", "", ""), "subnet.ipv4"},
		"no network of family":    {lease("10.244.0.0/16", "10.244.1.0/24", "", "fd00::/64"), "network.ipv6"},
		"everything":              {lease("0.0.0.0/0", "10.244.1.0/24", "", ""), "network.ipv4"},
		"path in interface":       {uplink, "interface.name"},
		"ipv6 subnet elsewhere":   {lease("", "", "fd00:244::/48", "fd00:245::/64"), "subnet.ipv6"},
		"ipv6 network everything": {lease("", "", "::/0", "fd00:245::/64"), "network.ipv6"},
	} {
		_, err := wantOf("/run/x/lease.json", c.lease, defaults)
		var e *state.Error
		if !errors.As(err, &e) || e.Key != c.key || exit.Of(err) != exit.BadInput || !strings.Contains(err.Error(), "/run/x/lease.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A network of a family in which the node has no subnet is none of this node's business.
	if w := mustWant(t, lease("10.244.0.0/16", "10.244.1.0/24", "fd00::/48", ""), defaults); w.Nets.Has(state.IPv6) {
		t.Errorf("IPv6 without a subnet: %+v", w.Nets)
	}
}

func TestOptions(t *testing.T) {
	for _, word := range []string{"", "yes", "ON"} {
		if _, err := optionsOf(true, true, word); exit.Of(err) != exit.Usage {
			t.Errorf("--bridge-nf %q: %v", word, err)
		}
	}
}
