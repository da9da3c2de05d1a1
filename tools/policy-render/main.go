// Command policy-render turns NetworkPolicies into nftables rules for one node. It reads the objects (Namespaces,
// Pods, NetworkPolicies), lease.json and endpoints/; it writes policy/, one small file for each set, map and
// chain, and at last policy.nft, which names one state of them all. It gives nothing to the kernel: policy-load
// does, so that what is about to be loaded can be read, compared and checked first. In the other direction it reads
// policy.loaded.json, to forbid established connections once the rules that no longer allow them are in force.
package main

import (
	"slices"

	"github.com/towpath/towpath/lib/tool"
)

func main() {
	tool.Main(tool.Program{
		Name:    "policy-render",
		Summary: "render NetworkPolicy as nftables rules for one node",
		Open:    open,
		Flags:   slices.Concat(objectFlags, renderFlags),
		Verbs:   verbs,
	})
}

// verbs are those beside plan, apply, watch and down.
var verbs = []tool.Verb{explainVerb, diffVerb, matrixVerb, cutVerb}
