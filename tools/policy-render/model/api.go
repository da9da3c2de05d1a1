// Package model is NetworkPolicy as towpath understands it: the objects trimmed to what is used, the
// policies compiled to rules over address sets, and the verdict on a packet. The renderer prints these
// compiled rules and sets as nftables text and explain, diff, matrix and the cutting of flows evaluate
// the very same values, so that they cannot disagree. It reads no file and knows no kernel.
package model

import (
	"net/netip"

	"github.com/towpath/towpath/lib/state"
)

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols that NetworkPolicy knows; any other is matched only by rules without ports.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
	SCTP   Protocol = 132
)

// Key names a namespaced object.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Namespace is a Namespace, trimmed. The label kubernetes.io/metadata.name is filled in where it lacks.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Pod is a Pod, trimmed.
type Pod struct {
	Key
	UID         string
	Labels      map[string]string
	Node        string       // spec.nodeName
	HostNetwork bool         // neither subject nor selector peer
	Finished    bool         // Succeeded or Failed: in no set
	IPs         []netip.Addr // status.podIPs, unmapped, IPv4 before IPv6
	HostIPs     []netip.Addr // status.hostIPs
	Ports       []NamedPort  // of containers and of init containers that keep running (restartPolicy Always)
}

// NamedPort is a named container port.
type NamedPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// Endpoint is an interface of a pod of this node, as cni-bridge wrote it: known before the API tells of it.
type Endpoint struct {
	ID   string // CONTAINER-IFNAME
	Pod  Key    // empty where the runtime named no pod: no policy can select it, it is open
	UID  string
	IPs  []netip.Addr
	Veth string // on the node
	MAC  string // of the pod's end
	// Bridge is the bridge the veth is a port of.
	Bridge string
}

// Direction is a direction of traffic, seen from the pod that a policy selects.
type Direction uint8

// The directions.
const (
	Ingress Direction = iota
	Egress
)

// Policy is a NetworkPolicy, compiled: defaults filled in, selectors and blocks made into Sets.
type Policy struct {
	Key
	// Isolates says for each Direction whether the policy isolates the pods that it selects (policyTypes).
	Isolates [2]bool
	Rules    [2][]Rule
	// Invalid says why a part of it can match nothing (an old object with an invalid selector); empty
	// where all is well. It still isolates.
	Invalid string
	// Subjects describes spec.podSelector in the form kubectl prints ("app=web,tier in (a,b)"; empty: all).
	Subjects string
}

// Rule is one rule of a policy: a packet matches when its peer is in one of Peers and its port in one of Ports.
type Rule struct {
	Index int // in spec.ingress or spec.egress
	// AnyPeer: from/to is absent or empty: whoever it is.
	AnyPeer bool
	Peers   []*Set // all of Kind SelectorSet or CIDRSet; none and not AnyPeer: nobody
	// AnyPort: ports is absent or empty: every port of every protocol.
	AnyPort bool
	Ports   []PortRange // by protocol and number; those that overlap or touch are one
	// Named are the rule's named ports. Each is a Set of Kind PortSet of (destination address, port) pairs: for
	// Ingress over the subject pods of this policy, for Egress over the pods that the peers select (all pods of the
	// cluster where AnyPeer). For Egress a match of Named needs no further match of Peers.
	Named []NamedPorts
}

// PortRange is a range of ports of a protocol, both ends included; 0 to 65535 is every port.
type PortRange struct {
	Protocol Protocol
	From, To uint16
}

// NamedPorts is a port that each destination pod resolves for itself.
type NamedPorts struct {
	Name     string
	Protocol Protocol
	Set      *Set
}

// Kind is what the members of a Set are.
type Kind uint8

// The kinds.
const (
	SelectorSet Kind = iota // addresses of the pods that a pair of selectors matches; changes with the pods
	CIDRSet                 // disjoint ranges of addresses; never changes
	PortSet                 // pairs of a pod's address and a port number; changes with the pods
)

// Member is an element of a SelectorSet or PortSet. Two pods may have one address for a moment; it is one Member.
type Member struct {
	Addr netip.Addr
	Port uint16 // PortSet only
	Pod  Key    // the first by name of those that have it
}

// Range is a range of addresses of one family, both ends included.
type Range struct{ From, To netip.Addr }

// Verdict is the judgement of one direction.
type Verdict struct {
	Allowed bool
	// Isolating are the policies that isolate the subject in this direction, sorted; none: allowed.
	Isolating []*Policy
	// Policy and Rule are what matched first; nil where nothing isolates or nothing matched.
	Policy *Policy
	Rule   *Rule
}

// LocalPod is a pod of this node that policies are enforced for.
type LocalPod struct {
	Key                   // empty for an endpoint without a pod
	IPs      []netip.Addr // the endpoint's, else status.podIPs
	Endpoint *Endpoint    // nil where none is known: an offline run, or a pod that another plugin attached
	Policies [2][]*Policy // that isolate it, by Direction, sorted by Key
	Gone     bool         // in a Delta: no longer in LocalPods
}

// Family of a member's address, for the two parallel sets and maps of each kind.
func (m Member) Family() state.Family { return state.FamilyOf(m.Addr) }

// Delta is what a Commit changed, for a renderer that renders only that.
type Delta struct {
	// Pods are the local pods that came, went or have other addresses or policies, by Key for those with one and by
	// endpoint for the others; a pod that went is no longer in LocalPods.
	Pods []*LocalPod
	// Policies are those of Relevant that came, went or have other rules.
	Policies []Key
	// Sets are those that came into use by relevant policies, went out of it, or have other members.
	Sets []*Set
	// Moved are the pod addresses of the whole cluster that came into or went out of a set in use, or have other ports
	// in one, sorted: what a change of Sets may judge in another way has one of them at an end. Of the first Commit none.
	Moved []netip.Addr
	// Names are the pod addresses of the whole cluster that now belong to another pod, or to none.
	Names []netip.Addr
	// Waiting are the endpoints whose pod is not known yet (or is another instance, by UID): they stay closed.
	Waiting []string
}
