//go:build netns

package bench

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/node"
)

// link is two nodes on a wire, and an address of each that the other reaches over what is measured.
type link struct {
	name string
	ends [2]*nstest.Namespace
	via  [2]netip.Addr

	streams, latencies []float64 // of each round: Gbit/s, µs
}

// newLink makes the two nodes. Their programs end with the benchmark.
func newLink(b *testing.B, name string, wire *nstest.Namespace) *link {
	b.Helper()
	l := &link{name: name}
	for i := range l.ends {
		l.ends[i] = nstest.New(b, "end")
		l.ends[i].NoDAD()
		port := fmt.Sprintf("%.10s%d", name, i)
		nstest.Connect(l.ends[i], "eth0", l.outer(i).String()+"/24", wire, port, "")
		wire.Run("ip", "link", "set", port, "master", "br0")
	}
	return l
}

func (l *link) outer(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 7, l.number(i)}) }

// number is the last byte of the node's address.
func (l *link) number(i int) byte {
	return map[string]byte{"bare": 10, "vxlan": 20, "udp": 30, "flannel": 40, "wireguard": 50}[l.name] + byte(i)
}

func (l *link) subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, l.number(i), 0}), 24)
}

// program starts a program in a node until the benchmark ends.
func (l *link) program(b *testing.B, i int, args ...string) {
	b.Helper()
	var log bytes.Buffer
	cmd := l.ends[i].Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b.Failed() {
			b.Logf("%s:\n%s", args[0], log.String())
		}
	})
}

// dial connects the two ends over what is measured, once that works.
func (l *link) dial(b *testing.B) (client, server net.Conn) {
	b.Helper()
	var listener net.Listener
	var err error
	l.ends[1].Eventually(20*time.Second, func() string { // the address may not be there yet
		l.ends[1].Do(func() { listener, err = net.Listen("tcp4", l.via[1].String()+":0") })
		return text(err)
	})
	defer listener.Close()
	l.ends[0].Eventually(20*time.Second, func() string {
		l.ends[0].Do(func() {
			client, err = (&net.Dialer{Timeout: time.Second}).Dial("tcp4", listener.Addr().String())
		})
		return text(err)
	})
	if server, err = listener.Accept(); err != nil {
		b.Fatal(err)
	}
	return client, server
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// measure is a round: one TCP stream, then one byte there and back.
func (l *link) measure(b *testing.B, d time.Duration) {
	b.Helper()
	client, server := l.dial(b)
	defer client.Close()
	defer server.Close()
	got := make(chan int64, 1)
	go func() {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{server}, make([]byte, 256<<10))
		got <- n
	}()
	start := time.Now()
	data := make([]byte, 256<<10)
	for time.Since(start) < d {
		if _, err := client.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		b.Fatal(err)
	}
	n := <-got
	l.streams = append(l.streams, float64(n)*8/time.Since(start).Seconds()/1e9)

	client, server = l.dial(b)
	defer client.Close()
	defer server.Close()
	go io.Copy(server, struct{ io.Reader }{server})
	var all []float64
	one := []byte("x")
	for start := time.Now(); time.Since(start) < d/2; {
		sent := time.Now()
		if _, err := client.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, one); err != nil {
			b.Fatal(err)
		}
		all = append(all, float64(time.Since(sent).Nanoseconds())/1000)
	}
	l.latencies = append(l.latencies, middle(all))
}

func middle(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkTunnel is a TCP stream and a byte there and back between two nodes over udp-tunnel, VXLAN, the bare device and,
// where PEER_FLANNELD names one, flanneld's back end udp: in turn, in rounds of one run, so that the ratios hold.
func BenchmarkTunnel(b *testing.B) {
	wire := newWire(b)
	bare := newLink(b, "bare", wire)
	bare.via = [2]netip.Addr{bare.outer(0), bare.outer(1)}
	links := []*link{bare, vxlan(b, wire), udpTunnel(b, wire)}
	if flanneld := os.Getenv("PEER_FLANNELD"); flanneld != "" {
		links = append(links, flannel(b, wire, flanneld))
	} else {
		b.Log("SKIPPED: the comparison with flanneld: PEER_FLANNELD names no flanneld (built with cgo)")
	}
	measureAll(b, links[2], links)
}

// newWire is what connects the nodes.
func newWire(b *testing.B) *nstest.Namespace {
	b.Helper()
	wire := nstest.New(b, "wire")
	wire.Run("ip", "link", "add", "br0", "type", "bridge")
	wire.Run("ip", "addr", "add", "192.168.7.254/24", "dev", "br0")
	wire.Run("ip", "link", "set", "br0", "up")
	return wire
}

// measureAll measures the links in turn, and compares ours with each.
func measureAll(b *testing.B, ours *link, links []*link) {
	b.Helper()
	for b.Loop() {
		for range 3 {
			for _, l := range links {
				l.measure(b, time.Second)
			}
		}
	}
	for _, l := range links {
		stream, latency := middle(l.streams), middle(l.latencies)
		b.ReportMetric(stream, l.name+"-Gbit/s")
		b.ReportMetric(latency, l.name+"-µs")
		if l != ours {
			b.ReportMetric(middle(ours.streams)/stream, "stream-ours/"+l.name)
			b.ReportMetric(middle(ours.latencies)/latency, "latency-ours/"+l.name)
		}
	}
}

func save(b *testing.B, path string, v any) {
	b.Helper()
	if _, err := state.Save(path, v); err != nil {
		b.Fatal(err)
	}
}

// files are a node's input and its one peer.
func (l *link) files(b *testing.B, i int, backend state.Backend, data string) state.Dir {
	b.Helper()
	dir := state.Dir(b.TempDir())
	in := state.BackendInput{Version: 1, Node: fmt.Sprintf("node%d", i), Backend: backend, Interface: state.Interface{Name: "eth0", MTU: 1500}}
	in.Subnet.IPv4, in.PublicIP.IPv4, in.Interface.IP.IPv4 = l.subnet(i), l.outer(i), l.outer(i)
	save(b, dir.Backend(backend.Type), in)
	if err := os.MkdirAll(dir.Peers(), 0o755); err != nil {
		b.Fatal(err)
	}
	peer := state.Peer{Version: 1, Node: fmt.Sprintf("node%d", 1-i), Backend: state.Published{Type: backend.Type, Data: []byte(data)}}
	peer.Subnet.IPv4, peer.PublicIP.IPv4 = l.subnet(1-i), l.outer(1-i)
	save(b, dir.Peer(peer.Node), peer)
	l.via[i] = l.subnet(i).Addr()
	return dir
}

func udpTunnel(b *testing.B, wire *nstest.Namespace) *link {
	b.Helper()
	l := newLink(b, "udp", wire)
	for i, end := range l.ends {
		dir := l.files(b, i, state.Backend{Type: "udp", Port: 8285}, "null")
		end.Run(node.Binary(b, "udp-tunnel"), "apply", "--run-dir", string(dir))
		end.Run("ip", "route", "add", l.subnet(1-i).String(), "dev", "flannel0", "scope", "link")
		l.program(b, i, node.Binary(b, "udp-tunnel"), "watch", "--run-dir", string(dir))
	}
	return l
}

func vxlan(b *testing.B, wire *nstest.Namespace) *link {
	b.Helper()
	l := newLink(b, "vxlan", wire)
	var macs [2]string
	for i, end := range l.ends {
		dir := l.files(b, i, state.Backend{Type: "vxlan", VNI: 1, Port: 8472}, "null")
		end.Run(node.Binary(b, "vxlan-setup"), "apply", "--run-dir", string(dir))
		made, err := state.Load[state.Link](dir.Link())
		if err != nil {
			b.Fatal(err)
		}
		macs[i] = made.Device.IPv4.VtepMAC
	}
	for i, end := range l.ends {
		base, mac := l.subnet(1-i).Addr().String(), macs[1-i]
		end.Run("ip", "neigh", "add", base, "lladdr", mac, "dev", "flannel.1", "nud", "permanent")
		end.Run("bridge", "fdb", "add", mac, "dev", "flannel.1", "dst", l.outer(1-i).String())
		end.Run("ip", "route", "add", l.subnet(1-i).String(), "via", base, "dev", "flannel.1", "onlink")
	}
	return l
}

// flannel is flanneld on both nodes, with an etcd on the wire.
func flannel(b *testing.B, wire *nstest.Namespace, flanneld string) *link {
	b.Helper()
	l := newLink(b, "flannel", wire)
	etcd, err := filepath.Abs(filepath.Join("..", "..", "bin", "cluster", "etcd"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(etcd); err != nil {
		b.Fatalf("%v: tests/cluster/build api makes it", err)
	}
	const url = "http://192.168.7.254:2379"
	store := wire.Command(etcd, "--data-dir", b.TempDir(), "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380",
		"--log-level", "error")
	if err := store.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Process.Kill(); _ = store.Wait() })
	put := func(key, value string) {
		b.Helper()
		encode := base64.StdEncoding.EncodeToString
		body := fmt.Sprintf(`{"key": %q, "value": %q}`, encode([]byte(key)), encode([]byte(value)))
		wire.Eventually(30*time.Second, func() string {
			out, err := wire.Try("curl", "-sS", "-m", "2", "-d", body, url+"/v3/kv/put")
			if err != nil || !strings.Contains(out, "revision") {
				return out
			}
			return ""
		})
	}
	put("/coreos.com/network/config", `{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}`)
	for i := range l.ends {
		dir := b.TempDir()
		env := filepath.Join(dir, "subnet.env")
		l.program(b, i, flanneld, "-etcd-endpoints", url, "-iface", "eth0", "-subnet-file", env, "-iptables-forward-rules=false")
		l.ends[i].Eventually(30*time.Second, func() string {
			text, err := os.ReadFile(env)
			if err != nil {
				return err.Error()
			}
			for line := range strings.Lines(string(text)) {
				if value, ok := strings.CutPrefix(strings.TrimSpace(line), "FLANNEL_SUBNET="); ok {
					p, err := netip.ParsePrefix(value)
					if err != nil {
						return err.Error()
					}
					l.via[i] = p.Masked().Addr()
					return ""
				}
			}
			return "no subnet in " + env
		})
	}
	return l
}
