package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/ruleset"
	"github.com/towpath/towpath/lib/state"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// node is a run directory as policy-render and cni-bridge leave it.
func node(t testing.TB) state.Dir {
	t.Helper()
	dir := state.Dir(t.TempDir())
	for name, e := range map[string]state.Endpoint{
		"c1-eth0": {Namespace: "prod", Pod: "web", HostVeth: "veth1", MAC: "0a:58:0a:f4:01:02", IP: pair("10.244.1.2", "fd00:10:0:1::2")},
		"c2-eth0": {Namespace: "prod", Pod: "late", HostVeth: "veth2", IP: pair("10.244.1.5", "")},
		"c3-eth0": {HostVeth: "veth3", IP: pair("10.244.1.6", "")},
	} {
		e.Version, e.ContainerID, e.Interface = state.Version, name[:2], "eth0"
		save(t, dir.Endpoint(e.ContainerID, e.Interface), e)
	}
	write(t, filepath.Join(dir.Endpoints(), "broken.json"), "{")
	save(t, dir.PolicyLoaded(), state.PolicyLoaded{Version: state.Version, Endpoints: []string{"c1-eth0"}})
	save(t, dir.Lease(), state.Lease{
		Version: state.Version, Node: "a", Backend: state.Backend{Type: "vxlan"}, Interface: state.Interface{Name: "eth0", MTU: 1500},
		Network: state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.0.0/16")},
		Subnet:  state.Pair[netip.Prefix]{IPv4: netip.MustParsePrefix("10.244.1.0/24")},
	})
	write(t, filepath.Join(dir.PolicyPods(), "10.244.2.0-24"), "10.244.2.3 dev/pod1\n10.244.2.31 dev/pod2\n")
	write(t, filepath.Join(dir.PolicyPods(), "fd00-10-0-2---64"), "fd00:10:0:2::3 dev/pod1\n")
	for _, o := range []*ruleset.Object{
		{ID: ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: "deny-ge-1"}, Notes: []string{"egress: prod/deny-all-egress prod/dns"}, Lines: []string{"drop"}},
		{ID: ruleset.ID{Family: "inet", Kind: ruleset.Chain, Name: "deny-gi-2"}, Notes: []string{"ingress: dev/a", "ingress: dev/b"}, Lines: []string{"drop"}},
	} {
		write(t, filepath.Join(dir.Policy(), o.Path()), string(o.Text()))
	}
	return dir
}

func pair(v4, v6 string) (p state.Pair[netip.Addr]) {
	p.IPv4 = netip.MustParseAddr(v4)
	if v6 != "" {
		p.IPv6 = netip.MustParseAddr(v6)
	}
	return p
}

func save(t testing.TB, path string, v any) {
	t.Helper()
	if _, err := state.Save(path, v); err != nil {
		t.Fatal(err)
	}
}

func TestLines(t *testing.T) {
	dir := node(t)
	const v4web, arpFalse = "45000040 00004000 40060000 0af40102", "0001 0800 06 04 0001 0a580af40102 0af40109 000000000000 0af40101"
	for _, c := range []struct {
		prefix string
		proto  uint16
		text   string
		in     int
		mac    nl.MAC
		want   string
	}{
		{"towpath E ge-1 ", 0x0800, v4("06", "9c40 0050"), 0, nl.MAC{}, "egress prod/web → dev/pod1:80/TCP: isolated by prod/deny-all-egress, prod/dns"},
		{"towpath E ge-1 ", 0x0800, v4("01", "08"), 0, nl.MAC{}, "egress prod/web → dev/pod1 (ICMP echo request): isolated by prod/deny-all-egress, prod/dns"},
		{"towpath I gi-2 ", 0x86dd, v6("06", "9c40 0050"), 0, nl.MAC{}, "ingress prod/web → dev/pod1:80/TCP: isolated by dev/a, dev/b"},
		{"towpath I gi-9 ", 0x0800, v4("11", "9c40 0035"), 0, nl.MAC{}, "ingress prod/web → dev/pod1:53/UDP: isolated by policies that are no longer there (chain deny-gi-9)"},
		{"towpath E ge-1 ", 0x0800, v4web + "08080808 9c40 01bb", 0, nl.MAC{}, "egress prod/web → 8.8.8.8:443/TCP: isolated by prod/deny-all-egress, prod/dns"},
		{"towpath E ge-1 ", 0x86dd, "60000000 00400640" + "fd000010000000010000000000000002 20010db8000000000000000000000001 9c40 01bb", 0, nl.MAC{}, "egress prod/web → [2001:db8::1]:443/TCP: isolated by prod/deny-all-egress, prod/dns"},
		{"towpath ? unknown ", 0x0800, v4web + "0af40105 9c40 0050", 0, nl.MAC{}, "unknown prod/web → prod/late:80/TCP: no rules are loaded for prod/late (10.244.1.5) yet, see towpath status"},
		{"towpath ? unknown ", 0x0800, v4web + "0af40106 9c40 0050", 0, nl.MAC{}, "unknown prod/web → 10.244.1.6:80/TCP: no rules are loaded for 10.244.1.6 (endpoint c3-eth0) yet, see towpath status"},
		{"towpath ? unknown ", 0x0800, v4web + "0af40163 9c40 0050", 0, nl.MAC{}, "unknown prod/web → 10.244.1.99:80/TCP: no pod of this node has 10.244.1.99: addresses without rules are closed"},
		{"towpath ? unknown ", 0x0800, v4("06", "9c40 0050"), 0, nl.MAC{}, "unknown prod/web → dev/pod1:80/TCP: the kernel had no rules for an address of this node's pods: those of a pod that starts were not loaded yet, or the pod has ended"},
		{"towpath S spoof ", 0x0806, arpFalse, 1, nl.MAC{0x0a, 0x58, 0x0a, 0xf4, 1, 2}, "spoof 10.244.1.9 → 10.244.1.1 (ARP who has 10.244.1.1): prod/web claims 10.244.1.9, which is not its address"},
		{"towpath S spoof ", 0x0800, "45000040 00004000 40060000 08080808 0af40203 9c40 0050", 1, nl.MAC{}, "spoof 8.8.8.8 → dev/pod1:80/TCP: prod/web sent it, and 8.8.8.8 is not its address"},
		{"towpath S spoof ", 0x0800, "45000040 00004000 40060000 08080808 0af40203 9c40 0050", 7, nl.MAC{}, "spoof 8.8.8.8 → dev/pod1:80/TCP: veth7 sent it, and 8.8.8.8 is not its address"},
		{"towpath S spoof ", 0x0800, v4("06", "9c40 0050"), 1, nl.MAC{2, 0, 0, 0, 0, 1}, "spoof prod/web → dev/pod1:80/TCP: prod/web sent it from 02:00:00:00:00:01, which is not its Ethernet address"},
		{"towpath S spoof ", 0x88cc, "", 1, nl.MAC{}, "spoof ? → ? (ether type 0x88cc): prod/web sent what a pod may not: neither IP nor ARP, or an announcement of another's address"},
		{"towpath S spoof ", 0x0800, v4("06", "9c40 0050"), 0, nl.MAC{}, "spoof prod/web → dev/pod1:80/TCP: it came from a pod, and the source is not its address"},
		{"towpath S tunnel ", 0x0800, v4("11", "9c40 2118"), 0, nl.MAC{}, "tunnel prod/web → dev/pod1:8472/UDP: a pod sent it to the port of the tunnel between the nodes, which only nodes do"},
		{"towpath C cut ", 0x0800, v4("06", "9c40 0050"), 0, nl.MAC{}, "cut prod/web → dev/pod1:80/TCP: its connection was allowed when it began, and a policy has changed since"},
		{"towpath X new ", 0x0800, v4("06", "9c40 0050"), 0, nl.MAC{}, ""},
		{"KUBE I gi-2 ", 0x0800, v4("06", "9c40 0050"), 0, nl.MAC{}, ""},
	} {
		at := time.Date(2026, 11, 23, 7, 0, 0, 5e6, time.UTC)
		l := nl.LoggedPacket{Time: at, Prefix: c.prefix, Protocol: c.proto, Payload: raw(t, c.text), PhysIn: c.in, Source: c.mac}
		d, ok := judge(l, &names{dir: dir}, func(index int) string {
			return map[int]string{0: "", 1: "veth1", 7: "veth7"}[index]
		})
		got := ""
		if ok {
			got = d.String()
		}
		want := c.want
		if want != "" {
			want = "2026-11-23T07:00:00.005Z " + want
		}
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.prefix, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	l := nl.LoggedPacket{Time: time.Unix(0, 0).UTC(), Prefix: "towpath E ge-1 ", Protocol: 0x0800, Payload: raw(t, v4("06", "9c40 0050"))}
	d, _ := judge(l, &names{dir: node(t)}, func(int) string { return "" })
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"1970-01-01T00:00:00Z","direction":"egress","from":{"address":"10.244.1.2","pod":"prod/web","port":40000},` +
		`"to":{"address":"10.244.2.3","pod":"dev/pod1","port":80},"protocol":"TCP","group":"ge-1","policies":["prod/deny-all-egress","prod/dns"],` +
		`"reason":"isolated by prod/deny-all-egress, prod/dns"}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
	for pod, want := range map[string]bool{"": true, "prod/web": true, "dev/pod1": true, "dev/pod2": false} {
		if d.concerns(pod) != want {
			t.Errorf("--pod %q: %t", pod, !want)
		}
	}
}

// TestNamesFollow: a pod that comes, also right after the last look, is found, and one that goes is not.
func TestNamesFollow(t *testing.T) {
	dir := node(t)
	n := &names{dir: dir}
	a := netip.MustParseAddr("10.244.1.7")
	for range 20 {
		if got := n.pod(a); got != "" {
			t.Fatalf("nobody has it yet: %q", got)
		}
		save(t, dir.Endpoint("c7", "eth0"), state.Endpoint{Version: state.Version, ContainerID: "c7", Interface: "eth0", Namespace: "x", Pod: "y", IP: pair(a.String(), "")})
		if got := n.pod(a); got != "x/y" {
			t.Fatalf("x/y has it: %q", got)
		}
		if err := os.Remove(dir.Endpoint("c7", "eth0")); err != nil {
			t.Fatal(err)
		}
	}
}
