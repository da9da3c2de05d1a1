//go:build netns

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

type join func(a *nstest.Namespace, devA, addrsA string, b *nstest.Namespace, devB, addrsB string)

// twoNodes are worker01 and worker02 with their devices, which know each other as route-sync would have it.
func twoNodes(t *testing.T, join join) (nodes [2]node) {
	t.Helper()
	for i := range nodes {
		nodes[i] = node{nstest.NewNode(t), t}
	}
	join(nodes[0].Namespace, "eth0", "192.168.0.11/24 fd00::11/64", nodes[1].Namespace, "eth0", "192.168.0.12/24 fd00::12/64")
	for i, n := range nodes {
		self, other := i+1, 2-i
		in := dual()
		in.Node = fmt.Sprintf("worker%02d", self)
		in.Subnet.IPv4, in.Subnet.IPv6 = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", self)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:%d::/64", self))
		in.PublicIP.IPv4, in.PublicIP.IPv6 = netip.MustParseAddr(fmt.Sprintf("192.168.0.1%d", self)), netip.MustParseAddr(fmt.Sprintf("fd00::1%d", self))
		in.Interface.IP = in.PublicIP
		in.Previous = state.Published{
			Type: backend, Data: fmt.Appendf(nil, `{"VNI":1,"VtepMAC":"02:00:00:00:00:0%d"}`, self), DataV6: fmt.Appendf(nil, `{"VNI":1,"VtepMAC":"02:00:00:00:06:0%d"}`, self),
		}
		n.write(in)
		n.apply()
		n.know(other)
	}
	return nodes
}

// know makes worker0I a peer.
func (n node) know(i int) {
	n.t.Helper()
	p := state.Peer{Version: state.Version, Node: fmt.Sprintf("worker%02d", i), Backend: state.Published{Type: backend}}
	p.Subnet.IPv4, p.Subnet.IPv6 = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:%d::/64", i))
	if _, err := state.Save(n.Dir.Peer(p.Node), p); err != nil {
		n.t.Fatal(err)
	}
	for _, command := range []string{
		"ip neigh replace 10.244.I.0 lladdr 02:00:00:00:00:0I dev flannel.1",
		"bridge fdb replace 02:00:00:00:00:0I dev flannel.1 dst 192.168.0.1I",
		"ip route replace 10.244.I.0/24 via 10.244.I.0 dev flannel.1 onlink",
		"ip neigh replace fd00:10:I:: lladdr 02:00:00:00:06:0I dev flannel-v6.1",
		"bridge fdb replace 02:00:00:00:06:0I dev flannel-v6.1 dst fd00::1I",
		"ip route replace fd00:10:I::/64 via fd00:10:I:: dev flannel-v6.1 onlink",
	} {
		words := strings.Fields(strings.ReplaceAll(command, "I", fmt.Sprint(i)))
		n.Run(words[0], words[1:]...)
	}
}

func (n node) offloads() (v4, v6 bool) {
	n.t.Helper()
	n.Do(func() {
		var err4, err6 error
		v4, err4 = nl.TxChecksum("flannel.1")
		v6, err6 = nl.TxChecksum("flannel-v6.1")
		if err4 != nil || err6 != nil {
			n.t.Errorf("read offload: %v %v", err4, err6)
		}
	})
	return v4, v6
}

func (n node) found() state.Checksum {
	n.t.Helper()
	f, err := state.Load[state.Checksum](n.Dir.Checksum())
	if err != nil {
		n.t.Fatal(err)
	}
	return f
}

// send sends so many bytes to an address by TCP, all of which are to be there within a limit.
func send(from, to node, addr string, size int64, limit time.Duration) error {
	ctx, stop := context.WithTimeout(from.t.Context(), limit)
	defer stop()
	var l net.Listener
	var err error
	to.Do(func() { l, err = net.Listen("tcp", net.JoinHostPort(addr, "5001")) })
	if err != nil {
		return err
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		deadline, _ := ctx.Deadline()
		_ = c.SetDeadline(deadline)
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	var c net.Conn
	from.Do(func() { c, err = new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String()) })
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	_, err = io.CopyN(c, zeros{}, size)
	c.Close()
	select {
	case n := <-got:
		if n != size {
			return fmt.Errorf("%d of %d bytes came (%w)", n, size, err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// statuses is what the programs started from now on tell the supervisor.
func statuses(t *testing.T) (said func() string) {
	path := t.TempDir() + "/notify"
	t.Setenv("NOTIFY_SOCKET", path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all strings.Builder
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			all.Write(append(b[:n:n], '\n'))
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		c.Close()
		reading.Wait()
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// TestChecksumFault is the fault from its symptom to its repair, in both families.
func TestChecksumFault(t *testing.T) {
	nodes := twoNodes(t, nstest.ConnectFaulty)
	a, b := nodes[0], nodes[1]
	pod := node{nstest.Node{Namespace: nstest.New(t, "pod")}, t}
	nstest.Connect(a.Namespace, "veth0", "10.244.1.1/24 fd00:10:1::1/64", pod.Namespace, "eth0", "10.244.1.5/24 fd00:10:1::5/64")
	for _, command := range []string{"ip link set eth0 mtu 1400", "ip route add default via 10.244.1.1", "ip -6 route add default via fd00:10:1::1"} {
		words := strings.Fields(command)
		pod.Run(words[0], words[1:]...)
	}
	a.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	a.Run("ping", "-c1", "-W5", "10.244.2.0") // what has its checksum goes through
	for _, addr := range []string{"10.244.2.0", "fd00:10:2::"} {
		for _, from := range []node{a, pod} {
			if err := send(from, b, addr, 1, 2*time.Second); err == nil {
				t.Errorf("TCP from %s to %s works: no fault to look for", from.Name, addr)
			}
		}
	}
	out, errs, code := a.Exec("probe", "--peer", "worker02")
	t.Logf("probe:\n%s%s", out, errs)
	for _, dev := range []string{"flannel.1", "flannel-v6.1"} {
		if !regexp.MustCompile(`(?m)^` + dev + ` +worker02 +0/16 +1[0-6]/16 +fault$`).MatchString(out) {
			t.Errorf("no fault of %s", dev)
		}
	}
	if code != exit.BadConfig || !strings.Contains(errs, "--checksum-offload") {
		t.Errorf("probe: exit %d", code)
	}
	said := statuses(t)
	stop := a.watch()
	b.watch()
	gone := func() string {
		for _, n := range nodes {
			if v4, v6 := n.offloads(); v4 || v6 {
				return "the offload is on"
			}
			if _, err := os.Stat(n.Dir.Checksum()); err != nil {
				return err.Error()
			}
		}
		return ""
	}
	t.Logf("found and repaired in %s", a.Eventually(2*time.Minute, gone).Round(time.Millisecond))
	const says = "STATUS=ok; checksum offload of flannel.1 is off: with it packets are lost (worker02: offloaded 0/16 answered"
	a.Eventually(20*time.Second, func() string {
		if text := said(); !strings.Contains(text, says) {
			return text
		}
		return ""
	})
	for _, from := range []node{a, pod} { // the pod's large packets are cut on the node
		for _, addr := range []string{"10.244.2.0", "fd00:10:2::"} {
			start := time.Now()
			if err := send(from, b, addr, 16<<20, time.Minute); err != nil {
				t.Errorf("TCP from %s to %s: %v", from.Name, addr, err)
			}
			t.Logf("16 MiB from %s to %s in %s", from.Name, addr, time.Since(start).Round(time.Millisecond))
		}
	}
	is := a.found()
	if is.Device.IPv4.Verdict != fault || is.Device.IPv6.Verdict != fault || !is.Device.IPv4.Off || is.Device.IPv4.Uplink != "eth0" ||
		is.Device.IPv4.Driver != "veth" || is.Device.IPv4.MTU != 1500 || !strings.Contains(is.Device.IPv4.Seen, "worker02: offloaded 0/16 answered") {
		t.Errorf("checksum.json %+v", is)
	}
	if out, errs, code := a.Exec("probe"); code != exit.OK || strings.Count(out, "offload is off") != 2 {
		t.Errorf("probe: exit %d\n%s%s", code, out, errs)
	}

	a.Run("ip", "link", "set", "eth0", "mtu", "1450") // another underlay: tried again, and off again
	a.Eventually(2*time.Minute, func() string {
		if is := a.found(); is.Device.IPv4.MTU != 1450 || is.Device.IPv6.MTU != 1450 {
			return fmt.Sprintf("checksum.json %+v", is)
		}
		return gone()
	})
	log := stop()
	if n := strings.Count(log, "to see whether it works by now"); n != 2 {
		t.Errorf("%d trials, want one of each device:\n%s", n, log)
	}

	a.Run("ip", "link", "del", "flannel.1") // and a restart does not start broken
	made := a.apply()
	if !strings.Contains(made, "ethtool -K flannel.1 tx-checksum-ip-generic off\nip addr add") || gone() != "" {
		t.Errorf("made anew:\n%s", made)
	}
	if out := a.apply("--checksum-offload", "on"); out != "ethtool -K flannel.1 tx-checksum-ip-generic on\nethtool -K flannel-v6.1 tx-checksum-ip-generic on\nremove "+a.Dir.Checksum()+"\n" {
		t.Errorf("turned on:\n%s", out)
	}
}

// TestHealthy: where both kinds arrive nothing is changed, however often it is looked, and answers that are rationed or
// missing are no fault.
func TestHealthy(t *testing.T) {
	nodes := twoNodes(t, nstest.Connect)
	a, b := nodes[0], nodes[1]
	before := a.Snapshot()
	out, errs, code := a.Exec("probe")
	want := "DEVICE        PEER      OFFLOADED  COMPLETE  VERDICT\n" +
		"flannel.1     worker02  3/3        3/3       fine\n" +
		"flannel-v6.1  worker02  3/3        3/3       fine\n"
	if code != exit.OK || out != want {
		t.Errorf("probe: exit %d\n%s%s", code, cmp.Diff(want, out), errs)
	}
	for range 2 { // the peer has no answers left but one a second
		if out, errs, code := a.Exec("probe", "--peer", "worker02"); code != exit.OK || strings.Contains(out, fault) {
			t.Errorf("probe: exit %d\n%s%s", code, out, errs)
		}
	}
	stop := a.watch()
	verdict := func() string {
		if is, err := state.Load[state.Checksum](a.Dir.Checksum()); err != nil || is.Device.IPv4.Verdict != fine || is.Device.IPv6.Verdict != fine || is.Device.IPv4.Uplink == "" {
			return fmt.Sprintf("%+v %v", is, err)
		}
		return ""
	}
	a.Eventually(time.Minute, verdict)
	if out, errs, code := a.Exec("probe", "--again"); code != exit.OK || out != "write "+a.Dir.Checksum()+"\n" {
		t.Errorf("again: exit %d\n%s%s", code, out, errs)
	}
	a.Eventually(time.Minute, verdict)
	if log := stop(); strings.Contains(log, "ethtool") {
		t.Errorf("changed:\n%s", log)
	}
	if d := cmp.Diff(before, a.Snapshot()); d != "" {
		t.Errorf("changed (-before +after)\n%s", d)
	}

	b.Run("nft", "add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in udp dport 33434 drop")
	if out, errs, code := a.Exec("probe"); code != exit.TryAgain || strings.Count(out, "0/3        0/3       unknown") != 2 || !strings.Contains(errs, "hint: ") {
		t.Errorf("nobody answers: exit %d\n%s%s", code, out, errs)
	}
	for _, tc := range []struct {
		args []string
		code exit.Code
		says string
	}{
		{[]string{"probe", "--peer", "worker09"}, exit.TryAgain, "worker09.json"},
		{[]string{"probe", "--peer", "../link"}, exit.BadInput, "link"},
		{[]string{"apply", "--checksum-offload", "of"}, exit.Usage, "neither auto, on nor off"},
	} {
		if out, errs, code := a.Exec(tc.args...); code != tc.code || !strings.Contains(errs, tc.says) {
			t.Errorf("%v: exit %d, want %d\n%s%s", tc.args, code, tc.code, out, errs)
		}
	}
	a.Run("ip", "route", "del", "10.244.2.0/24")
	a.Run("ip", "route", "del", "fd00:10:2::/64")
	if out, errs, code := a.Exec("probe"); code != exit.TryAgain || !strings.Contains(errs, "no peer to ask") {
		t.Errorf("no way to anybody: exit %d\n%s%s", code, out, errs)
	}
}

// TestLoss: a bad network is no fault of the offload.
func TestLoss(t *testing.T) {
	nodes := twoNodes(t, nstest.Connect)
	for _, n := range nodes {
		n.Run("nft", `add table inet loss; add chain inet loss in { type filter hook prerouting priority -400; };
			add rule inet loss in iifname "flannel*" numgen random mod 100 < 40 drop`)
	}
	for range 2 {
		out, errs, code := nodes[0].Exec("probe")
		if code != exit.OK && code != exit.TryAgain || strings.Contains(out, fault) {
			t.Errorf("probe: exit %d\n%s%s", code, out, errs)
		}
		t.Logf("\n%s", out)
	}
}

// TestOffloadKept: what is asked for is kept, and auto leaves alone what somebody else turned off.
func TestOffloadKept(t *testing.T) {
	n := newNode(t)
	n.write(dual())
	set := func(on bool) {
		t.Helper()
		n.Do(func() {
			if err := nl.SetTxChecksum("flannel.1", on).Do(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if out := n.apply(); strings.Contains(out, "ethtool") {
		t.Errorf("flannel leaves it as the kernel makes it:\n%s", out)
	}
	set(false)
	if out := n.apply(); out != "" {
		t.Errorf("auto: %s", out)
	}
	stop := n.watch("--checksum-offload", "on")
	n.Eventually(20*time.Second, func() string {
		if v4, _ := n.offloads(); !v4 {
			return "off"
		}
		return ""
	})
	set(false)
	took := n.Eventually(20*time.Second, func() string {
		if v4, _ := n.offloads(); !v4 {
			return "off"
		}
		return ""
	})
	t.Logf("drift repaired in %s", took.Round(time.Millisecond))
	stop()
	stop = n.watch("--checksum-offload", "off")
	n.Eventually(20*time.Second, func() string {
		if v4, v6 := n.offloads(); v4 || v6 {
			return "on"
		}
		return ""
	})
	set(true)
	n.Eventually(20*time.Second, func() string {
		if v4, _ := n.offloads(); v4 {
			return "on"
		}
		return ""
	})
	stop()
	if is := n.found(); is.Device.IPv4 != (state.ChecksumFound{Off: true, Verdict: asked}) {
		t.Errorf("checksum.json %+v", is)
	}
	if out := n.apply(); out != "" { // until a trial says that it works
		t.Errorf("auto after off: %s", out)
	}
	if _, errs, code := n.Exec("down"); code != exit.OK {
		t.Error(errs)
	}
	if _, err := os.Stat(n.Dir.Checksum()); err == nil {
		t.Error("down leaves checksum.json")
	}
}
