// Command masq-sync keeps the rules that pods' traffic needs on its way out of and through a node. It
// reads lease.json; it owns the nftables table inet towpath-masq (masquerading with the meaning of
// flannel's iptables rules), the chain TOWPATH-FWD in the filter tables of iptables where such tables
// exist (so that a FORWARD policy of drop does not cut pods off), and switches forwarding on. It writes
// masq.json, its memory of what it loaded and which sysctls it changed. It exists apart from the
// programs that route, since a node whose pods are reached without any NAT needs only those.
package main

import (
	"github.com/towpath/towpath/lib/sysctl"
	"github.com/towpath/towpath/lib/tool"
)

func main() {
	tool.Main(tool.Program{
		Name:    "masq-sync",
		Summary: "masquerade pods' traffic, and keep it forwarded",
		Open:    open,
		Flags: []tool.Flag{
			{Name: "random-fully", Usage: "masquerade to random ports, so that two connections at once seldom take the same", Default: true},
			{Name: "forward-rules", Usage: "accept pods' traffic in the FORWARD chains", Default: true},
			{Name: "bridge-nf", Usage: "let bridged packets meet the IP rules: on, off, or auto: where br_netfilter is loaded", Default: "auto"},
			{Name: "take-over", Usage: "remove the rules that flannel or Calico left, once ours stand", Default: false},
			{Name: "hand-back", Usage: "with down: keep the sysctls, and remove ours only where flannel's rules stand", Default: false},
			{Name: "sysctl-root", Usage: sysctl.FlagUsage, Default: sysctl.Default},
		},
	})
}
