package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// outsideWorld is where an address outside the cluster is looked for: what is routed in the Internet or in networks of
// one's own.
var outsideWorld = map[state.Family][]model.Range{
	state.IPv4: parseRanges("1.0.0.0-126.255.255.255", "128.0.0.0-223.255.255.255"),
	state.IPv6: parseRanges("64:ff9b::-64:ff9b:ffff:ffff:ffff:ffff:ffff:ffff", "2000::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
}

// internet is what of outsideWorld stands for it best.
var internet = slices.Concat(
	parseRanges("1.0.0.0-9.255.255.255", "11.0.0.0-100.63.255.255", "100.128.0.0-126.255.255.255", "128.0.0.0-169.253.255.255",
		"169.255.0.0-172.15.255.255", "172.32.0.0-192.167.255.255", "192.169.0.0-223.255.255.255"),
	parseRanges("2000::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
)

// world is outsideWorld without the networks that are known to be the pods'.
func (s *Setting) world(f state.Family) []model.Range {
	var pods [][]model.Range
	own := slices.Concat(s.Network, s.Subnets)
	for _, n := range own {
		if state.FamilyOf(n.Addr()) == f {
			pods = append(pods, []model.Range{{From: n.Masked().Addr(), To: lastOf(n)}})
		}
	}
	return slices.DeleteFunc(cut(outsideWorld[f], pods), func(r model.Range) bool {
		return slices.ContainsFunc(own, func(n netip.Prefix) bool { return n.Contains(r.From) })
	})
}

// strangers leaves away the addresses at the beginning of a range that pods and nodes have; ok: some are left.
func (s *Setting) strangers(r model.Range, nodes map[netip.Addr]string) (left model.Range, ok bool) {
	for r.From.IsValid() && r.From.Compare(r.To) <= 0 {
		if !s.insider(r.From, nodes) {
			return r, true
		}
		r.From = r.From.Next()
	}
	return r, false
}

func (s *Setting) insider(a netip.Addr, nodes map[netip.Addr]string) bool {
	_, node := nodes[a]
	return node || s.Cluster.PodByAddr(a) != nil
}

func parseRanges(texts ...string) []model.Range {
	var out []model.Range
	for _, t := range texts {
		i := slices.Index([]byte(t), '-')
		out = append(out, model.Range{From: netip.MustParseAddr(t[:i]), To: netip.MustParseAddr(t[i+1:])})
	}
	return out
}

// cut splits ranges, sorted and disjoint, wherever one of the blocks begins or ends, so that each part is in a
// block as a whole or not at all.
func cut(ranges []model.Range, blocks [][]model.Range) []model.Range {
	var starts []netip.Addr
	for _, b := range blocks {
		for _, r := range b {
			starts = append(starts, r.From)
			if next := r.To.Next(); next.IsValid() {
				starts = append(starts, next)
			}
		}
	}
	slices.SortFunc(starts, netip.Addr.Compare)
	starts = slices.Compact(starts)
	var out []model.Range
	for _, r := range ranges {
		i, _ := slices.BinarySearchFunc(starts, r.From.Next(), netip.Addr.Compare)
		for ; i < len(starts) && starts[i].Compare(r.To) <= 0; i++ {
			if starts[i].BitLen() != r.From.BitLen() {
				continue
			}
			out = append(out, model.Range{From: r.From, To: starts[i].Prev()})
			r.From = starts[i]
		}
		out = append(out, r)
	}
	return out
}

// size of a range, as a weight: exact enough to compare.
func size(r model.Range) float64 {
	from, to := r.From.As16(), r.To.As16()
	var n float64
	for i := range from {
		n = n*256 + float64(to[i]) - float64(from[i])
	}
	return n + 1
}

// outside picks the address that stands for everything outside the cluster: the policies of the pod at the other
// end tell some addresses apart, and what most of them are given is the answer. What others are given is a note.
func (s *Setting) outside(p *Path, f state.Family, source, dest *party, port Port) bool {
	nodes := s.nodes()
	pod, dir, own, peer := dest, model.Ingress, &p.To, &p.From
	if dest.kind == "external" {
		pod, dir, own, peer = source, model.Egress, &p.From, &p.To
	}
	if !first(pod.addrs, f, own) {
		return false
	}
	var blocks [][]model.Range
	if pod.subject() {
		for _, pol := range s.Cluster.Isolating(dir, pod.key) {
			for _, r := range pol.Rules[dir] {
				for _, set := range r.Peers {
					if set.Kind() == model.CIDRSet {
						blocks = append(blocks, set.Ranges(f))
					}
				}
			}
		}
	}
	var parts [2][]model.Range // denied, allowed
	var weight [2]float64
	for _, part := range cut(s.world(f), blocks) {
		r, ok := s.strangers(part, nodes)
		if !ok {
			continue
		}
		i := 1
		if pod.subject() && !s.Cluster.Judge(dir, pod.key, *own, r.From, port.Protocol, port.Number).Allowed {
			i = 0
		}
		parts[i] = appendRange(parts[i], r)
		weight[i] += size(r)
	}
	most, least := 0, 1
	if weight[1] >= weight[0] {
		most, least = 1, 0
	}
	if len(parts[most]) == 0 { // a pod network that leaves nothing outside
		return false
	}
	*peer = sample(parts[most], f, func(a netip.Addr) bool { return s.insider(a, nodes) })
	if len(parts[least]) > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("of the addresses outside, these are another matter (%s): %s",
			verdict(least == 1), blockWords(parts[least])))
	}
	return true
}

// sample is an address for documents where the ranges hold one that is not taken, else the first of the largest range, of the
// Internet if possible.
func sample(ranges []model.Range, f state.Family, taken func(netip.Addr) bool) netip.Addr {
	for _, text := range []string{"203.0.113.1", "198.51.100.1", "192.0.2.1", "2001:db8::1"} {
		a := netip.MustParseAddr(text)
		if state.FamilyOf(a) == f && !taken(a) && slices.ContainsFunc(ranges, func(r model.Range) bool {
			return r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0
		}) {
			return a
		}
	}
	var best []model.Range
	for _, r := range ranges {
		for _, in := range internet {
			both := model.Range{From: r.From, To: r.To}
			if in.From.Compare(both.From) > 0 {
				both.From = in.From
			}
			if in.To.Compare(both.To) < 0 {
				both.To = in.To
			}
			if in.From.BitLen() == r.From.BitLen() && both.From.Compare(both.To) <= 0 && !taken(both.From) {
				best = append(best, both)
			}
		}
	}
	if len(best) == 0 {
		best = ranges
	}
	return slices.MaxFunc(best, func(a, b model.Range) int { return cmp.Compare(size(a), size(b)) }).From
}

// appendRange joins a range with the last where they touch.
func appendRange(ranges []model.Range, r model.Range) []model.Range {
	if n := len(ranges); n > 0 && ranges[n-1].To.Next() == r.From {
		ranges[n-1].To = r.To
		return ranges
	}
	return append(ranges, r)
}
