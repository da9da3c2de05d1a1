package explain

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// classify sorts pods, and the addresses of world that no pod has, into classes. Every pod has to be in each of
// the clusters.
func classify(reaches []*reach, pods []model.Key, world map[state.Family][]model.Range) []*class {
	var out []*class
	known := map[string]*class{}
	add := func(views []view) *class {
		var key []byte
		for _, v := range views {
			key = binary.AppendUvarint(binary.AppendUvarint(key, uint64(v.subject)), uint64(v.peer))
			for _, has := range v.has {
				key = append(key, map[bool]byte{true: 1}[has])
			}
		}
		c := known[string(key)]
		if c == nil {
			c = &class{views: views}
			known[string(key)] = c
			out = append(out, c)
		}
		return c
	}
	for _, k := range pods {
		views := make([]view, len(reaches))
		for i, r := range reaches {
			views[i] = r.pod(k)
		}
		c := add(views)
		c.pods = append(c.pods, k)
	}
	clear(known) // an address is not taken for a pod, even where it is judged as one
	for _, f := range state.Families {
		var blocks [][]model.Range
		for _, r := range reaches {
			for _, s := range r.sets {
				if s.Kind() == model.CIDRSet {
					blocks = append(blocks, s.Ranges(f))
				}
			}
		}
		for _, part := range cut(world[f], blocks) {
			views := make([]view, len(reaches))
			for i, r := range reaches {
				views[i] = r.outside(part.From)
			}
			c := add(views)
			c.ranges = appendRange(c.ranges, part)
		}
	}
	return out
}

// subjects are the pods that policies apply to, sorted.
func (s *Setting) subjects() []model.Key {
	var out []model.Key
	for _, p := range s.Cluster.Pods() {
		if !p.HostNetwork && !p.Finished && len(s.Cluster.Addrs(p.Key)) > 0 {
			out = append(out, p.Key)
		}
	}
	return out
}

// everywhere is all addresses there are.
var everywhere = map[state.Family][]model.Range{
	state.IPv4: parseRanges("0.0.0.0-255.255.255.255"),
	state.IPv6: parseRanges("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
}

// names are the pods and blocks of classes, sorted: pods first.
func names(classes []*class) (pods []model.Key, blocks []string) {
	var ranges []model.Range
	for _, c := range classes {
		pods = append(pods, c.pods...)
		ranges = append(ranges, c.ranges...)
	}
	slices.SortFunc(pods, compareKeys)
	slices.SortFunc(ranges, func(a, b model.Range) int { return a.From.Compare(b.From) })
	joined := []model.Range{}
	for _, r := range ranges {
		joined = appendRange(joined, r)
	}
	v6 := len(joined)
	if i := slices.IndexFunc(joined, func(r model.Range) bool { return r.From.Is6() }); i >= 0 {
		v6 = i
	}
	for _, list := range [][]model.Range{joined[:v6], joined[v6:]} {
		if len(list) > 0 {
			blocks = append(blocks, blockWords(list))
		}
	}
	return pods, blocks
}

func compareKeys(a, b model.Key) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
