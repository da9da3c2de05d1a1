// Package state owns every file that towpath's programs talk through: its name, schema, version,
// producer and consumers. No other code joins paths under the run directory. docs/FILES.md is
// generated from Registry.
package state

import (
	"net/netip"
	"path/filepath"
	"strings"
)

// DefaultRunDir is where the files are on a node.
const DefaultRunDir = "/run/towpath"

// Dir is a run directory.
type Dir string

func (d Dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Lease is the path of lease.json.
func (d Dir) Lease() string { return d.path("lease.json") }

// Peers is the directory of the peers' files.
func (d Dir) Peers() string { return d.path("peers") }

// Peer is the path of one peer's file.
func (d Dir) Peer(node string) string { return d.path("peers", node+".json") }

// PeersSynced is the path of the mark that the peers' directory is whole.
func (d Dir) PeersSynced() string { return d.path("peers", ".synced") }

// Backend is the path of the input of a backend's setup tool: vxlan.json for "vxlan".
func (d Dir) Backend(backend string) string { return d.path(backend + ".json") }

// Link is the path of link.json.
func (d Dir) Link() string { return d.path("link.json") }

// Checksum is the path of checksum.json.
func (d Dir) Checksum() string { return d.path("checksum.json") }

// Extension is the directory of what extension-setup has run.
func (d Dir) Extension() string { return d.path("extension") }

// ExtensionStartup is the path of the record of the start-up commands.
func (d Dir) ExtensionStartup() string { return d.path("extension", ".startup.json") }

// ExtensionPeer is the path of the record of one peer's commands.
func (d Dir) ExtensionPeer(node string) string { return d.path("extension", node+".json") }

// Routes is the path of routes.json.
func (d Dir) Routes() string { return d.path("routes.json") }

// CNIConf is the path of the ConfigMap's cni-conf.json.
func (d Dir) CNIConf() string { return d.path("cni-conf.json") }

// SubnetEnv is the path of subnet.env.
func (d Dir) SubnetEnv() string { return d.path("subnet.env") }

// Endpoints is the directory of the endpoint files.
func (d Dir) Endpoints() string { return d.path("endpoints") }

// Endpoint is the path of one endpoint's file.
func (d Dir) Endpoint(containerID, ifname string) string {
	return d.path("endpoints", containerID+"-"+ifname+".json")
}

// Policy is the directory of the policy's files.
func (d Dir) Policy() string { return d.path("policy") }

// PolicyPods is the directory of the pods' names by address.
func (d Dir) PolicyPods() string { return d.path("policy", "pods") }

// PolicyPodsPrefix is the prefix of addresses that share a file in policy/pods with this one: a /24 or a /64.
func PolicyPodsPrefix(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of an address that is none, the prefix that is none
	return p
}

// PolicyPodsName is the name of a prefix's file in policy/pods: 10.244.1.0-24, fd00-1---64.
func PolicyPodsName(p netip.Prefix) string {
	return strings.NewReplacer(":", "-", "/", "-").Replace(p.String())
}

// PolicyNFT is the path of policy.nft.
func (d Dir) PolicyNFT() string { return d.path("policy.nft") }

// PolicyLoaded is the path of policy.loaded.json.
func (d Dir) PolicyLoaded() string { return d.path("policy.loaded.json") }

// Supervisor is the directory of the supervisor's files.
func (d Dir) Supervisor() string { return d.path("supervisor") }

// Stage is the path of one stage's file.
func (d Dir) Stage(stage string) string { return d.path("supervisor", stage+".json") }

// StageSocket is the path of the socket that a stage's process sends its readiness to.
func (d Dir) StageSocket(stage string) string { return d.path("supervisor", stage+".sock") }

// Lock is the path of a program's lock file.
func (d Dir) Lock(program string) string { return d.path("lock", program) }

// NodeOfPeer is the node whose file in peers/ has the given base name; ok is false for names that
// are no peer's (temporary files, .synced).
func NodeOfPeer(name string) (node string, ok bool) {
	node, ok = strings.CutSuffix(filepath.Base(name), ".json")
	return node, ok && node != "" && !strings.HasPrefix(node, ".")
}
