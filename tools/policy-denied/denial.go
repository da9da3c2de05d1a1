package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/ruleset"
)

// denial is a packet that was dropped, and why. It is the object of --output json.
type denial struct {
	Time time.Time `json:"time"`
	// Direction is egress or ingress where a pod's policies decided; unknown, spoof, tunnel or cut where
	// the packet was dropped whatever any policy says.
	Direction string   `json:"direction"`
	From      end      `json:"from"`
	To        end      `json:"to"`
	Protocol  string   `json:"protocol"`
	Detail    string   `json:"detail,omitempty"`
	Device    string   `json:"device,omitempty"`    // it came in by
	SentBy    string   `json:"sentBy,omitempty"`    // the pod behind the device, or the device
	SourceMAC string   `json:"sourceMAC,omitempty"` // of a frame
	Group     string   `json:"group,omitempty"`     // chain of the pod's policies
	Policies  []string `json:"policies,omitempty"`  // those that isolate the pod in that direction
	Reason    string   `json:"reason"`
}

// end is one end of a packet's way.
type end struct {
	Address netip.Addr `json:"address,omitzero"`
	Pod     string     `json:"pod,omitempty"` // namespace/name
	Port    int        `json:"port,omitempty"`
}

// judge says what a logged packet means; ok is false for packets that are not of policy-render's rules.
func judge(l nl.LoggedPacket, n *names, device func(int) string) (d denial, ok bool) {
	kind, name, ok := ruleset.ParseLogPrefix(l.Prefix)
	if !ok {
		return d, false
	}
	p := parsePacket(l.Protocol, l.Payload)
	in := l.PhysIn
	if in == 0 {
		in = l.In
	}
	d = denial{
		Time: l.Time, From: end{Address: p.Src, Pod: n.pod(p.Src)}, To: end{Address: p.Dst, Pod: n.pod(p.Dst)},
		Protocol: p.Protocol, Detail: p.Detail, Device: device(in),
	}
	if p.Ports {
		d.From.Port, d.To.Port = int(p.SrcPort), int(p.DstPort)
	}
	switch {
	case kind == ruleset.Unknown && name == ruleset.UnknownName:
		d.Direction, d.Reason = "unknown", n.whyClosed(p)
	case kind == ruleset.Spoof && name == ruleset.SpoofName:
		d.Direction = "spoof"
		d.spoofed(l, p, n)
	case kind == ruleset.Spoof && name == ruleset.TunnelName:
		d.Direction, d.Reason = "tunnel", "a pod sent it to the port of the tunnel between the nodes, which only nodes do"
	case kind == ruleset.Cut && name == ruleset.CutName:
		d.Direction, d.Reason = "cut", "its connection was allowed when it began, and a policy has changed since"
	default:
		d.Direction = map[ruleset.Denial]string{ruleset.Egress: "egress", ruleset.Ingress: "ingress"}[kind]
		if d.Direction == "" {
			return d, false
		}
		d.Group, d.Policies = name, n.policies(name)
		d.Reason = "isolated by " + strings.Join(d.Policies, ", ")
		if len(d.Policies) == 0 {
			d.Reason = fmt.Sprintf("isolated by policies that are no longer there (chain deny-%s)", name)
		}
	}
	return d, true
}

// whyClosed explains a drop for want of rules.
func (n *names) whyClosed(p packet) string {
	a, e, ok := n.closed(p.Src, p.Dst)
	switch {
	case !ok:
		return "the kernel had no rules for an address of this node's pods: those of a pod that starts were not loaded yet, or the pod has ended"
	case e.ContainerID == "":
		return fmt.Sprintf("no pod of this node has %s: addresses without rules are closed", a)
	case e.Pod == "":
		return fmt.Sprintf("no rules are loaded for %s (endpoint %s-%s) yet, see towpath status", a, e.ContainerID, e.Interface)
	}
	return fmt.Sprintf("no rules are loaded for %s/%s (%s) yet, see towpath status", e.Namespace, e.Pod, a)
}

// spoofed explains a drop at the pod's own port, or at its bridge.
func (d *denial) spoofed(l nl.LoggedPacket, p packet, n *names) {
	if l.Source != (nl.MAC{}) {
		d.SourceMAC = l.Source.String()
	}
	e, known := n.endpoint(d.Device)
	d.SentBy = d.Device
	if known && e.Pod != "" {
		d.SentBy = e.Namespace + "/" + e.Pod
	}
	own := known && p.Src.IsValid() && (p.Src == e.IP.IPv4 || p.Src == e.IP.IPv6)
	switch {
	case d.SentBy == "":
		d.Reason = "it came from a pod, and the source is not its address"
	case own && d.SourceMAC != "" && d.SourceMAC != e.MAC:
		d.Reason = fmt.Sprintf("%s sent it from %s, which is not its Ethernet address", d.SentBy, d.SourceMAC)
	case own, !p.Src.IsValid():
		d.Reason = d.SentBy + " sent what a pod may not: neither IP nor ARP, or an announcement of another's address"
	case p.Protocol == "ARP":
		d.Reason = fmt.Sprintf("%s claims %s, which is not its address", d.SentBy, p.Src)
	default:
		d.Reason = fmt.Sprintf("%s sent it, and %s is not its address", d.SentBy, p.Src)
	}
}

// concerns says whether a pod is at either end, or sent it.
func (d denial) concerns(pod string) bool {
	return pod == "" || d.From.Pod == pod || d.To.Pod == pod || d.SentBy == pod
}

// String is the line for people: time, direction, from, to, why.
func (d denial) String() string {
	what := "/" + d.Protocol
	if d.To.Port == 0 {
		what = " (" + strings.TrimSpace(d.Protocol+" "+d.Detail) + ")"
	}
	return fmt.Sprintf("%s %s %s → %s%s: %s", d.Time.Format("2006-01-02T15:04:05.000Z07:00"), d.Direction, d.From.name(0), d.To.name(d.To.Port), what, d.Reason)
}

func (e end) name(port int) string {
	name := e.Pod
	if name == "" {
		name = "?"
		if e.Address.IsValid() {
			name = e.Address.String()
		}
		if port != 0 && e.Address.Is6() {
			name = "[" + name + "]"
		}
	}
	if port != 0 {
		name += ":" + strconv.Itoa(port)
	}
	return name
}
