package explain

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tools/policy-render/model"
)

// Place gives an address to pods that have none yet (manifests that were never applied), so that questions about
// them have an answer: one of a range that nothing uses, which selectors find and blocks of addresses do not,
// unless they hold every address. It returns which those were. The known have an address from elsewhere.
func Place(pods []*model.Pod, known []model.Key) map[model.Key]bool {
	families := map[state.Family]bool{}
	for _, p := range pods {
		for _, a := range p.IPs {
			families[state.FamilyOf(a)] = true
		}
	}
	if len(families) == 0 {
		families[state.IPv4] = true
	}
	placed := map[model.Key]bool{}
	for _, p := range pods {
		if len(p.IPs) > 0 || p.HostNetwork || p.Finished || slices.Contains(known, p.Key) {
			continue
		}
		placed[p.Key] = true
		n := uint32(len(placed))
		if families[state.IPv4] {
			p.IPs = append(p.IPs, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 240<<24|n))))
		}
		if families[state.IPv6] {
			a := [16]byte{0: 1} // 100::/64, which is for what is to be discarded
			binary.BigEndian.PutUint32(a[12:], n)
			p.IPs = append(p.IPs, netip.AddrFrom16(a))
		}
	}
	return placed
}
