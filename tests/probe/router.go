package probe

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
)

// Router is a namespace that forwards between two devices, with the rules to be asked about: cni0,
// behind which the node's own pods are, and eth0, behind which everything else is. Both end in one far
// namespace, where packets are sent and looked for.
type Router struct {
	*nstest.Namespace
	t     testing.TB
	wires [2]*Wire // pods' side, outer side; in the far namespace
	macs  [2]net.HardwareAddr
	id    uint32
	port  uint16
}

// farMAC is the next hop behind both devices. No device has it, so that no stack looks at what arrives.
var farMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xfe}

// NewRouter makes a router; pods are the networks behind cni0.
func NewRouter(t testing.TB, pods ...netip.Prefix) *Router {
	t.Helper()
	r := &Router{Namespace: nstest.New(t, "router"), t: t}
	far := nstest.New(t, "far")
	for n, settings := range map[*nstest.Namespace]string{
		r.Namespace: "conf/all/forwarding=1 conf/default/rp_filter=0 conf/all/rp_filter=0 conf/all/send_redirects=0 conf/default/send_redirects=0 " +
			"ipv6/conf/all/forwarding=1 ipv6/conf/default/accept_dad=0 ipv6/conf/all/accept_dad=0",
		far: "ipv6/conf/default/disable_ipv6=1 ipv6/conf/all/disable_ipv6=1",
	} {
		for _, s := range strings.Fields(settings) {
			name, value, _ := strings.Cut(s, "=")
			if !strings.HasPrefix(name, "ipv6/") {
				name = "ipv4/" + name
			}
			n.Run("sh", "-c", fmt.Sprintf("echo %s >/proc/sys/net/%s", value, name))
		}
	}
	for i, device := range []string{"cni0", "eth0"} {
		nstest.Connect(r.Namespace, device, "", far, device, "")
		r.Run("ip", "neigh", "add", "169.254.0.1", "lladdr", farMAC.String(), "dev", device, "nud", "permanent")
		r.Run("ip", "neigh", "add", "fe80::1", "lladdr", farMAC.String(), "dev", device, "nud", "permanent")
		r.Do(func() {
			if link, err := net.InterfaceByName(device); err == nil {
				r.macs[i] = link.HardwareAddr
			}
		})
		var err error
		far.Do(func() { r.wires[i], err = Open(device) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.wires[i].Close)
	}
	r.route(netip.MustParsePrefix("0.0.0.0/0"), "eth0")
	r.route(netip.MustParsePrefix("::/0"), "eth0")
	for _, p := range pods {
		r.route(p, "cni0")
	}
	return r
}

func (r *Router) route(to netip.Prefix, device string) {
	r.t.Helper()
	if to.Addr().Is4() {
		r.Run("ip", "route", "add", to.String(), "via", "169.254.0.1", "dev", device, "onlink")
		return
	}
	r.Run("ip", "-6", "route", "add", to.String(), "via", "fe80::1", "dev", device)
}

// Probe is a packet to be sent and the side it comes from.
type Probe struct {
	Packet
	FromPods bool // it comes from behind cni0
}

// batch is how many packets are on their way at most: the kernel's backlog holds 1,000.
const batch = 400

// Pass sends the packets and says of each whether it came out again. IDs and source ports are given
// here, so that each packet is the first of a flow of its own.
func (r *Router) Pass(probes []Probe) []bool {
	r.t.Helper()
	passed := make([]bool, len(probes))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// On one processor the kernel's backlog is one queue, so that the fence behind a batch is the last to arrive.
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		r.t.Fatal(err)
	}
	for cpu := range 1024 {
		if old.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		r.t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &old) //nolint:errcheck // the thread runs on, only narrower
	for at := 0; at < len(probes); at += batch {
		r.pass(probes[at:min(at+batch, len(probes))], passed[at:])
	}
	return passed
}

func (r *Router) pass(probes []Probe, passed []bool) {
	r.t.Helper()
	first := r.id + 1
	for i := range probes {
		p := &probes[i]
		p.ID, p.SourcePort = r.next()
		r.send(*p)
	}
	// A fence comes from outside and goes outside: no policy is about it.
	fence := Probe{Packet: Packet{From: netip.MustParseAddr("198.18.0.1"), To: netip.MustParseAddr("198.18.0.2"), Protocol: UDP, Port: 8}}
	for deadline := time.Now().Add(20 * time.Second); ; {
		fence.ID, fence.SourcePort = r.next()
		r.send(fence)
		for frame := r.wires[1].Receive(1000); frame != nil; frame = r.wires[1].Receive(0) {
			got := r.took(frame, first, passed[:len(probes)])
			if got == fence.ID {
				for frame := r.wires[0].Receive(0); frame != nil; frame = r.wires[0].Receive(0) {
					r.took(frame, first, passed[:len(probes)])
				}
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatal("a packet between two addresses that no policy is about does not pass the router")
		}
	}
}

func (r *Router) next() (uint32, uint16) {
	r.id++
	r.port++
	if r.port < 1024 {
		r.port = 1024
	}
	return r.id, r.port
}

func (r *Router) send(p Probe) {
	r.t.Helper()
	side := 1
	if p.FromPods {
		side = 0
	}
	ethertype := uint16(IPv4)
	if p.From.Is6() {
		ethertype = IPv6
	}
	if err := r.wires[side].Send(Frame(r.macs[side], farMAC, ethertype, p.Bytes())); err != nil {
		r.t.Fatalf("send %s: %v", p.Packet, err)
	}
}

// took notes a packet that came out, and returns its ID.
func (r *Router) took(frame []byte, first uint32, passed []bool) uint32 {
	_, payload := Payload(frame)
	p, ok := Parse(payload)
	if !ok {
		return 0
	}
	if i := p.ID - first; i < uint32(len(passed)) {
		passed[i] = true
	}
	return p.ID
}

// Forget empties the router's connection table, so that every packet is again the first of its flow.
func (r *Router) Forget() {
	r.t.Helper()
	var err error
	r.Do(func() { err = flushConntrack() })
	if err != nil {
		r.t.Fatalf("flush conntrack: %v", err)
	}
}

// flushConntrack sends IPCTNL_MSG_CT_DELETE without a tuple.
func flushConntrack() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)         //nolint:errcheck // a socket that was only asked
	const deleteEntry = 1<<8 | 2 // subsystem ctnetlink, IPCTNL_MSG_CT_DELETE
	msg := []byte{20, 0, 0, 0, deleteEntry & 0xff, deleteEntry >> 8, unix.NLM_F_REQUEST | unix.NLM_F_ACK, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return err
	}
	if code := int32(uint32(buf[16]) | uint32(buf[17])<<8 | uint32(buf[18])<<16 | uint32(buf[19])<<24); n < 20 || code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
