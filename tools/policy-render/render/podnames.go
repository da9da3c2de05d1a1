package render

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// rename prints the files of names that these addresses are in.
func (r *Renderer) rename(c *model.Cluster, addrs []netip.Addr) {
	touched := map[netip.Prefix]bool{}
	for _, a := range addrs {
		p := state.PolicyPodsPrefix(a)
		touched[p] = true
		if c.PodByAddr(a) == nil {
			delete(r.names[p], a)
			continue
		}
		if r.names[p] == nil {
			r.names[p] = map[netip.Addr]struct{}{}
		}
		r.names[p][a] = struct{}{}
	}
	for p := range touched {
		var text bytes.Buffer
		for _, a := range slices.SortedFunc(maps.Keys(r.names[p]), netip.Addr.Compare) {
			if pod := c.PodByAddr(a); pod != nil {
				text.WriteString(a.String() + " " + keyText(pod.Key) + "\n")
			}
		}
		if len(r.names[p]) == 0 {
			delete(r.names, p)
		}
		r.changes.Names[state.PolicyPodsName(p)] = text.Bytes()
	}
}
