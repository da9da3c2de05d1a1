package state

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Version is the version of every schema of this package that this program writes, and the newest
// that it reads.
const Version = 1

// Lease is lease.json: the subnets of this node, and how it is reached.
type Lease struct {
	Version  int                `json:"version"`
	Node     string             `json:"node"`
	Network  Pair[netip.Prefix] `json:"network"` // of the whole cluster
	Subnet   Pair[netip.Prefix] `json:"subnet"`  // this node's, masked: 10.244.1.0/24
	PublicIP Pair[netip.Addr]   `json:"publicIP"`
	// Interface is the one whose address PublicIP is, unless the administrator set another.
	Interface Interface `json:"interface"`
	// Backend is the backend chosen, with every setting filled in.
	Backend Backend `json:"backend"`
	// IPMasq: traffic from pods to outside the network is masqueraded (by masq-sync).
	IPMasq bool `json:"ipMasq"`
}

// Interface is the uplink that carries traffic between nodes.
type Interface struct {
	Name string           `json:"name"`
	MTU  int              `json:"mtu"` // bytes
	IP   Pair[netip.Addr] `json:"ip"`  // its own addresses, the outer source of tunnelled packets
}

// Backend is the Backend object of net-conf.json with defaults filled in. Only the keys of its Type
// have a meaning.
type Backend struct {
	Type string `json:"type"` // vxlan, host-gw, udp, wireguard, ipip, alloc, extension; lower case
	// vxlan
	VNI           int  `json:"vni,omitempty"`
	Port          int  `json:"port,omitempty"` // UDP; also of udp
	MTU           int  `json:"mtu,omitempty"`  // of the outer interface, bytes; 0: the interface's
	GBP           bool `json:"gbp,omitempty"`
	Learning      bool `json:"learning,omitempty"`
	DirectRouting bool `json:"directRouting,omitempty"` // also of ipip
	// Raw is the Backend object with every default filled in and flannel's spelling of the keys, for the
	// keys of other types. It may hold secrets, so lease.json leaves it out.
	Raw json.RawMessage `json:"raw,omitempty"`
}

// Peer is peers/NODE.json: another node, as its own subnet-lease published it.
type Peer struct {
	Version  int                `json:"version"`
	Node     string             `json:"node"`
	Subnet   Pair[netip.Prefix] `json:"subnet"`
	PublicIP Pair[netip.Addr]   `json:"publicIP"`
	Backend  Published          `json:"backend"`
}

// Published is what a node tells the others about its end of the tunnel, in flannel's form.
type Published struct {
	Type string `json:"type"` // backend type
	// Data and DataV6 are flannel's backend-data for each family, such as
	// {"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}; null for host-gw.
	Data   json.RawMessage `json:"data,omitempty"`
	DataV6 json.RawMessage `json:"dataV6,omitempty"`
}

// VXLANData is flannel's backend-data of a vxlan node.
type VXLANData struct {
	VNI     int    `json:"VNI"`
	VtepMAC string `json:"VtepMAC"` // aa:bb:cc:dd:ee:ff
	// Port is where the node receives, UDP; missing for 8472. flannel never tells its port.
	Port int `json:"Port,omitempty"`
}

// WireGuardData is flannel's backend-data of a wireguard node.
type WireGuardData struct {
	PublicKey string `json:"PublicKey"` // base64
	Port      int    `json:"Port"`      // UDP; 0: the reader's own
}

// PeersSynced is peers/.synced: a full listing of the store stands behind the directory.
type PeersSynced struct {
	Version int    `json:"version"`
	Store   string `json:"store"` // URL, without credentials
}

// BackendInput is <backend>.json, the input of that backend's setup tool. It is there only while that
// backend is chosen.
type BackendInput struct {
	Version   int                `json:"version"`
	Node      string             `json:"node"`
	Backend   Backend            `json:"backend"`
	Subnet    Pair[netip.Prefix] `json:"subnet"`
	PublicIP  Pair[netip.Addr]   `json:"publicIP"`
	Interface Interface          `json:"interface"`
	// Previous is what this node published before, so that a MAC address survives a reboot.
	Previous Published `json:"previous,omitzero"`
}

// Link is link.json: the device between the nodes, as the backend's setup tool left it.
type Link struct {
	Version int `json:"version"`
	// Device is the device that routes to peers use, per family: flannel.1, or the uplink for host-gw.
	Device Pair[Device] `json:"device"`
	// Uplink is the interface below the tunnel, used for direct routes; for host-gw it is Device.
	Uplink string `json:"uplink"`
	// MTU is what pods' interfaces must have, bytes: the smallest of the families in use.
	MTU int `json:"mtu"`
	// DirectRouting: peers on the uplink's own link are routed without the tunnel.
	DirectRouting bool `json:"directRouting,omitempty"`
	// Publish is what subnet-lease tells the other nodes.
	Publish Published `json:"publish"`
}

// Device is a network device of link.json.
type Device struct {
	Name string `json:"name"`
	MTU  int    `json:"mtu"` // bytes
	// VNI and VtepMAC are set for vxlan.
	VNI     int    `json:"vni,omitempty"`
	VtepMAC string `json:"vtepMAC,omitempty"`
}

// Checksum is checksum.json: what vxlan-setup found out about its devices' checksum offload, so that it need not find it
// out anew when it starts.
type Checksum struct {
	Version int                 `json:"version"`
	Device  Pair[ChecksumFound] `json:"device"`
}

// ChecksumFound is what was found out about one device.
type ChecksumFound struct {
	// Off: vxlan-setup turned the offload off, and may turn it on again.
	Off     bool   `json:"off"`
	Verdict string `json:"verdict"` // fine, fault, or asked: nothing was found out, --checksum-offload was off
	// Seen is what the verdict stands on.
	Seen string `json:"seen,omitempty"`
	// Uplink, Driver and MTU are of the interface below. Under others the verdict does not count.
	Uplink string `json:"uplink,omitempty"`
	Driver string `json:"driver,omitempty"`
	MTU    int    `json:"mtu,omitempty"` // bytes
}

// ExtensionStartup is extension/.startup.json: the start-up commands that were run on this node, in this boot.
type ExtensionStartup struct {
	Version int `json:"version"`
	// PreStartup and PostStartup are the commands that were run, Shutdown the one that undoes them.
	PreStartup  string `json:"preStartup,omitempty"`
	PostStartup string `json:"postStartup,omitempty"`
	Shutdown    string `json:"shutdown,omitempty"`
	// Env is what PostStartup was told in its environment, NAME=VALUE each.
	Env []string `json:"env,omitempty"`
	// Data is what PreStartup printed, which is published.
	Data string `json:"data,omitempty"`
	// Done: all of them have run well.
	Done bool `json:"done"`
	// What was run counts in this boot and network namespace only.
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	Netns uint64 `json:"netns"` // inode of the network namespace
}

// ExtensionPeer is extension/NODE.json: SubnetAddCommand was run for a peer.
type ExtensionPeer struct {
	Version int `json:"version"`
	// Add is the command that was run, Remove the one that undoes it.
	Add    string `json:"add,omitempty"`
	Remove string `json:"remove,omitempty"`
	// Env is what both are told in their environment, NAME=VALUE each.
	Env []string `json:"env"`
	// Data is what they are given to read: what the peer's PreStartupCommand printed.
	Data string `json:"data,omitempty"`
	// Done: Add has ended well. Otherwise it was killed or has failed, and may have done some of its work.
	Done bool `json:"done"`
}

// Routes is routes.json: what route-sync has programmed.
type Routes struct {
	Version int `json:"version"`
	// Peers counts the peers whose every entry is in the kernel.
	Peers int `json:"peers"`
	// LeftOut are the peers that are not programmed, by node, with the reason.
	LeftOut map[string]string `json:"leftOut,omitempty"`
	// Repaired counts the entries that others took away and that were put back since the program started;
	// what goes within 5 s of a change of lease.json or link.json is not counted.
	Repaired int `json:"repaired"`
	// LastRepair is the text of the last operation that put something back.
	LastRepair string `json:"lastRepair,omitempty"`
	// Retiring are devices that this node no longer uses and no peer is programmed over, by name. One is deleted when nothing came
	// in over it for half a minute.
	Retiring map[string]Retiring `json:"retiring,omitempty"`
	// Foreign are routes over our device that somebody else made, as ip route prints them; they are left
	// alone (at most 20 are listed).
	Foreign []string `json:"foreign,omitempty"`
}

// Retiring is a device that is about to be deleted.
type Retiring struct {
	Index    int       `json:"index"`
	Since    time.Time `json:"since"`    // when it was first seen to have received so many packets and no more
	Received uint64    `json:"received"` // packets
}

// Endpoint is endpoints/<container>-<if>.json: one interface of one pod of this node.
type Endpoint struct {
	Version     int              `json:"version"`
	Network     string           `json:"network,omitempty"` // name of the CNI network: cbr0
	ContainerID string           `json:"containerID"`
	Interface   string           `json:"interface"` // inside the pod: eth0
	Namespace   string           `json:"namespace,omitempty"`
	Pod         string           `json:"pod,omitempty"`
	UID         string           `json:"uid,omitempty"`
	IP          Pair[netip.Addr] `json:"ip"`
	MAC         string           `json:"mac,omitempty"` // of the pod's end, aa:bb:cc:dd:ee:ff
	Bridge      string           `json:"bridge,omitempty"`
	HostVeth    string           `json:"hostVeth,omitempty"`
	Netns       string           `json:"netns,omitempty"`
}

// PolicyLoaded is policy.loaded.json: what policy-load last gave to the kernel and the kernel took.
type PolicyLoaded struct {
	Version int `json:"version"`
	// Generation is the one of policy.nft (ruleset.Manifest).
	Generation string `json:"generation"`
	// Kernel is the generation id of the kernel's nftables right after the load. While it is the same, nobody
	// has changed any rule of this node; Boot and Netns say in which boot and namespace it counts.
	Kernel uint32 `json:"kernel"`
	Boot   string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	Netns  uint64 `json:"netns"` // inode of the network namespace
	// Endpoints are the names (CONTAINER-IFNAME) of the files in endpoints/ whose pods the rules cover.
	Endpoints []string `json:"endpoints"`
	// Refused is why the kernel does not hold a newer policy.nft; empty when it does.
	Refused string `json:"refused,omitempty"`
}

// Masq is masq.json: what masq-sync has to remember between two runs, to see that its table is still
// the one it loaded and to put sysctls back.
type Masq struct {
	Version int       `json:"version"`
	Table   MasqTable `json:"table,omitzero"`
	// Sysctls are the kernel parameters that were changed, in the order of the changes.
	Sysctls []MasqSysctl `json:"sysctls,omitempty"`
}

// MasqTable marks a loaded nftables table.
type MasqTable struct {
	Text    string `json:"text"`    // SHA-256 of the text that was loaded, hexadecimal
	Listing string `json:"listing"` // SHA-256 of nft's listing of the table right after that
}

// MasqSysctl is a changed kernel parameter.
type MasqSysctl struct {
	Name string `json:"name"` // path below /proc/sys
	Was  string `json:"was"`
	Set  string `json:"set"`
	// Also are parameters that the kernel changes along with this one and would not bring back, with
	// the values they had.
	Also map[string]string `json:"also,omitempty"`
}

// Failing is how a program's line of status begins while it cannot do what its inputs ask, although it
// runs; `towpath status` counts such a stage as not at work.
const Failing = "failing: "

// Stage is supervisor/<stage>.json: what the supervisor knows of one stage.
type Stage struct {
	Version int    `json:"version"`
	Stage   string `json:"stage"`
	Summary string `json:"summary,omitempty"`
	State   string `json:"state"` // waiting, starting, running, ready, done, backoff, held, stopping, stopped, masked
	// Status is the last line that the process said of itself (sd_notify STATUS=).
	Status string `json:"status,omitempty"`
	// Idle: what it waits for is not written by anything as things stand, so it has nothing to do on
	// this node (hostgw-setup where the back end is vxlan).
	Idle bool `json:"idle,omitempty"`
	PID  int  `json:"pid,omitempty"`
	// Started is the start of process PID, in the kernel's ticks since boot (field 22 of
	// /proc/PID/stat): together they mean one process for good.
	Started uint64 `json:"started,omitempty"`
	Runs    int    `json:"runs"`
	// Definition and Inputs are digests of the stage file and of the inputs' bytes that the last run
	// was started with, for a supervisor that takes over.
	Definition string `json:"definition,omitempty"`
	Inputs     string `json:"inputs,omitempty"`
	// LastExit is how the last run ended, such as "0", "75 (try again later)" or "signal: killed".
	LastExit   string   `json:"lastExit,omitempty"`
	LastReason string   `json:"lastReason,omitempty"` // why it was run last: "link.json changed"
	NextRetry  string   `json:"nextRetry,omitempty"`  // RFC 3339
	WaitsFor   []string `json:"waitsFor,omitempty"`   // files that do not exist, or the stage it conflicts with
	LeftOut    []string `json:"leftOut,omitempty"`    // gates that are not waited for: nothing writes them as things stand
	Since      string   `json:"since,omitempty"`      // RFC 3339, of State
}
