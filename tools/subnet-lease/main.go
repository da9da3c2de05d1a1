// Subnet-lease gets this node a subnet of the cluster's network and tells it of the others. It reads
// net-conf.json, the store where all nodes' leases are and, once it is there, link.json, whose
// publish part it puts into the store; it writes lease.json, the input of the backend's setup tool
// (vxlan.json, host-gw.json) and peers/. It exists so that every other program finds out about the
// cluster from files, whatever the store is.
package main

import (
	"slices"
	"time"

	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/tool"
)

func main() { tool.Main(program()) }

var (
	storeFlag   = tool.Flag{Name: "store", Usage: "where the leases of all nodes are: kube, etcd://HOST:PORT, etcds://HOST:PORT, or file:DIR", Default: "file:/var/lib/towpath/store"}
	nodeFlag    = tool.Flag{Name: "node", Usage: "name of this node; default: with --store kube NODE_NAME, or the node of the pod POD_NAME in POD_NAMESPACE; else the host name", Default: ""}
	netConfFlag = tool.Flag{Name: "net-conf", Usage: "the network's configuration: a file, configmap:NAMESPACE/NAME, or etcd, the default with that store", Default: netconf.DefaultPath}
	prefixFlag  = tool.Flag{Name: "annotation-prefix", Usage: "what the annotations of --store kube begin with", Default: "flannel.alpha.coreos.com"}
	serverFlags = slices.Concat([]tool.Flag{prefixFlag}, kube.Flags, etcdFlags)
	ifaceFlags  = []tool.Flag{
		{Name: "iface", Usage: "name or address of the interface between the nodes; the first that is there counts", Default: []string(nil)},
		{Name: "iface-regex", Usage: "regular expression for the interface's name or address", Default: []string(nil)},
		{Name: "iface-can-reach", Usage: "address that the interface has to lead to", Default: ""},
		{Name: "public-ip", Usage: "IPv4 address to publish; default: the interface's", Default: ""},
		{Name: "public-ipv6", Usage: "IPv6 address to publish; default: the interface's", Default: ""},
	}
	leaseFlags = []tool.Flag{
		{Name: "lease-ttl", Usage: "how long the lease lasts without renewal", Default: 24 * time.Hour},
		{Name: "renew-margin", Usage: "how long before its expiry the lease is renewed", Default: time.Hour},
		{Name: "ip-masq", Usage: "masquerade what pods send out of the network", Default: true},
		{Name: "set-node-network-unavailable", Usage: "keep the Node's condition NetworkUnavailable, with --store kube", Default: true},
	}
)

func program() tool.Program {
	flags := slices.Concat([]tool.Flag{storeFlag, nodeFlag, netConfFlag}, serverFlags, ifaceFlags, leaseFlags)
	own := func(flags ...tool.Flag) []tool.Flag { return append(flags, serverFlags...) }
	return tool.Program{
		Name:    "subnet-lease",
		Summary: "get this node a subnet, and tell it of the other nodes",
		Flags:   flags,
		Open:    open,
		Verbs: []tool.Verb{
			{
				Name: "list", Usage: "print all leases of the store", OwnOnly: true, Run: list,
				Flags: own(storeFlag, tool.Flag{Name: "output", Usage: "text or json", Default: "text"}),
			},
			{
				Name: "release", Usage: "give a node's lease back to the store", OwnOnly: true, Run: release,
				Flags: own(storeFlag, nodeFlag, tool.Flag{Name: "reservation", Usage: "give a reservation back too", Default: false}),
			},
			{
				Name: "reserve", Usage: "give a node a certain subnet, for good", OwnOnly: true, Run: reserve,
				Flags: own(storeFlag, nodeFlag, netConfFlag, tool.Flag{Name: "subnet", Usage: "the subnet, one for each family", Default: []string(nil)}),
			},
			{
				Name: "explain", Usage: "print which interface is chosen, and why", OwnOnly: true, Run: explain,
				Flags: append(own(storeFlag, nodeFlag, netConfFlag), ifaceFlags...),
			},
		},
	}
}
