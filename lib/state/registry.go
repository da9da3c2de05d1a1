package state

// File describes one file, or one directory of files of a kind.
type File struct {
	Name      string // below the run directory, or absolute; upper-case words are variables
	Version   int    // 0: not a versioned JSON file
	Producers []string
	Consumers []string
	Holds     string
	Schema    any // zero value of the schema, nil for files that are no versioned JSON
}

// Registry is every file that programs talk through. A program that reads or writes another one is
// wrong; tests compare the stage files with it.
var Registry = []File{
	{
		Name: "/etc/towpath/net-conf.json", Producers: []string{"administrator"}, Consumers: []string{"subnet-lease"},
		Holds: "flannel's net-conf.json, every key of it",
	},
	{
		Name: "/etc/towpath/cni-conf.json", Producers: []string{"administrator"}, Consumers: []string{"cni-bridge conf"},
		Holds: "a conflist; flannel's kube-flannel-cfg one works unchanged",
	},
	{
		Name: "lease.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: Lease{},
		Consumers: []string{"subnet-lease", "masq-sync", "route-sync", "cni-bridge conf", "policy-render"},
		Holds:     "node, network, own subnets, public addresses, interface, backend and its settings",
	},
	{
		Name: "peers/NODE.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: Peer{},
		Consumers: []string{"route-sync"},
		Holds:     "one other node: its subnets, public addresses and end of the tunnel",
	},
	{
		Name: "peers/.synced", Version: Version, Producers: []string{"subnet-lease"}, Schema: PeersSynced{},
		Consumers: []string{"route-sync"},
		Holds:     "a full listing stands behind peers/: without it nothing is removed from the kernel",
	},
	{
		Name: "vxlan.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{},
		Consumers: []string{"vxlan-setup"}, Holds: "input of vxlan-setup, there only while the back end is vxlan",
	},
	{
		Name: "host-gw.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{},
		Consumers: []string{"hostgw-setup"}, Holds: "input of hostgw-setup, there only while the back end is host-gw",
	},
	{
		Name: "link.json", Version: Version, Producers: []string{"vxlan-setup", "hostgw-setup"}, Schema: Link{},
		Consumers: []string{"subnet-lease", "route-sync", "cni-bridge conf"},
		Holds:     "the device between the nodes, the MTU of pods, and what to publish (VTEP MAC)",
	},
	{
		Name: "routes.json", Version: Version, Producers: []string{"route-sync"}, Schema: Routes{},
		Consumers: []string{"cni-bridge conf", "towpath status"},
		Holds:     "what is programmed, drift repaired, peers left out and why",
	},
	{
		Name: "masq.json", Version: Version, Producers: []string{"masq-sync"}, Schema: Masq{},
		Consumers: []string{"masq-sync"},
		Holds:     "mark of the nftables table as it was loaded; sysctls that were changed, with the values they had",
	},
	{
		Name: "subnet.env", Producers: []string{"cni-bridge conf"}, Consumers: []string{"cni-bridge", "other CNI plugins"},
		Holds: "flannel's file, byte for byte",
	},
	{
		Name: "/etc/cni/net.d/10-towpath.conflist", Producers: []string{"cni-bridge conf"},
		Consumers: []string{"container runtime"},
		Holds:     "the CNI configuration; written last: its appearance makes the node Ready",
	},
	{
		Name: "endpoints/CONTAINER-IFNAME.json", Version: Version, Producers: []string{"cni-bridge"}, Schema: Endpoint{},
		Consumers: []string{"policy-render", "policy-denied"}, Holds: "one interface of one pod: namespace, name, uid, addresses, host veth",
	},
	{
		Name: "/etc/towpath/objects", Producers: []string{"administrator"}, Consumers: []string{"policy-render"},
		Holds: "directory (or one file) of Namespaces, Pods and NetworkPolicies as YAML or JSON, for a node without an API server",
	},
	{
		Name: "policy/FAMILY/KIND/NAME.nft", Producers: []string{"policy-render"}, Consumers: []string{"policy-load", "policy-denied"},
		Holds: "one set, map or chain of the policy, one element or rule a line, sorted, in nft's block syntax",
	},
	{
		Name: "policy/pods/PREFIX", Producers: []string{"policy-render"}, Consumers: []string{"policy-denied"},
		Holds: "names of the pods whose addresses begin with the prefix (a /24, a /64), ADDRESS NAMESPACE/POD a line",
	},
	{
		Name: "policy.nft", Producers: []string{"policy-render"}, Consumers: []string{"policy-load"},
		Holds: "the policy's other files by digest, in an order that nft can load, and the endpoints they cover; written last",
	},
	{
		Name: "policy.loaded.json", Version: Version, Producers: []string{"policy-load"}, Schema: PolicyLoaded{},
		Consumers: []string{"cni-bridge", "cni-bridge conf", "policy-render"},
		Holds:     "generation of policy.nft that the kernel holds, and the endpoints it covers",
	},
	{
		Name: "supervisor/STAGE.json", Version: Version, Producers: []string{"towpath supervise"}, Schema: Stage{},
		Consumers: []string{"towpath status"}, Holds: "state, process, runs, last exit, next retry, what the stage waits for",
	},
	{
		Name: "supervisor/STAGE.sock", Producers: []string{"towpath supervise"}, Consumers: []string{"every program"},
		Holds: "socket for sd_notify messages: readiness and a line of status; there while the stage's process runs",
	},
	{
		Name: "lock/PROGRAM", Producers: []string{"every program"}, Consumers: []string{"every program"},
		Holds: "flock; the holder's process id and verb",
	},
}
