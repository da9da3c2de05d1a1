package state

import (
	"io/fs"
	"path"
	"strings"
)

// File describes one file, or one directory of files of a kind.
type File struct {
	Name      string // below the run directory, or absolute; upper-case words are variables
	Version   int    // 0: not a versioned JSON file
	Producers []string
	Consumers []string
	Holds     string
	Schema    any         // zero value of the schema, nil for files that are no versioned JSON
	Mode      fs.FileMode // 0: 0644; a file that may hold a secret is 0600
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
		Name: "cni-conf.json", Producers: []string{"subnet-lease"}, Consumers: []string{"cni-bridge conf"},
		Holds: "the conflist of the ConfigMap that --net-conf names, for TOWPATH_CNI_CONF",
	},
	{
		Name: "lease.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: Lease{},
		Consumers: []string{"subnet-lease", "extension-setup", "masq-sync", "route-sync", "cni-bridge conf", "policy-render"},
		Holds:     "node, network, own subnets, public addresses, interface, backend and its settings",
	},
	{
		Name: "peers/NODE.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: Peer{},
		Consumers: []string{"route-sync", "extension-setup", "udp-tunnel", "vxlan-setup", "wireguard-setup"},
		Holds:     "one other node: its subnets, public addresses and end of the tunnel",
	},
	{
		Name: "peers/.synced", Version: Version, Producers: []string{"subnet-lease"}, Schema: PeersSynced{},
		Consumers: []string{"route-sync", "extension-setup", "udp-tunnel", "wireguard-setup"},
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
		Name: "ipip.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{},
		Consumers: []string{"ipip-setup"}, Holds: "input of ipip-setup, there only while the back end is ipip",
	},
	{
		Name: "alloc.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{},
		Consumers: []string{"alloc-setup"}, Holds: "input of alloc-setup, there only while the back end is alloc",
	},
	{
		Name: "udp.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{},
		Consumers: []string{"udp-tunnel"}, Holds: "input of udp-tunnel, there only while the back end is udp",
	},
	{
		Name: "wireguard.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{}, Mode: private,
		Consumers: []string{"wireguard-setup"}, Holds: "input of wireguard-setup, the PSK with it, there only while the back end is wireguard",
	},
	{
		Name: "/var/lib/towpath/wireguard.key", Producers: []string{"wireguard-setup"}, Consumers: []string{"wireguard-setup"}, Mode: private,
		Holds: "private key of this node's WireGuard, as `wg genkey` prints it; made once, and kept",
	},
	{
		Name: "extension.json", Version: Version, Producers: []string{"subnet-lease"}, Schema: BackendInput{}, Mode: private,
		Consumers: []string{"extension-setup"}, Holds: "input of extension-setup, there only while the back end is extension",
	},
	{
		Name: "extension/.startup.json", Version: Version, Producers: []string{"extension-setup"}, Schema: ExtensionStartup{}, Mode: private,
		Consumers: []string{"extension-setup"}, Holds: "the start-up commands that were run, so that they run once in a boot",
	},
	{
		Name: "extension/NODE.json", Version: Version, Producers: []string{"extension-setup"}, Schema: ExtensionPeer{}, Mode: private,
		Consumers: []string{"extension-setup"}, Holds: "SubnetAddCommand was run for a peer: what takes it back",
	},
	{
		Name: "link.json", Version: Version, Producers: []string{"vxlan-setup", "hostgw-setup", "ipip-setup", "alloc-setup", "extension-setup", "udp-tunnel", "wireguard-setup"}, Schema: Link{},
		Consumers: []string{"subnet-lease", "route-sync", "cni-bridge conf"},
		Holds:     "the device between the nodes, the MTU of pods, and what to publish (VTEP MAC, public key)",
	},
	{
		Name: "checksum.json", Version: Version, Producers: []string{"vxlan-setup"}, Schema: Checksum{},
		Consumers: []string{"vxlan-setup"},
		Holds:     "whether packets whose checksum the network card is to fill in arrive at the other nodes, and what was done about it",
	},
	{
		Name: "routes.json", Version: Version, Producers: []string{"route-sync"}, Schema: Routes{},
		Consumers: []string{"cni-bridge conf", "subnet-lease", "towpath status"},
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
		Holds: "socket for sd_notify messages: readiness, a line of status, descriptors to keep; there while the stage's process runs",
	},
	{
		Name: "lock/PROGRAM", Producers: []string{"every program"}, Consumers: []string{"every program"},
		Holds: "flock; the holder's process id and verb",
	},
}

const (
	public  fs.FileMode = 0o644
	private fs.FileMode = 0o600
)

// ModeOf is the mode of the registered file at path, 0644 of any other. Where several names fit, the one of
// most elements is meant: peers/wireguard.json is a peer's.
func ModeOf(file string) fs.FileMode {
	mode, most := public, 0
	for _, f := range Registry {
		pattern := patternOf(f.Name)
		n := strings.Count(pattern, "/") + 1
		if elements := strings.Split(file, "/"); n > most && n <= len(elements) {
			if ok, err := path.Match(pattern, strings.Join(elements[len(elements)-n:], "/")); ok && err == nil {
				most = n
				mode = public
				if f.Mode != 0 {
					mode = f.Mode
				}
			}
		}
	}
	return mode
}

// patternOf makes each variable of a registered name a star.
func patternOf(name string) string {
	var out strings.Builder
	for i := 0; i < len(name); {
		end := i
		for end < len(name) && 'A' <= name[end] && name[end] <= 'Z' {
			end++
		}
		if end > i+1 {
			out.WriteByte('*')
			i = end
			continue
		}
		out.WriteByte(name[i])
		i++
	}
	return out.String()
}
