package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/state"
)

// Where things are unless the network configuration says otherwise.
const (
	defaultBridge      = "cni0"                    // as flannel's chain has it
	defaultDelegateDir = "/var/lib/cni/flannel"    // flannel's: its own leavings there are honoured
	defaultIPAMDir     = "/var/lib/cni/networks"   // host-local's
	flannelSubnetEnv   = "/run/flannel/subnet.env" // what flannel's plugin reads, as which it may be installed
	validAttachments   = "cni.dev/valid-attachments"
)

// netConf is the network configuration that the runtime passes: flannel's keys, and runDir.
type netConf struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	// SubnetFile is subnet.env; DataDir holds what is needed to undo a delegate's work.
	SubnetFile string `json:"subnetFile"`
	DataDir    string `json:"dataDir"`
	RunDir     string `json:"runDir"`
	// Policy: a pod is connected when policy.loaded.json covers it, and not before; PolicyTimeout is how
	// long an ADD waits for that, seconds.
	Policy        bool    `json:"policy"`
	PolicyTimeout float64 `json:"policyTimeout"`
	// Delegate is the bridge's configuration, or with another type that of the plugin to hand over to.
	Delegate      map[string]any `json:"delegate"`
	IPAM          map[string]any `json:"ipam"`
	RuntimeConfig map[string]any `json:"runtimeConfig"`
	Args          struct {
		CNI struct {
			IPs []string `json:"ips"`
			MAC string   `json:"mac"`
		} `json:"cni"`
	} `json:"args"`
	DNS        types.DNS       `json:"dns"`
	PrevResult json.RawMessage `json:"prevResult"`
	// Valid is what a GC keeps. Nil means that the key is missing, which never means "delete all".
	Valid json.RawMessage `json:"cni.dev/valid-attachments"`

	bridge bridgeConf
	ipam   ipamConf
	podIPs []string // asked for by the runtime
	podMAC string   // asked for by the runtime
}

// bridgeConf is the delegate object of type bridge: the keys of the reference plugin.
type bridgeConf struct {
	Type         string `json:"type"`
	Bridge       string `json:"bridge"`
	IsGateway    *bool  `json:"isGateway"`
	IsDefault    bool   `json:"isDefaultGateway"`
	ForceAddress bool   `json:"forceAddress"`
	IPMasq       bool   `json:"ipMasq"`
	MTU          int    `json:"mtu"`
	Hairpin      bool   `json:"hairpinMode"`
	Promisc      bool   `json:"promiscMode"`
	Isolated     bool   `json:"portIsolation"`
	EnableDAD    bool   `json:"enabledad"`
	// Of the reference plugin, and not here.
	VLAN        int   `json:"vlan"`
	VLANTrunk   []any `json:"vlanTrunk"`
	MACSpoof    bool  `json:"macspoofchk"`
	NoInterface bool  `json:"disableContainerInterface"`
}

// ipamConf is the ipam object: the keys of host-local.
type ipamConf struct {
	Type       string        `json:"type"`
	DataDir    string        `json:"dataDir"`
	ResolvConf string        `json:"resolvConf"`
	Routes     []types.Route `json:"routes"`
	Ranges     [][]rangeConf `json:"ranges"`
}

// rangeConf is one range of addresses. Without a subnet it is of this node's.
type rangeConf struct {
	Subnet  netip.Prefix `json:"subnet,omitzero"`
	Start   netip.Addr   `json:"rangeStart,omitzero"`
	End     netip.Addr   `json:"rangeEnd,omitzero"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// newNetConf is what a configuration means that says nothing.
func newNetConf() *netConf {
	return &netConf{DataDir: defaultDelegateDir, RunDir: state.DefaultRunDir, PolicyTimeout: 10}
}

// parseNetConf reads and checks the configuration. The error is a *types.Error naming the key.
func parseNetConf(data []byte, cniArgs map[string]string) (*netConf, error) {
	c := newNetConf()
	if err := state.Decode(data, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "read network configuration: "+err.Error(), "")
	}
	switch {
	case c.SubnetFile != "":
	case c.Type == "flannel": // installed in the place of flannel's plugin, with a configuration that conf did not write
		c.SubnetFile = flannelSubnetEnv
	default:
		c.SubnetFile = state.Dir(c.RunDir).SubnetEnv()
	}
	var key *state.KeyError
	err := c.check(cniArgs)
	switch {
	case errors.As(err, &key):
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network configuration %q: %v", c.Name, err), "")
	case err != nil:
		return nil, err
	}
	return c, nil
}

func (c *netConf) check(cniArgs map[string]string) error {
	for _, p := range []struct{ key, path string }{{"subnetFile", c.SubnetFile}, {"dataDir", c.DataDir}, {"runDir", c.RunDir}} {
		if !filepath.IsAbs(p.path) {
			return &state.KeyError{Key: p.key, Err: fmt.Errorf("%q is no absolute path", p.path)}
		}
	}
	if c.PolicyTimeout <= 0 || c.PolicyTimeout > 600 {
		return &state.KeyError{Key: "policyTimeout", Err: fmt.Errorf("%v is no time to wait, in seconds (at most 600)", c.PolicyTimeout)}
	}
	for _, k := range []string{"name", "ipam"} {
		if _, ok := c.Delegate[k]; ok {
			return &state.KeyError{Key: "delegate." + k, Err: errors.New("is set by cni-bridge: remove it")}
		}
	}
	if err := again("delegate", c.Delegate, &c.bridge); err != nil {
		return err
	}
	if err := again("ipam", c.IPAM, &c.ipam); err != nil {
		return err
	}
	if c.ipam.DataDir == "" {
		c.ipam.DataDir = defaultIPAMDir
	}
	if !c.native() {
		return nil
	}
	if c.bridge.Bridge == "" {
		c.bridge.Bridge = defaultBridge
	}
	var runtime struct {
		IPs    []string      `json:"ips"`
		MAC    string        `json:"mac"`
		Ranges [][]rangeConf `json:"ipRanges"`
	}
	if err := again("runtimeConfig", c.RuntimeConfig, &runtime); err != nil {
		return err
	}
	c.ipam.Ranges = append(runtime.Ranges, c.ipam.Ranges...)
	c.podIPs = append(append(append([]string{}, runtime.IPs...), c.Args.CNI.IPs...), optional(cniArgs["IP"])...)
	for _, mac := range []string{runtime.MAC, c.Args.CNI.MAC, cniArgs["MAC"]} {
		if c.podMAC == "" {
			c.podMAC = mac
		}
	}
	if _, err := nl.ParseMAC(c.podMAC); c.podMAC != "" && err != nil {
		return &state.KeyError{Key: "runtimeConfig.mac", Err: err}
	}
	return c.bridge.check(c.ipam)
}

// fits says what of the configuration contradicts the lease.
func (c *netConf) fits(env subnetEnv) error {
	if c.native() && c.bridge.IPMasq && !env.IPMasq {
		return &state.KeyError{Key: "delegate.ipMasq", Err: errors.New("masquerading is masq-sync's, and this node's lease " +
			"says not to (FLANNEL_IPMASQ=false): leave the key out, or give subnet-lease --ip-masq")}
	}
	return nil
}

// native says whether cni-bridge does the work itself.
func (c *netConf) native() bool { return c.bridge.Type == "" || c.bridge.Type == "bridge" }

func (b bridgeConf) check(ipam ipamConf) error {
	bad := func(key, format string, args ...any) error {
		return &state.KeyError{Key: key, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case ipam.Type != "" && ipam.Type != "host-local":
		return bad("ipam.type", "%q: with a bridge cni-bridge allocates addresses itself, as host-local does; leave it out", ipam.Type)
	case !filepath.IsAbs(ipam.DataDir):
		return bad("ipam.dataDir", "%q is no absolute path", ipam.DataDir)
	case len(b.Bridge) > 15 || b.Bridge != filepath.Base(b.Bridge) || b.Bridge == "." || b.Bridge == "..":
		return bad("delegate.bridge", "%q is no name for a device", b.Bridge)
	case b.MTU != 0 && (b.MTU < 68 || b.MTU > 65535):
		return bad("delegate.mtu", "%d is no MTU (68 to 65535)", b.MTU)
	case b.Hairpin && b.Promisc:
		return bad("delegate.promiscMode", "excludes hairpinMode: both would deliver a pod's packets to itself twice")
	case b.VLAN != 0, len(b.VLANTrunk) > 0:
		return bad("delegate.vlan", "cni-bridge has no VLANs; flannel's networks are routed")
	case b.MACSpoof:
		return bad("delegate.macspoofchk", "is not in cni-bridge: policy-load keeps a pod from using addresses of others")
	case b.NoInterface:
		return bad("delegate.disableContainerInterface", "leaves a pod without an address")
	}
	return nil
}

// gateway says whether the bridge carries the subnet's first address, as flannel's plugin has it
// unless told not to.
func (b bridgeConf) gateway() bool { return b.IsDefault || b.IsGateway == nil || *b.IsGateway }

// again decodes a part that was kept whole, because it is passed on, into its known keys.
func again(key string, part map[string]any, v any) error {
	if part == nil {
		return nil
	}
	data, err := json.Marshal(part)
	if err == nil {
		err = state.Decode(data, v)
	}
	var k *state.KeyError
	switch {
	case errors.As(err, &k):
		return &state.KeyError{Key: key + "." + k.Key, Err: k.Err}
	case err != nil:
		return &state.KeyError{Key: key, Err: err}
	}
	return nil
}

func optional(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
