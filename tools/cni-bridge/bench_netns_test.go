//go:build netns

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
)

// chain is a CNI plugin to measure: ours, or a peer's with all that it starts.
type chain struct {
	name string
	bin  string
	conf string
	dir  string // of its network below host-local's directory
}

const benchEnv = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.0.1/19\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

func (h *host) chains(peers string) []chain {
	h.t.Helper()
	marshal := func(conf map[string]any) string {
		data, err := json.Marshal(conf)
		if err != nil {
			h.t.Fatal(err)
		}
		return string(data)
	}
	ours := chain{name: "cni-bridge", bin: h.bin, conf: marshal(h.conf("1.0.0", nil)), dir: filepath.Join(h.ipam, "cbr0")}
	if peers == "" {
		return []chain{ours}
	}
	conf := h.conf("1.0.0", map[string]any{
		"type": "flannel", "name": "peer",
		"delegate": map[string]any{"hairpinMode": true, "isDefaultGateway": true, "bridge": "cni1"},
	})
	delete(conf, "runDir")
	h.path = peers
	return []chain{ours, {name: "flannel", bin: filepath.Join(peers, "flannel"), conf: marshal(conf), dir: filepath.Join(h.ipam, "peer")}}
}

// fill takes addresses as 4,000 pods before have.
func (c chain) fill(tb testing.TB, used int) {
	tb.Helper()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	ip := netip.MustParseAddr("10.244.0.1")
	for i := range used {
		ip = ip.Next()
		if err := os.WriteFile(filepath.Join(c.dir, ip.String()), fmt.Appendf(nil, "other%d\r\neth0", i), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if used > 0 {
		if err := os.WriteFile(filepath.Join(c.dir, "last_reserved_ip.0"), []byte(ip.String()), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// run calls the plugin once and returns how long it took.
func (c chain) run(h *host, verb string, n int, netns string) time.Duration {
	h.t.Helper()
	cmd := exec.Command(c.bin)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + verb, fmt.Sprintf("CNI_CONTAINERID=%s-%d", c.name, n), "CNI_IFNAME=eth0",
		"CNI_PATH=" + h.path, "CNI_NETNS=" + netns, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=dev;K8S_POD_NAME=a",
	}
	cmd.Stdin = strings.NewReader(c.conf)
	var took time.Duration
	h.Do(func() {
		start := time.Now()
		out, err := cmd.Output()
		took = time.Since(start)
		if err != nil {
			h.t.Errorf("%s %s: %v: %s", c.name, verb, err, out)
		}
	})
	return took
}

// BenchmarkAdd measures ADD as a container runtime sees it: a process from start to end.
func BenchmarkAdd(b *testing.B) {
	for _, used := range []int{0, 4000} {
		for _, parallel := range []int{1, 8} {
			b.Run(fmt.Sprintf("used=%d/parallel=%d", used, parallel), func(b *testing.B) {
				h := newHost(b, benchEnv)
				c := h.chains("")[0]
				c.fill(b, used)
				var all []time.Duration
				for b.Loop() {
					b.StopTimer()
					all = append(all, round(h, []chain{c}, parallel, b.StartTimer, b.StopTimer)[0]...)
					b.StartTimer()
				}
				report(b, "", all)
			})
		}
	}
}

// BenchmarkAddPolicy runs ADD without and with the wait for a policy in turn, beside a loader that covers
// each endpoint at once; loader is the time that it takes for that, which is no time of ADD's.
func BenchmarkAddPolicy(b *testing.B) {
	for _, parallel := range []int{1, 8} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			h := newHost(b, benchEnv)
			open := h.chains("")[0]
			data, err := json.Marshal(h.policed("1.0.0", nil))
			if err != nil {
				b.Fatal(err)
			}
			closed := open
			closed.name, closed.conf = "policed", string(data)
			l := &loader{h: h}
			stop := l.run()
			chains := []chain{open, closed}
			round(h, chains, 1, func() {}, func() {})
			all := make([][]time.Duration, len(chains))
			for b.Loop() {
				b.StopTimer()
				for i, took := range round(h, chains, parallel, b.StartTimer, b.StopTimer) {
					all[i] = append(all[i], took...)
				}
				b.StartTimer()
			}
			stop()
			for i, c := range chains {
				report(b, c.name+"-", all[i])
				sorted := slices.Sorted(slices.Values(all[i]))
				b.ReportMetric(float64(sorted[len(sorted)*99/100].Microseconds())/1000, c.name+"-p99-ms")
			}
			p50, _ := percentiles(l.took)
			b.ReportMetric(p50, "loader-p50-ms")
		})
	}
}

// BenchmarkAddBeside runs ours and the peer's chain in turn, so that both see the same machine, and
// prints both and their ratios. PEER_CNI_BIN names a directory with the peer's flannel, bridge and
// host-local.
func BenchmarkAddBeside(b *testing.B) {
	peers := os.Getenv("PEER_CNI_BIN")
	if peers == "" {
		b.Skip("PEER_CNI_BIN is not set: no directory with flannel, bridge and host-local to compare with")
	}
	for _, used := range []int{0, 4000} {
		for _, parallel := range []int{1, 8} {
			b.Run(fmt.Sprintf("used=%d/parallel=%d", used, parallel), func(b *testing.B) {
				h := newHost(b, benchEnv)
				chains := h.chains(peers)
				for _, c := range chains {
					c.fill(b, used)
				}
				round(h, chains, 1, func() {}, func() {}) // bridges are made, pages are read
				all := make([][]time.Duration, len(chains))
				for b.Loop() {
					b.StopTimer()
					for i, took := range round(h, chains, parallel, b.StartTimer, b.StopTimer) {
						all[i] = append(all[i], took...)
					}
					b.StartTimer()
				}
				for i, c := range chains {
					report(b, c.name+"-", all[i])
				}
				ours50, ours95 := percentiles(all[0])
				peer50, peer95 := percentiles(all[1])
				b.ReportMetric(ours50/peer50, "ratio-p50")
				b.ReportMetric(ours95/peer95, "ratio-p95")
			})
		}
	}
}

// round adds and deletes as many containers at once with each chain, in turn.
func round(h *host, chains []chain, parallel int, start, stop func()) [][]time.Duration {
	h.t.Helper()
	all := make([][]time.Duration, len(chains))
	for i, c := range chains {
		var names []string
		for n := range parallel {
			name := fmt.Sprintf("bench-%s-%d", c.name, n)
			nstest.Run(h.t, "ip", "netns", "add", name)
			names = append(names, name)
		}
		all[i] = make([]time.Duration, parallel)
		start()
		var wait sync.WaitGroup
		for n, name := range names {
			wait.Go(func() { all[i][n] = c.run(h, "ADD", n, "/run/netns/"+name) })
		}
		wait.Wait()
		stop()
		for n, name := range names {
			c.run(h, "DEL", n, "/run/netns/"+name)
			nstest.Run(h.t, "ip", "netns", "del", name)
		}
	}
	return all
}

// percentiles are the median and the 95th percentile, milliseconds.
func percentiles(all []time.Duration) (p50, p95 float64) {
	sorted := slices.Sorted(slices.Values(all))
	at := func(p int) float64 { return float64(sorted[len(sorted)*p/100].Microseconds()) / 1000 }
	return at(50), at(95)
}

func report(b *testing.B, prefix string, all []time.Duration) {
	p50, p95 := percentiles(all)
	b.ReportMetric(p50, prefix+"p50-ms")
	b.ReportMetric(p95, prefix+"p95-ms")
	b.ReportMetric(0, "ns/op")
}
