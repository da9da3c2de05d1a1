//go:build netns

package bench

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/lib/kube/apitest"
	"github.com/towpath/towpath/tests/node"
	"github.com/towpath/towpath/tests/objects"
	"github.com/towpath/towpath/tests/probe"
)

// emptyNamespaces make a thousand of a cluster's hundred.
const emptyNamespaces = 900

// liveSite is a site whose objects are those of a real API server.
type liveSite struct {
	*site
	api *apitest.Server
}

func newLiveSite(b *testing.B, c objects.Cluster) *liveSite {
	b.Helper()
	s := &liveSite{site: newSite(b, objects.Cluster{Pods: 1, Policies: 1, Local: 1, Namespaces: 1}), api: apitest.Start(b)}
	all := map[string]string{}
	if err := c.Stored(emptyNamespaces, func(key, object string) { all[key] = object }); err != nil {
		b.Fatal(err)
	}
	s.api.Store(all)
	s.api.Do("GET", "/api/v1/pods?limit=1&resourceVersion=", "") // the API server has all of it
	return s
}

// live starts both programs and returns when everything is in the kernel. policy-render runs where the API server is.
func (s *liveSite) live() (render, load *exec.Cmd) {
	s.b.Helper()
	render = exec.Command(node.Binary(s.b, "policy-render"), "watch", "--run-dir", s.run, "--log-level", "warn", "--kubeconfig", s.api.Kubeconfig(apitest.Admin))
	render.Stderr = os.Stderr
	if err := render.Start(); err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(func() {
		render.Process.Kill()
		render.Wait()
	})
	s.await("written", func() bool {
		_, err := os.Stat(filepath.Join(s.run, "policy.nft"))
		return err == nil
	})
	load = s.start("policy-load", "watch")
	s.await("loaded", func() bool {
		text, err := os.ReadFile(filepath.Join(s.run, "policy/inet/maps/ingress4.nft"))
		return err == nil && bytes.Contains(text, []byte("ns-0/pod-0")) && s.loaded()
	})
	return render, load
}

// cpu is a process' seconds of processor.
func cpu(b *testing.B, cmd *exec.Cmd) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100
}

// BenchmarkLiveCold is a node that starts: objects of a real API server to rules in the kernel.
func BenchmarkLiveCold(b *testing.B) {
	c := sizes[1]
	b.Run(name(c)+"/namespaces=1000", func(b *testing.B) {
		s := newLiveSite(b, c)
		denied := probe.Probe{Packet: probe.Packet{From: netip.MustParseAddr("192.0.2.1"), To: c.Pod(0).Address, Protocol: probe.TCP, Port: 7}}
		var all []time.Duration
		var peak, used [2]float64
		for b.Loop() {
			start := time.Now()
			render, load := s.live()
			all = append(all, time.Since(start))
			b.StopTimer()
			if s.Pass([]probe.Probe{denied})[0] {
				b.Fatal("with the rules it passes")
			}
			for i, cmd := range []*exec.Cmd{render, load} {
				peak[i], used[i] = max(peak[i], memory(b, cmd)), max(used[i], cpu(b, cmd))
				cmd.Process.Kill()
				cmd.Wait()
			}
			s.Run("nft", "flush", "ruleset")
			for _, path := range []string{"policy", "policy.nft", "policy.loaded.json"} {
				if err := os.RemoveAll(filepath.Join(s.run, path)); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
		}
		report(b, all)
		for i, what := range []string{"render", "load"} {
			b.ReportMetric(peak[i], what+"-MiB")
			b.ReportMetric(used[i], what+"-cpu-s")
		}
	})
}

// BenchmarkLiveChange is BenchmarkChange with changes that go through the API server: from the request to the first packet with
// the new fate.
func BenchmarkLiveChange(b *testing.B) {
	c := sizes[1]
	for _, what := range []string{"label", "policy"} {
		b.Run(name(c)+"/"+what, func(b *testing.B) {
			notices(b)
			s := newLiveSite(b, c)
			visitor := "/api/v1/namespaces/ns-0/pods/visitor"
			s.api.Do("POST", "/api/v1/namespaces/ns-0/pods", `{"metadata":{"name":"visitor","labels":{"app":"guest"}},"spec":{"nodeName":"node2","containers":[{"name":"main","image":"none"}]}}`)
			s.api.Do("PATCH", visitor+"/status", `{"status":{"phase":"Running","podIP":"10.250.0.1","podIPs":[{"ip":"10.250.0.1"}]}}`)
			label := func(on bool) {
				s.api.Do("PATCH", visitor, fmt.Sprintf(`{"metadata":{"labels":{"app":%q}}}`, map[bool]string{true: "guest", false: "visitor"}[on]))
			}
			guests := "/apis/networking.k8s.io/v1/namespaces/ns-0/networkpolicies"
			spec := func(port int) string {
				return fmt.Sprintf(`{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"guest"}}}],"ports":[{"port":%d}]}]}`, port)
			}
			s.api.Do("POST", guests, `{"metadata":{"name":"guests"},"spec":`+spec(7)+`}`)
			s.live()
			p := probe.Probe{Packet: probe.Packet{From: netip.MustParseAddr("10.250.0.1"), To: c.Pod(0).Address, Protocol: probe.TCP, Port: 7}}
			on := true
			s.flip(p, on, time.Now())
			var all, answered []time.Duration
			for b.Loop() {
				on = !on
				start := time.Now()
				if what == "label" {
					label(on)
				} else {
					s.api.Do("PATCH", guests+"/guests", `{"spec":`+spec(map[bool]int{true: 7, false: 8}[on])+`}`)
				}
				answered = append(answered, time.Since(start))
				all = append(all, s.flip(p, on, start))
			}
			report(b, all)
			b.ReportMetric(float64(median(answered).Microseconds())/1000, "answer-p50-ms")
		})
	}
}

// notices fails where the kernel has no inotify instances to give: the programs would then look at their files once a second,
// and that would be measured.
func notices(b *testing.B) {
	b.Helper()
	for range 4 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			b.Fatalf("other programs of this machine hold all inotify instances (fs.inotify.max_user_instances): %v", err)
		}
		defer unix.Close(fd)
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
