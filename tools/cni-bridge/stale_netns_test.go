//go:build netns

package main

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/lib/nstest"
)

// TestFreshBridgeForwards: nothing waits for duplicate address detection on a bridge just made. That
// would take a minute here, so a pod that is reached has not waited for it.
func TestFreshBridgeForwards(t *testing.T) {
	h := newHost(t, envV6)
	h.Run("sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=60")
	outside, pod := nstest.New(t, "outside"), newContainer(t, "a")
	pod.Run("sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=60")
	h.Run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", outside.Name)
	h.Run("ip", "link", "set", "up0", "up")
	h.Run("ip", "addr", "add", "fd00:99::1/64", "dev", "up0", "nodad")
	outside.Run("ip", "addr", "add", "fd00:99::2/64", "dev", "eth0", "nodad")
	outside.Run("ip", "link", "set", "eth0", "up")
	outside.Run("ip", "route", "add", "default", "via", "fd00:99::1")
	addr := addrOf(h.add(pod, h.conf("1.0.0", nil)), 0)
	h.Run("ping", "-c1", "-W5", addr)
	await(t, func() bool {
		out := h.Run("ip", "-6", "addr", "show", "dev", "cni0")
		return strings.Contains(out, "fe80::") && !strings.Contains(out, "tentative")
	})
	outside.Run("ping", "-c1", "-W5", addr)
}

// TestLearnedRouteStays: the first pod switches forwarding on, and the node's default route is one that a router told of.
func TestLearnedRouteStays(t *testing.T) {
	h := newHost(t, envV6)
	for _, dev := range []string{"up0", "other0"} {
		h.Run("ip", "link", "add", dev, "type", "veth", "peer", "name", dev+"-far")
		h.Run("ip", "link", "set", dev, "up")
	}
	h.Run("ip", "route", "add", "default", "via", "fe80::1", "dev", "up0", "proto", "ra")
	h.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
	h.add(newContainer(t, "a"), h.conf("1.0.0", nil))
	const want = "1 2 1"
	if got := strings.Join(strings.Fields(h.Run("sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.up0.accept_ra", "net.ipv6.conf.other0.accept_ra")), " "); got != want {
		t.Errorf("forwarding, accept_ra of the uplink and of another device: %s, want %s", got, want)
	}
}

// TestIPv6IsSwitchedOn: where new devices have no IPv6, as the administrator or the runtime has it, a pod with an IPv6 address gets
// it all the same, and the bridge that leads to it.
func TestIPv6IsSwitchedOn(t *testing.T) {
	h := newHost(t, envDual)
	pod := newContainer(t, "a")
	for _, ns := range []*nstest.Namespace{h.Namespace, pod.Namespace} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
	}
	pod.Run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=1")
	r := h.add(pod, h.conf("1.0.0", nil))
	pod.Run("ping", "-c1", "-W5", r.IPs[1].Gateway.String())
	pod.Run("ping", "-c1", "-W5", "::1")
}

const (
	dualLease = `"subnet": {"ipv4": "10.244.1.0/24", "ipv6": "fd00:10:0:1::/64"}`
	dualNets  = `"network": {"ipv4": "10.244.0.0/16", "ipv6": "fd00:10::/48"}`
)

var dualJSON = strings.NewReplacer(`"network": {"ipv4": "10.244.0.0/16"}`, dualNets, `"subnet": {"ipv4": "10.244.1.0/24"}`, dualLease).Replace(leaseJSON)

// TestIdleBridgeIsCleared: conf takes the gateways of a subnet that the node has no more from our
// bridge when no pod is attached, and says nothing of addresses of others.
func TestIdleBridgeIsCleared(t *testing.T) {
	h := newHost(t, "")
	h.write(h.run.Lease(), dualJSON)
	h.write(h.run.Link(), linkJSON)
	h.write(h.run.Routes(), routesJSON)
	h.confRun("apply")
	pod := newContainer(t, "a")
	h.add(pod, h.conf("1.0.0", nil))
	h.Run("ip", "addr", "add", "192.168.7.9/24", "dev", "cni0")
	if out := h.confRun("apply"); out != "" {
		t.Errorf("the subnet is the same: %s", out)
	}
	h.write(h.run.Lease(), strings.ReplaceAll(dualJSON, dualLease, `"subnet": {"ipv4": "10.244.7.0/24", "ipv6": "fd00:10:0:7::/64"}`))
	if out := h.confRun("apply"); strings.Contains(out, "ip addr") {
		t.Errorf("a pod is attached: %s", out)
	}
	h.must("DEL", pod, h.conf("1.0.0", nil))
	want := "ip addr del 10.244.1.1/24 dev cni0\nip addr del fd00:10:0:1::1/64 dev cni0\n"
	if out := h.confRun("plan"); out != want {
		t.Errorf("plan: %q, want %q", out, want)
	}
	if out := h.confRun("apply"); out != want {
		t.Errorf("apply: %q, want %q", out, want)
	}
	if out := h.confRun("apply"); out != "" {
		t.Errorf("a second apply: %q", out)
	}
	if out := h.Run("ip", "route", "show", "10.244.1.0/24"); out != "" {
		t.Errorf("a route hides the peer that has the subnet now: %s", out)
	}
	if out := h.Run("ip", "addr", "show", "cni0"); !strings.Contains(out, "192.168.7.9/24") {
		t.Errorf("another's address is gone: %s", out)
	}
	h.Run("ip", "link", "set", "cni0", "alias", "mine")
	h.Run("ip", "addr", "add", "10.244.1.1/24", "dev", "cni0")
	if out := h.confRun("apply"); out != "" {
		t.Errorf("a bridge of another's making: %q", out)
	}
}

// TestFamilyLeaves: an ADD takes the gateway of a family, or of an IPv6 subnet, that the node no longer
// has from the bridge, once no pod is attached.
func TestFamilyLeaves(t *testing.T) {
	h := newHost(t, envDual)
	a, b, c := newContainer(t, "a"), newContainer(t, "b"), newContainer(t, "c")
	h.add(a, h.conf("1.0.0", nil))
	h.write(h.run.SubnetEnv(), envV4)
	h.add(b, h.conf("1.0.0", nil))
	if out := h.Run("ip", "-6", "addr", "show", "cni0"); !strings.Contains(out, "fd00:10:0:1::1/64") {
		t.Errorf("a pod of both families lost its gateway: %s", out)
	}
	h.must("DEL", a, h.conf("1.0.0", nil))
	h.must("DEL", b, h.conf("1.0.0", nil))
	h.add(c, h.conf("1.0.0", nil))
	if out := h.Run("ip", "-6", "addr", "show", "cni0"); strings.Contains(out, "fd00:10:0:1::1/64") {
		t.Errorf("the gateway of a family that is gone: %s", out)
	}
	h.must("DEL", c, h.conf("1.0.0", nil))
	h.write(h.run.SubnetEnv(), envV6)
	h.add(a, h.conf("1.0.0", nil))
	h.must("DEL", a, h.conf("1.0.0", nil))
	h.write(h.run.SubnetEnv(), strings.ReplaceAll(envV6, "fd00:10:0:1::1", "fd00:10:0:7::1"))
	h.add(b, h.conf("1.0.0", nil))
	out := h.Run("ip", "addr", "show", "cni0")
	if strings.Contains(out, "10.244.1.1") || strings.Contains(out, "fd00:10:0:1::1") || !strings.Contains(out, "fd00:10:0:7::1/64") {
		t.Errorf("addresses of the bridge: %s", out)
	}
}
