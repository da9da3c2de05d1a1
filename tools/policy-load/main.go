// Command policy-load gives the kernel the ruleset that policy-render wrote. It reads policy.nft and those files
// below policy/ that it does not hold yet, and writes the nftables tables inet towpath-policy and
// bridge towpath-policy: only what changed, in one transaction, by netlink where that is possible and with the
// nft program where it is not. Then it writes policy.loaded.json, which says what the kernel holds. While it
// watches it puts back what others change in its tables. It exists apart from policy-render so that rules can be
// rendered, read and compared without a kernel, and loaded without an API server.
package main

import "github.com/towpath/towpath/lib/tool"

func main() {
	tool.Main(tool.Program{
		Name:    "policy-load",
		Summary: "give the kernel the network policy in policy.nft",
		Open:    open,
	})
}
