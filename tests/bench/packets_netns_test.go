//go:build netns

package bench

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/objects"
)

// path is a client (a pod of the node), a router and a server (of ns-0 too, on another node), joined by veths, with real sockets.
type path struct {
	client, router, server *nstest.Namespace
	to                     netip.AddrPort
	name                   string
}

// newPath makes a path; the router's rules are the script.
func newPath(b *testing.B, name, script string) *path {
	b.Helper()
	p := &path{name: name, client: nstest.New(b, "client"), router: nstest.New(b, "router"), server: nstest.New(b, "server"), to: netip.MustParseAddrPort("10.251.0.2:8000")}
	p.router.Run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; for f in all default; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done")
	nstest.Connect(p.client, "eth0", "10.244.1.2/24", p.router, "cni0", "10.244.1.1/24")
	nstest.Connect(p.server, "eth0", "10.251.0.2/24", p.router, "eth0", "10.251.0.1/24")
	p.client.Run("ip", "route", "add", "default", "via", "10.244.1.1")
	p.server.Run("ip", "route", "add", "default", "via", "10.251.0.1")
	for _, n := range []*nstest.Namespace{p.client, p.server} { // so that no connection waits for a port
		n.Run("sh", "-c", "echo '1024 65000' >/proc/sys/net/ipv4/ip_local_port_range")
	}
	if script != "" {
		nft := p.router.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(script)
		if out, err := nft.CombinedOutput(); err != nil {
			b.Fatalf("nft: %v\n%.2000s", err, out)
		}
	}
	return p
}

// tracked is conntrack and nothing else, which masquerading needs anyway.
const tracked = "table inet bare { chain f { type filter hook forward priority filter; policy accept; ct state established,related accept; }; }\n"

// rules are those of 10,000 pods and 1,000 policies, of which one lets the client reach the server.
func rules(b *testing.B) string {
	b.Helper()
	c := sizes[1]
	dir := b.TempDir()
	if err := c.Write(dir); err != nil {
		b.Fatal(err)
	}
	visitor := objects.Pod{Namespace: "ns-0", Name: "server", App: "server", Tier: "none", Node: "node9", Address: netip.MustParseAddr("10.251.0.2")}
	write(b, filepath.Join(dir, "server.yaml"), visitor.Manifest()+"---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: ns-0, name: zz-server}\n"+
		"spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: 8000}, {port: 8000, protocol: UDP}]}]}\n")
	out, err := exec.Command(node.Binary(b, "policy-render"), "apply", "--node", "node1", "--objects", dir, "--output", "-").Output()
	if err != nil {
		b.Fatal(err)
	}
	return string(out)
}

// connections opens and closes TCP connections for a while, four at once, and returns how many a second were made.
func (p *path) connections(b *testing.B, how time.Duration) float64 {
	b.Helper()
	var l net.Listener
	var err error
	p.server.Do(func() { l, err = net.Listen("tcp", p.to.String()) })
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	defer l.Close()
	var wg sync.WaitGroup
	var counts [4]int
	start := time.Now()
	for i := range counts {
		wg.Go(func() {
			p.client.Do(func() {
				for time.Since(start) < how {
					c, err := net.DialTimeout("tcp", p.to.String(), 5*time.Second)
					if err != nil {
						b.Errorf("%s: %v", p.name, err)
						return
					}
					c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: the ports are few
					c.Close()
					counts[i]++
				}
			})
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / time.Since(start).Seconds()
}

// datagrams sends frames of 64 bytes (18 bytes of data) on one flow for a while, and returns how many a second came out at
// the far end.
func (p *path) datagrams(b *testing.B, how time.Duration) float64 {
	b.Helper()
	var fd int
	var err error
	p.client.Do(func() {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err == nil {
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(p.to.Port()), Addr: p.to.Addr().As4()})
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	before := p.received(b)
	start := time.Now()
	data := make([]byte, 18)
	for time.Since(start) < how {
		for range 64 {
			unix.Write(fd, data)
		}
	}
	took := time.Since(start)
	return float64(p.received(b)-before) / took.Seconds()
}

func (p *path) received(b *testing.B) int {
	b.Helper()
	var n int
	if _, err := fmt.Sscan(p.server.Run("cat", "/sys/class/net/eth0/statistics/rx_packets"), &n); err != nil {
		b.Fatal(err)
	}
	return n
}

// rounds measures the paths in turn, in an order that alternates, and reports the median of each and of the ratios to the others.
func rounds(b *testing.B, unit string, measure func(*path) float64) {
	paths := []*path{newPath(b, "bare", ""), newPath(b, "conntrack", tracked), newPath(b, "policies", rules(b))}
	for _, p := range paths { // neighbours, and a listener where datagrams go
		var c *net.UDPConn
		var err error
		p.server.Do(func() { c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(p.to)) })
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		p.client.Do(func() {
			_, err = net.DialTimeout("tcp", netip.AddrPortFrom(p.to.Addr(), 8001).String(), 300*time.Millisecond)
		})
		if refused := err != nil && strings.Contains(err.Error(), "refused"); refused != (p.name != "policies") {
			b.Fatalf("%s: another port: %v", p.name, err) // nobody listens there: what is not denied is refused
		}
		measure(p)
	}
	all := map[string][]float64{}
	for n := 0; b.Loop(); n++ {
		var got [3]float64
		for i := range paths {
			at := (i + n) % len(paths)
			got[at] = measure(paths[at])
		}
		for i, p := range paths {
			all[p.name] = append(all[p.name], got[i])
		}
		all["of-bare"] = append(all["of-bare"], got[2]/got[0])
		all["of-conntrack"] = append(all["of-conntrack"], got[2]/got[1])
	}
	for name, values := range all {
		slices.Sort(values)
		what := unit
		if strings.HasPrefix(name, "of-") {
			what = "ratio"
		}
		b.ReportMetric(values[len(values)/2], name+"-"+what)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkConnections is new TCP connections a second, through no rules, conntrack alone, and 1,000 policies.
func BenchmarkConnections(b *testing.B) {
	rounds(b, "conn/s", func(p *path) float64 { return p.connections(b, 500*time.Millisecond) })
}

// BenchmarkPackets is UDP packets of 64 bytes a second, on an established flow, through the same.
func BenchmarkPackets(b *testing.B) {
	rounds(b, "pkt/s", func(p *path) float64 { return p.datagrams(b, 300*time.Millisecond) })
}
