package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/state"
)

// The names of flannel's annotations after their prefix. The last four are set by people.
const (
	annotManaged     = "kube-subnet-manager"
	annotType        = "backend-type"
	annotData        = "backend-data"
	annotDataV6      = "backend-v6-data"
	annotPublicIP    = "public-ip"
	annotPublicIPv6  = "public-ipv6"
	annotOverwrite   = "public-ip-overwrite"
	annotOverwriteV6 = "public-ipv6-overwrite"
	annotNodeIP      = "node-public-ip"
	annotNodeIPv6    = "node-public-ipv6"
)

// published are the annotations that a node's own program writes.
var published = []string{annotManaged, annotType, annotData, annotDataV6, annotPublicIP, annotPublicIPv6}

// Annotations that hold an address, by its family.
var (
	publicKeys    = map[state.Family]string{state.IPv4: annotPublicIP, state.IPv6: annotPublicIPv6}
	overwriteKeys = map[state.Family]string{state.IPv4: annotOverwrite, state.IPv6: annotOverwriteV6}
	givenKeys     = map[state.Family]string{state.IPv4: annotNodeIP, state.IPv6: annotNodeIPv6}
)

// annotPrefix is flannel's rule (kube-annotation-prefix), which only looks at the prefix's end.
var annotPrefix = regexp.MustCompile(`^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+/(?:[a-z0-9_-]+-)?$`)

// prefixOf is what the annotations' names begin with: "/" is appended to a prefix without one, and "-" to one that
// does not end so.
func prefixOf(text string) (string, error) {
	prefix := text
	if !strings.Contains(prefix, "/") {
		prefix += "/"
	}
	if !strings.HasSuffix(prefix, "/") && !strings.HasSuffix(prefix, "-") {
		prefix += "-"
	}
	if !annotPrefix.MatchString(prefix) {
		return "", exit.WithHint(exit.Errorf(exit.Usage, "--annotation-prefix %q: no prefix of annotations", text),
			"use a domain such as flannel.alpha.coreos.com, or one with a word: example.org/blue")
	}
	return prefix, nil
}

// entryOf is a Node as a record. One without podCIDR or without flannel's mark is a record that nobody has taken up.
func entryOf(n kube.Node) Entry {
	subnets, err := podCIDRs(n)
	if err != nil {
		return Entry{Err: fmt.Errorf("node %q: %w", n.Name, err)}
	}
	r := Record{Version: state.Version, Node: n.Name, Subnet: subnets, Granted: stamp(n.Created)}
	if subnets == (state.Pair[netip.Prefix]{}) {
		return Entry{Record: &r}
	}
	if r.PublicIP, r.Backend, err = publishedBy(n); err != nil {
		return Entry{Err: fmt.Errorf("node %q: %w", n.Name, err), Claims: claimsOf(subnets)}
	}
	return Entry{Record: &r}
}

func claimsOf(subnets state.Pair[netip.Prefix]) []netip.Prefix {
	var all []netip.Prefix
	for _, f := range state.Families {
		if subnets.Has(f) {
			all = append(all, subnets.Of(f))
		}
	}
	return all
}

// podCIDRs are a node's subnets; of two of one family the first counts, as with flannel.
func podCIDRs(n kube.Node) (subnets state.Pair[netip.Prefix], err error) {
	for _, text := range n.PodCIDRs {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return subnets, fmt.Errorf("podCIDR %q: no subnet", text)
		}
		if f := state.FamilyOf(p.Addr()); !subnets.Has(f) {
			subnets.Set(f, p.Masked())
		}
	}
	return subnets, nil
}

// publishedBy is what a node tells the others; nothing where flannel's mark is missing.
func publishedBy(n kube.Node) (publicIP state.Pair[netip.Addr], backend state.Published, err error) {
	if n.Annotations[annotManaged] != "true" {
		return publicIP, backend, nil
	}
	for f, key := range publicKeys {
		addr, err := addressIn(n, key, f)
		if err != nil {
			return publicIP, backend, err
		}
		publicIP.Set(f, addr)
	}
	backend.Type = n.Annotations[annotType]
	if backend.Type == "" {
		backend.Type = "udp" // flannel's udp leaves it empty
	}
	if backend.Data, err = dataIn(n, annotData); err == nil {
		backend.DataV6, err = dataIn(n, annotDataV6)
	}
	return publicIP, backend, err
}

// addressIn reads an annotation that is an address; invalid: it is not there, or says 0.0.0.0, as flannel does for a family
// that is not used.
func addressIn(n kube.Node, key string, f state.Family) (netip.Addr, error) {
	text := n.Annotations[key]
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	if addr = addr.Unmap(); err != nil || addr.Zone() != "" || state.FamilyOf(addr) != f {
		return netip.Addr{}, fmt.Errorf("annotation %s: %.60q is no %s address", key, text, name(f))
	}
	if addr.IsUnspecified() {
		return netip.Addr{}, nil
	}
	return addr, nil
}

// dataIn reads an annotation that is JSON; nil where it is empty, null or not there.
func dataIn(n kube.Node, key string) (json.RawMessage, error) {
	text := strings.TrimSpace(n.Annotations[key])
	if text == "" || text == "null" {
		return nil, nil
	}
	if !json.Valid([]byte(text)) {
		return nil, fmt.Errorf("annotation %s: %.60q is no JSON", key, text)
	}
	return inFlannelsOrder(json.RawMessage(text)), nil
}

// keyOrder is how flannel orders the keys of backend-data; our files sort them.
var keyOrder = []string{"VNI", "VtepMAC", "PublicKey", "Port"}

// inFlannelsOrder writes an object's keys as flannel does, so that texts compare. What is no object stays.
func inFlannelsOrder(raw json.RawMessage) json.RawMessage {
	raw = canonical(state.Published{Data: raw}).Data
	var object map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &object) != nil {
		return raw
	}
	keys := slices.Sorted(maps.Keys(object))
	slices.SortStableFunc(keys, func(a, b string) int { return place(a) - place(b) })
	var out bytes.Buffer
	for i, key := range keys {
		out.WriteByte("{,"[min(i, 1)])
		name, err := json.Marshal(key)
		if err != nil {
			return raw
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(object[key])
	}
	if len(keys) == 0 {
		return raw
	}
	out.WriteByte('}')
	return out.Bytes()
}

func place(key string) int {
	if i := slices.Index(keyOrder, key); i >= 0 {
		return i
	}
	return len(keyOrder)
}

// annotationsOf is what flannel writes for a record of its own: of the families that the record's addresses have.
func annotationsOf(publicIP state.Pair[netip.Addr], backend state.Published) map[string]string {
	text := func(raw json.RawMessage) string {
		if len(raw) == 0 {
			return "null"
		}
		return string(inFlannelsOrder(raw))
	}
	all := map[string]string{annotManaged: "true", annotType: backend.Type}
	if backend.Type == "udp" {
		all[annotType] = ""
	}
	// flannel's alloc writes no type either, but then its nodes could not be told from those of udp; no flannel reads what it writes.
	tunnel := backend.Type == "vxlan" || backend.Type == "wireguard" // without an end of it there is nothing to say
	if publicIP.Has(state.IPv4) && (!tunnel || len(backend.Data) > 0) {
		all[annotData], all[annotPublicIP] = text(backend.Data), publicIP.IPv4.String()
	}
	plain := backend.Type == "host-gw" || backend.Type == "extension" || backend.Type == "alloc"
	if publicIP.Has(state.IPv6) && (tunnel && len(backend.DataV6) > 0 || plain) {
		all[annotDataV6], all[annotPublicIPv6] = text(backend.DataV6), publicIP.IPv6.String()
	}
	return all
}
