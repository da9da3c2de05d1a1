//go:build netns

// Package bench measures NetworkPolicy as a whole: files to verdicts, and what the rules cost packets.
package bench

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/objects"
	"github.com/towpath/towpath/tests/probe"
)

func TestMain(m *testing.M) { nstest.Main(m.Run) }

var pods = netip.MustParsePrefix("10.244.1.0/24")

// sizes of clusters. 110 pods are the node's own.
var sizes = []objects.Cluster{
	{Pods: 1000, Policies: 100, Local: 110},
	{Pods: 10_000, Policies: 1000, Local: 110},
	{Pods: 100_000, Policies: 10_000, Local: 110},
}

func name(c objects.Cluster) string { return fmt.Sprintf("pods=%d/policies=%d", c.Pods, c.Policies) }

// site is a router with a run directory and manifests.
type site struct {
	*probe.Router
	b        *testing.B
	dir, run string
	objects  string
}

func newSite(b *testing.B, c objects.Cluster) *site {
	b.Helper()
	s := &site{Router: probe.NewRouter(b, pods), b: b, dir: b.TempDir()}
	s.run, s.objects = filepath.Join(s.dir, "run"), filepath.Join(s.dir, "objects")
	if err := c.Write(s.objects); err != nil {
		b.Fatal(err)
	}
	lease := state.Lease{
		Version: state.Version, Node: "node1", Backend: state.Backend{Type: "vxlan", VNI: 1, Port: 8472}, Interface: state.Interface{Name: "eth0", MTU: 1500},
	}
	lease.PublicIP.Set(state.IPv4, netip.MustParseAddr("192.168.7.1"))
	lease.Interface.IP = lease.PublicIP
	lease.Network.Set(state.IPv4, netip.MustParsePrefix("10.0.0.0/8"))
	lease.Subnet.Set(state.IPv4, pods)
	text, err := json.Marshal(lease)
	if err == nil {
		err = os.MkdirAll(filepath.Join(s.run, "endpoints"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(s.run, "lease.json"), text, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// write puts a manifest in place, as programs write files.
func (s *site) write(name, text string) {
	s.b.Helper()
	write(s.b, filepath.Join(s.objects, name+".yaml"), text)
}

func write(b *testing.B, path, text string) {
	b.Helper()
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		b.Fatal(err)
	}
}

// start runs a program in the router's namespace; it is killed at the end.
func (s *site) start(program, verb string, more ...string) *exec.Cmd {
	s.b.Helper()
	args := append([]string{"--net=" + s.Path, "--", node.Binary(s.b, program), verb, "--run-dir", s.run, "--log-level", "warn"}, more...)
	cmd := exec.Command("nsenter", args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// policies starts both programs and returns when everything is in the kernel.
func (s *site) policies() (render, load *exec.Cmd) {
	s.b.Helper()
	render = s.start("policy-render", "watch", "--objects", s.objects)
	written := func() bool {
		_, err := os.Stat(filepath.Join(s.run, "policy.nft"))
		return err == nil
	}
	s.await("written", written)
	load = s.start("policy-load", "watch") // as the supervisor does
	s.await("loaded", s.loaded)
	return render, load
}

func (s *site) await(what string, done func() bool) {
	s.b.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); {
		if time.Now().After(deadline) {
			s.b.Fatalf("no policy is %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func (s *site) loaded() bool {
	l, err := state.Load[state.PolicyLoaded](filepath.Join(s.run, "policy.loaded.json"))
	if err != nil {
		return false
	}
	text, err := os.ReadFile(filepath.Join(s.run, "policy.nft"))
	return err == nil && strings.Contains(string(text[:min(len(text), 200)]), "# generation "+l.Generation+"\n")
}

// memory is a process' peak of resident memory, in MiB.
func memory(b *testing.B, cmd *exec.Cmd) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// report reports percentiles in milliseconds.
func report(b *testing.B, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	for _, p := range []int{50, 95, 99} {
		b.ReportMetric(float64(all[min(len(all)-1, len(all)*p/100)].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCold is a node that starts: manifests on disk to rules in the kernel, seen by a packet that they deny.
func BenchmarkCold(b *testing.B) {
	for _, c := range sizes {
		b.Run(name(c), func(b *testing.B) {
			var all []time.Duration
			var peak [3]float64
			for b.Loop() {
				b.StopTimer()
				s := newSite(b, c)
				denied := probe.Probe{Packet: probe.Packet{From: netip.MustParseAddr("192.0.2.1"), To: c.Pod(0).Address, Protocol: probe.TCP, Port: 7}}
				if !s.Pass([]probe.Probe{denied})[0] {
					b.Fatal("without rules it does not pass")
				}
				b.StartTimer()
				start := time.Now()
				render, load := s.policies()
				all = append(all, time.Since(start))
				b.StopTimer()
				if s.Pass([]probe.Probe{denied})[0] {
					b.Fatal("with the rules it passes")
				}
				peak[0], peak[1] = max(peak[0], memory(b, render)), max(peak[1], memory(b, load))
				for _, cmd := range []*exec.Cmd{load, render} {
					cmd.Process.Kill()
					cmd.Wait()
				}
				nft := s.Command("nft", "-f", filepath.Join(s.run, "policy.nft"))
				if out, err := nft.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				peak[2] = max(peak[2], float64(nft.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024)
				b.StartTimer()
			}
			report(b, all)
			for i, what := range []string{"render-MiB", "load-MiB", "nft-MiB"} {
				b.ReportMetric(peak[i], what)
			}
		})
	}
}
