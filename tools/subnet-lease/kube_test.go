package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
)

// TestPrefixOf: flannel's rules.
func TestPrefixOf(t *testing.T) {
	for text, want := range map[string]string{
		"flannel.alpha.coreos.com": "flannel.alpha.coreos.com/", "flannel.alpha.coreos.com/": "flannel.alpha.coreos.com/",
		"example.org/blue": "example.org/blue-", "example.org/blue-": "example.org/blue-", "a_b.c/x_y": "a_b.c/x_y-",
		"": "", "flannel": "", "a.b/c/d": "", "Example.org": "", "a.b/C": "", ".b": "", "a b.c": "", "a.b/c d": "",
	} {
		got, err := prefixOf(text)
		if got != want || (err == nil) != (want != "") || err != nil && exit.Of(err) != exit.Usage {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// nodeObject is a Node: its podCIDRs, and KEY=VALUE of its annotations.
func nodeObject(name, podCIDRs string, annotations ...string) kube.Node {
	n := kube.Node{Name: name, PodCIDRs: strings.Fields(podCIDRs), Annotations: map[string]string{}, Created: now}
	for _, a := range annotations {
		key, value, _ := strings.Cut(a, "=")
		n.Annotations[key] = value
	}
	return n
}

func entryText(e Entry) string {
	if e.Err != nil {
		return fmt.Sprintf("unreadable, claims %v: %v", e.Claims, e.Err)
	}
	r := e.Record
	text := "[" + pairText(r.Subnet) + "]"
	if r.Announced() {
		text += fmt.Sprintf(" %s [%s] %s %s", r.Backend.Type, pairText(r.PublicIP), r.Backend.Data, r.Backend.DataV6)
	}
	return text
}

func TestEntryOf(t *testing.T) {
	const on = "kube-subnet-manager=true"
	for _, c := range []struct {
		name, podCIDRs string
		annotations    []string
		want           string
	}{
		{"nothing", "", nil, "[]"},
		{"a new node", "10.244.1.0/24", nil, "[10.244.1.0/24]"},
		{"without the mark", "10.244.1.0/24", []string{"backend-type=vxlan", "public-ip=192.168.7.2"}, "[10.244.1.0/24]"},
		{"the mark is false", "10.244.1.0/24", []string{"kube-subnet-manager=false", "backend-type=vxlan", "public-ip=192.168.7.2"}, "[10.244.1.0/24]"},
		{"without podCIDR", "", []string{on, "backend-type=vxlan", "public-ip=192.168.7.2"}, "[]"},
		{
			"flannel's vxlan", "10.244.1.0/24",
			[]string{on, "backend-type=vxlan", `backend-data={"VNI":1,"VtepMAC":"62:00:00:00:00:02"}`, "public-ip=192.168.7.2"},
			`[10.244.1.0/24] vxlan [192.168.7.2] {"VNI":1,"VtepMAC":"62:00:00:00:00:02"} `,
		},
		{
			"flannel's vxlan of old, with null for IPv6", "10.244.1.0/24",
			[]string{on, "backend-type=vxlan", `backend-data={"VNI":1,"VtepMAC":"62:00:00:00:00:02"}`, "backend-v6-data=null", "public-ip=192.168.7.2"},
			`[10.244.1.0/24] vxlan [192.168.7.2] {"VNI":1,"VtepMAC":"62:00:00:00:00:02"} `,
		},
		{
			"both families", "fd00::/64 10.244.1.0/24",
			[]string{on, "backend-type=vxlan", `backend-data={"VNI":1}`, `backend-v6-data={"VNI":1,"VtepMAC":"a"}`, "public-ip=192.168.7.2", "public-ipv6=FD00:7::2"},
			`[10.244.1.0/24 fd00::/64] vxlan [192.168.7.2 fd00:7::2] {"VNI":1} {"VNI":1,"VtepMAC":"a"}`,
		},
		{"host-gw", "10.244.1.0/24", []string{on, "backend-type=host-gw", "backend-data=null", "public-ip=192.168.7.2"}, "[10.244.1.0/24] host-gw [192.168.7.2]  "},
		{"udp", "10.244.1.0/24", []string{on, "backend-type=", "backend-data=null", "public-ip=192.168.7.2"}, "[10.244.1.0/24] udp [192.168.7.2]  "},
		{"no type, no data", "10.244.1.0/24", []string{on, "backend-data=", "public-ip=192.168.7.2"}, "[10.244.1.0/24] udp [192.168.7.2]  "},
		{
			"IPv6 alone, host-gw", "fd00::/64",
			[]string{on, "backend-type=host-gw", "backend-data=null", "public-ip=0.0.0.0", "backend-v6-data=null", "public-ipv6=fd00:7::2"},
			"[fd00::/64] host-gw [fd00:7::2]  ",
		},
		{"keys in another order, and spaces", "10.244.1.0/24", []string{on, "backend-type=wireguard", `backend-data={ "Port": 51820, "PublicKey": "k" }`, "public-ip=192.168.7.2"}, `[10.244.1.0/24] wireguard [192.168.7.2] {"PublicKey":"k","Port":51820} `},
		{"host bits, and a second of the family", "10.244.1.7/24 10.244.2.0/24", nil, "[10.244.1.0/24]"},
		{"no address", "10.244.1.0/24", []string{on, "backend-type=vxlan", "public-ip=worker02"}, `unreadable, claims [10.244.1.0/24]: node "z": annotation public-ip: "worker02" is no IPv4 address`},
		{"of the other family", "10.244.1.0/24", []string{on, "public-ip=fd00::1"}, `unreadable, claims [10.244.1.0/24]: node "z": annotation public-ip: "fd00::1" is no IPv4 address`},
		{"with a zone", "10.244.1.0/24", []string{on, "public-ipv6=fe80::1%eth0"}, `unreadable, claims [10.244.1.0/24]: node "z": annotation public-ipv6: "fe80::1%eth0" is no IPv6 address`},
		{"no JSON", "10.244.1.0/24", []string{on, "backend-type=vxlan", "backend-data={", "public-ip=192.168.7.2"}, `unreadable, claims [10.244.1.0/24]: node "z": annotation backend-data: "{" is no JSON`},
		{"no podCIDR at all", "ten", nil, `unreadable, claims []: node "z": podCIDR "ten": no subnet`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, entryText(entryOf(nodeObject("z", c.podCIDRs, c.annotations...)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if e := entryOf(kube.Node{Name: "z"}); e.Err != nil || e.Record.Announced() {
		t.Errorf("a Node without annotations: %+v", e)
	}
}

func mapText(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, " ")
}

// TestAnnotationsOf: what flannel writes, to the byte.
func TestAnnotationsOf(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.168.7.1"), netip.MustParseAddr("fd00:7::1")
	for _, c := range []struct {
		name string
		v4   bool
		v6   bool
		p    state.Published
		want string
	}{
		{
			"vxlan", true, false,
			state.Published{Type: "vxlan", Data: json.RawMessage(`{"VNI": 1, "VtepMAC": "62:00:00:00:00:01"}`)},
			`backend-data={"VNI":1,"VtepMAC":"62:00:00:00:00:01"} backend-type=vxlan kube-subnet-manager=true public-ip=192.168.7.1`,
		},
		{
			"vxlan of two families", true, true,
			state.Published{Type: "vxlan", Data: json.RawMessage(`{"VNI":1}`), DataV6: json.RawMessage(`{"VNI":2}`)},
			`backend-data={"VNI":1} backend-type=vxlan backend-v6-data={"VNI":2} kube-subnet-manager=true public-ip=192.168.7.1 public-ipv6=fd00:7::1`,
		},
		{"vxlan of IPv6", false, true, state.Published{Type: "vxlan", DataV6: json.RawMessage(`{"VNI":2}`)}, `backend-type=vxlan backend-v6-data={"VNI":2} kube-subnet-manager=true public-ipv6=fd00:7::1`},
		{"host-gw", true, false, state.Published{Type: "host-gw"}, "backend-data=null backend-type=host-gw kube-subnet-manager=true public-ip=192.168.7.1"},
		{"host-gw of two families", true, true, state.Published{Type: "host-gw"}, "backend-data=null backend-type=host-gw backend-v6-data=null kube-subnet-manager=true public-ip=192.168.7.1 public-ipv6=fd00:7::1"},
		{"ipip", true, false, state.Published{Type: "ipip"}, "backend-data=null backend-type=ipip kube-subnet-manager=true public-ip=192.168.7.1"},
		{"alloc", true, false, state.Published{Type: "alloc"}, "backend-data=null backend-type=alloc kube-subnet-manager=true public-ip=192.168.7.1"},
		{"alloc of IPv6", false, true, state.Published{Type: "alloc"}, "backend-type=alloc backend-v6-data=null kube-subnet-manager=true public-ipv6=fd00:7::1"},
		{"extension", true, false, state.Published{Type: "extension", Data: json.RawMessage(`"key \u003c1\u003e"`)}, `backend-data="key \u003c1\u003e" backend-type=extension kube-subnet-manager=true public-ip=192.168.7.1`},
		{
			"extension of two families", true, true,
			state.Published{Type: "extension", Data: json.RawMessage(`"a"`)},
			`backend-data="a" backend-type=extension backend-v6-data=null kube-subnet-manager=true public-ip=192.168.7.1 public-ipv6=fd00:7::1`,
		},
		{"udp", true, true, state.Published{Type: "udp"}, "backend-data=null backend-type= kube-subnet-manager=true public-ip=192.168.7.1"},
		{
			"wireguard", true, false,
			state.Published{Type: "wireguard", Data: json.RawMessage(`{"Port":51820,"PublicKey":"k"}`)},
			`backend-data={"PublicKey":"k","Port":51820} backend-type=wireguard kube-subnet-manager=true public-ip=192.168.7.1`,
		},
		{
			"wireguard of two families", true, true,
			state.Published{Type: "wireguard", Data: json.RawMessage(`{"Port":51820,"PublicKey":"k"}`), DataV6: json.RawMessage(`{"Port":51821,"PublicKey":"k"}`)},
			`backend-data={"PublicKey":"k","Port":51820} backend-type=wireguard backend-v6-data={"PublicKey":"k","Port":51821} kube-subnet-manager=true public-ip=192.168.7.1 public-ipv6=fd00:7::1`,
		},
		{
			"wireguard of IPv6", false, true,
			state.Published{Type: "wireguard", DataV6: json.RawMessage(`{"Port":51821,"PublicKey":"k"}`)},
			`backend-type=wireguard backend-v6-data={"PublicKey":"k","Port":51821} kube-subnet-manager=true public-ipv6=fd00:7::1`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ip state.Pair[netip.Addr]
			if c.v4 {
				ip.IPv4 = v4
			}
			if c.v6 {
				ip.IPv6 = v6
			}
			if diff := cmp.Diff(c.want, mapText(annotationsOf(ip, c.p))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAdopt: the podCIDRs are the lease, or it is said why not.
func TestAdopt(t *testing.T) {
	const on = "kube-subnet-manager=true"
	ends := state.Published{Type: "vxlan", Data: json.RawMessage(`{"VNI":1,"VtepMAC":"a"}`), DataV6: json.RawMessage(`{"VNI":1,"VtepMAC":"b"}`)}
	v4only := state.Published{Type: "vxlan", Data: ends.Data}
	for _, c := range []struct {
		name, conf string
		own        kube.Node
		link       state.Published
		want       string // have → want, or REASON (EXIT STATUS): text
	}{
		{"a new node, no link yet", plain, nodeObject("a", "10.244.3.0/24"), state.Published{}, "[10.244.3.0/24] → [10.244.3.0/24]"},
		{"the link stands", plain, nodeObject("a", "10.244.3.0/24"), ends, `[10.244.3.0/24] → [10.244.3.0/24] vxlan [192.168.7.1] {"VNI":1,"VtepMAC":"a"} `},
		{
			"published already, the link is gone", plain, nodeObject("a", "10.244.3.0/24", on, "backend-type=vxlan", `backend-data={"VNI":1,"VtepMAC":"z"}`, "public-ip=192.168.7.9"),
			state.Published{},
			`[10.244.3.0/24] vxlan [192.168.7.9] {"VNI":1,"VtepMAC":"z"}  → [10.244.3.0/24] vxlan [192.168.7.9] {"VNI":1,"VtepMAC":"z"} `,
		},
		{"unreadable annotations are written anew", plain, nodeObject("a", "10.244.3.0/24", on, "backend-data={", "public-ip=x"), v4only, `[10.244.3.0/24] → [10.244.3.0/24] vxlan [192.168.7.1] {"VNI":1,"VtepMAC":"a"} `},
		{"outside SubnetMin and of another length", `{"Network":"10.244.0.0/16","SubnetMin":"10.244.9.0","Backend":{"Type":"vxlan"}}`, nodeObject("a", "10.244.3.0/26"), state.Published{}, "[10.244.3.0/26] → [10.244.3.0/26]"},
		{"two families, one in use", plain, nodeObject("a", "10.244.3.0/24 fd00:10:244:3::/64"), ends, `[10.244.3.0/24] → [10.244.3.0/24] vxlan [192.168.7.1] {"VNI":1,"VtepMAC":"a"} `},
		{
			"two families", dual, nodeObject("a", "fd00:10:244:3::/64 10.244.3.0/24"), ends,
			`[10.244.3.0/24 fd00:10:244:3::/64] → [10.244.3.0/24 fd00:10:244:3::/64] vxlan [192.168.7.1 fd00:7::1] {"VNI":1,"VtepMAC":"a"} {"VNI":1,"VtepMAC":"b"}`,
		},
		{
			"two families, the tunnel of one stands", dual, nodeObject("a", "fd00:10:244:3::/64 10.244.3.0/24"), v4only,
			`[10.244.3.0/24 fd00:10:244:3::/64] → [10.244.3.0/24 fd00:10:244:3::/64] vxlan [192.168.7.1] {"VNI":1,"VtepMAC":"a"} `,
		},
		{"overwritten", plain, nodeObject("a", "10.244.3.0/24", "public-ip-overwrite=203.0.113.7", "public-ipv6-overwrite=2001:db8::7"), ends, `[10.244.3.0/24] → [10.244.3.0/24] vxlan [203.0.113.7] {"VNI":1,"VtepMAC":"a"} `},
		{"overwritten with nonsense", plain, nodeObject("a", "10.244.3.0/24", "public-ip-overwrite=me"), ends, `InvalidAnnotation (78): node "a": annotation public-ip-overwrite: "me" is no IPv4 address`},
		{"no podCIDR", plain, nodeObject("a", ""), ends, `PodCIDRMissing (75): node "a" has no podCIDR yet`},
		{"no podCIDR of a family", dual, nodeObject("a", "10.244.3.0/24"), ends, `PodCIDRMissing (75): node "a" has no podCIDR of IPv6, only 10.244.3.0/24`},
		{"outside", plain, nodeObject("a", "10.99.3.0/24"), ends, `PodCIDROutsideNetwork (78): podCIDR 10.99.3.0/24 of node "a" lies outside the network 10.244.0.0/16 of net-conf.json`},
		{"around the network", plain, nodeObject("a", "10.244.0.0/15"), ends, `PodCIDROutsideNetwork (78): podCIDR 10.244.0.0/15 of node "a" lies outside the network 10.244.0.0/16 of net-conf.json`},
		{"nonsense", plain, nodeObject("a", "ten"), ends, `InvalidPodCIDR (78): node "a": podCIDR "ten": no subnet`},
		{"on the nodes' network", `{"Network":"192.168.0.0/16","Backend":{"Type":"vxlan"}}`, nodeObject("a", "192.168.7.0/24"), ends, `PodCIDROverlapsNodes (78): podCIDR 192.168.7.0/24 of node "a" overlaps the network between the nodes: eth0 has the address 192.168.7.1/24`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := Request{Node: "a", Conf: conf(t, c.conf), Path: "net-conf.json", Backend: c.link, Uplink: Uplink{Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.7.1/24")}}}
			q.PublicIP.IPv4 = netip.MustParseAddr("192.168.7.1")
			if q.Conf.Network.Has(state.IPv6) {
				q.PublicIP.IPv6 = netip.MustParseAddr("fd00:7::1")
			}
			have, want, err := q.Adopt(c.own)
			got := entryText(Entry{Record: &have}) + " → " + entryText(Entry{Record: &want})
			var r *Refusal
			if errors.As(err, &r) {
				got = fmt.Sprintf("%s (%d): %v", r.Reason, exit.Of(err), err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err != nil && len(exit.Hints(err)) == 0 {
				t.Error("no hint")
			}
			if err != nil {
				return
			}
			// What is published so is what is wanted: the next pass changes nothing.
			if want.Announced() {
				maps.Copy(c.own.Annotations, annotationsOf(want.PublicIP, want.Backend))
			}
			if have, want, err := q.Adopt(c.own); err != nil || change(&have, want) != "" {
				t.Errorf("the next pass: %v, %s of %+v", err, change(&have, want), want)
			}
		})
	}
}

func TestStanding(t *testing.T) {
	link := &state.Link{Publish: state.Published{Type: "vxlan"}}
	link.Device.IPv4.Name = "flannel.1"
	two := *link
	two.Device.IPv6.Name = "flannel-v6.1"
	for _, c := range []struct {
		name   string
		link   *state.Link
		routes *state.Routes
		want   string
	}{
		{"no link", nil, &state.Routes{}, "link.json is missing"},
		{"of another back end", &state.Link{Publish: state.Published{Type: "host-gw"}}, &state.Routes{}, "link.json is of the back end host-gw"},
		{"no routes", link, nil, "routes.json is missing"},
		{"one of two devices", &two, &state.Routes{}, "the device flannel-v6.1 is missing or down"},
		{"alone", link, &state.Routes{}, ""},
		{"some peers", link, &state.Routes{Peers: 1, LeftOut: map[string]string{"x": "y"}}, ""},
		{"every peer left out", link, &state.Routes{LeftOut: map[string]string{"x": "y"}}, "routes.json says why"},
	} {
		got := standing("vxlan", c.link, c.routes, func(dev string) bool { return dev == "flannel.1" })
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestWarningsDue: an event is of what lasts, is made once, and not more than so many are.
func TestWarningsDue(t *testing.T) {
	var w warnings
	at := now
	if w.due("a", at, 5*time.Second) || w.due("a", at.Add(4*time.Second), 5*time.Second) {
		t.Error("before it lasted")
	}
	if !w.due("a", at.Add(5*time.Second), 5*time.Second) || w.due("a", at.Add(6*time.Second), 5*time.Second) {
		t.Error("not once")
	}
	if !w.due("a", at.Add(warnAgain+time.Minute), 0) {
		t.Error("not again after an hour")
	}
	made := 0
	for i := range 1000 {
		if w.due(fmt.Sprint(i), at.Add(warnAgain+time.Minute), 0) {
			made++
		}
	}
	if made != warnMost-1 || len(w.first) > 10*warnMost+1 {
		t.Errorf("%d made, %d remembered", made, len(w.first))
	}
}

// TestNoNewsCostsNothing: a kubelet's report of its node's state makes no hint; what matters does.
func TestNoNewsCostsNothing(t *testing.T) {
	s := newKubeStore(nil, "flannel.alpha.coreos.com/", "a")
	own := nodeObject("a", "10.244.0.0/24")
	own.Revision = 10
	peer := nodeObject("b", "10.244.1.0/24", "kube-subnet-manager=true", "backend-type=vxlan", `backend-data={"VNI":1}`, "public-ip=192.168.7.2")
	s.Set(own)
	s.Set(peer)
	s.Listed(map[kube.Name]struct{}{{Name: "a"}: {}, {Name: "b"}: {}})
	if h := s.hints.take(); !h.All {
		t.Error("no hint of the listing")
	}
	told := func(what string, want ...string) {
		t.Helper()
		if h := s.hints.take(); h.All || !slices.Equal(h.Nodes, want) {
			t.Errorf("%s: hint %+v, want %q", what, h, want)
		}
	}
	for range 3 {
		own.Revision++
		peer.Revision++
		s.Set(own)
		s.Set(peer)
	}
	told("reports of the kubelets")
	peer.Annotations = maps.Clone(peer.Annotations)
	peer.Annotations["public-ip"] = "192.168.7.3"
	s.Set(peer)
	told("another address", "b")
	own.Unavailable = "False"
	s.Set(own)
	told("our own condition", "a")
	s.Delete("b")
	told("a node that goes", "b")

	// What we wrote ourselves is not undone by news of the time before.
	written := own
	written.Revision, written.Annotations = 100, map[string]string{"kube-subnet-manager": "true"}
	if _, err := s.write(func() (kube.Node, error) { return written, nil }); err != nil {
		t.Fatal(err)
	}
	own.Revision, own.Annotations = 99, map[string]string{"x": "y"}
	s.Set(own)
	if got, _ := s.Own(); len(got.Annotations) != 1 || got.Annotations["kube-subnet-manager"] != "true" {
		t.Errorf("after old news: %v", got.Annotations)
	}
	// A request that failed is not made again at once, whoever asks.
	tries := 0
	for range 100 {
		if _, err := s.write(func() (kube.Node, error) { tries++; return kube.Node{}, errors.New("no") }); err == nil {
			t.Fatal("no error")
		}
	}
	if tries != 1 {
		t.Errorf("%d requests at once", tries)
	}
}

// FuzzAnnotations: whatever people and other programs write, there is no panic, a peer's file is valid, and what is read can be
// written so that it reads the same.
func FuzzAnnotations(f *testing.F) {
	f.Add("10.244.1.0/24", "true", "vxlan", `{"VNI":1,"VtepMAC":"62:00:00:00:00:02"}`, "null", "192.168.7.2", "")
	f.Add("fd00::/64", "true", "host-gw", "null", "", "0.0.0.0", "fd00:7::2")
	f.Add("", "", "", "", "", "", "")
	f.Add("10.244.1.0/24", "true", "", "{", `"\ud800"`, "::ffff:1.2.3.4", "fe80::1%x")
	f.Add("10.244.1.0/24", "true", "wireguard", `{"Port":1,"PublicKey":"<&>","a":{"b":[1e99]}}`, "[]", "1.2.3.4", "::1")
	f.Fuzz(func(t *testing.T, podCIDR, mark, kind, data, dataV6, publicIP, publicIPv6 string) {
		n := nodeObject("z", "")
		if podCIDR != "" {
			n.PodCIDRs = []string{podCIDR}
		}
		n.Annotations = map[string]string{annotManaged: mark, annotType: kind, annotData: data, annotDataV6: dataV6, annotPublicIP: publicIP, annotPublicIPv6: publicIPv6}
		e := entryOf(n)
		if e.Err != nil || !e.Record.Announced() {
			return
		}
		p := e.Record.peer()
		text, err := state.Marshal(p)
		if err != nil || p.Validate() != nil {
			t.Fatalf("%q: %v, %v", text, err, p.Validate())
		}
		written := annotationsOf(e.Record.PublicIP, e.Record.Backend)
		n.Annotations = written
		again := entryOf(n)
		if again.Err != nil {
			t.Fatalf("%q: %v", written, again.Err)
		}
		if _, ok := written[annotPublicIP]; ok && (again.Record.PublicIP.IPv4 != e.Record.PublicIP.IPv4 || string(again.Record.Backend.Data) != string(e.Record.Backend.Data)) {
			t.Fatalf("%q reads as %s, was %s", written, entryText(again), entryText(e))
		}
	})
}

// TestOwnNodeEnds: the watch tells that the own Node is gone before the answer to a change of it has arrived.
func TestOwnNodeEnds(t *testing.T) {
	s := newKubeStore(nil, "flannel.alpha.coreos.com/", "a")
	change := func(meanwhile func()) {
		t.Helper()
		if _, err := s.write(func() (kube.Node, error) {
			meanwhile()
			return kube.Node{Name: "a", Revision: 7}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	change(func() {})
	if _, err := s.Own(); err != nil {
		t.Fatalf("what the change made is not taken in: %v", err)
	}
	change(func() { s.Set(kube.Node{Name: "a", Revision: 8}) })
	if n, err := s.Own(); err != nil || n.Revision != 8 {
		t.Errorf("what the watch told of later is overwritten by the answer: %+v, %v", n, err)
	}
	change(func() { s.Delete("a") })
	if n, err := s.Own(); err == nil {
		t.Errorf("a Node that is gone is there: %+v", n)
	}
	if e, ok := s.entries["a"]; ok {
		t.Errorf("an entry of a Node that is gone: %+v", e)
	}
}
