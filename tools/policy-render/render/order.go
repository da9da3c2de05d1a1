package render

import (
	"cmp"
	"slices"
	"strings"

	"github.com/towpath/towpath/lib/ruleset"
)

// ranks are by the beginning of a name: nft takes nothing that names what has not been there.
var ranks = []struct {
	prefix string
	rank   int
}{
	{"inet/chains/pi-", 1},
	{"inet/chains/gi-", 2},
	{"inet/maps/ingress", 3},
	{"inet/chains/ingress.", 4},
	{"inet/chains/pe-", 5},
	{"inet/chains/ge-", 6},
	{"inet/maps/egress", 7},
	{"inet/chains/egress.", 8},
	{"inet/chains/untracked.", 9},
	{"inet/chains/invalid.", 9},
	{"inet/chains/tunnel.", 2},
	{"inet/chains/forward.", 10},
	{"inet/chains/input.", 10},
	{"bridge/chains/advert.", 2},
	{"bridge/chains/port.", 2},
	{"bridge/chains/prerouting.", 3},
	{"bridge/maps/guarded.", 2},
	{"bridge/chains/multicast.", 3},
	{"bridge/chains/forward.", 4},
	{"inet/chains/", 1},
	{"bridge/chains/", 1},
}

// rankOf is after which others nft takes a file; those of one family are together, since they share a block.
func rankOf(path string) int {
	family := 0
	if strings.HasPrefix(path, "bridge/") {
		family = 100
	}
	for _, r := range ranks {
		if strings.HasPrefix(path, r.prefix) {
			return family + r.rank
		}
	}
	return family
}

func (r *Renderer) find(path string) (rank, i int, found bool) {
	rank = rankOf(path)
	i, found = slices.BinarySearchFunc(r.entries, path, func(e entry, path string) int {
		return cmp.Or(cmp.Compare(e.rank, rank), strings.Compare(e.Path, path))
	})
	return rank, i, found
}

func (r *Renderer) has(id ruleset.ID) bool {
	_, _, found := r.find(id.Path())
	return found
}

// put prints an object.
func (r *Renderer) put(o *ruleset.Object) {
	path, text := o.Path(), o.Text()
	digest := ruleset.Digest(text)
	rank, i, found := r.find(path)
	switch {
	case found && r.entries[i].Digest == digest:
		return
	case found:
		r.entries[i].Digest = digest
	default:
		r.entries = slices.Insert(r.entries, i, entry{rank, ruleset.Entry{Path: path, Digest: digest}})
	}
	r.changes.Objects[o.ID], r.changes.Texts[path] = o, text
}

func (r *Renderer) remove(id ruleset.ID) {
	path := id.Path()
	if _, i, found := r.find(path); found {
		r.entries = slices.Delete(r.entries, i, i+1)
		r.changes.Objects[id] = nil
		delete(r.changes.Texts, path)
	}
}
