//go:build cluster

package cluster

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The API server is away: pods talk on, a pod whose sandbox dies gets a new one with an address, and when the API server is back,
// towpath does not storm it.
func TestOutage(t *testing.T) {
	away, err := time.ParseDuration(cmp.Or(os.Getenv("CLUSTER_OUTAGE"), "60s"))
	if err != nil {
		t.Fatal(err)
	}
	ns := namespace(t, "outage")
	pods := start(t, ns, "", "a@worker01", "b@worker02", "again@worker02")
	a, b, again := &pods[0], &pods[1], &pods[2]
	since := time.Now()
	flows := []*flow{ping(t, a, a.node, b.ip), ping(t, b, b.node, a.ip), ping(t, nil, "worker01", a.ip)}

	script(t, "service", name+"/api", "stop", "kube-apiserver")
	begun := time.Now()
	started := false
	t.Cleanup(func() {
		if !started {
			script(t, "service", name+"/api", "start", "kube-apiserver")
		}
	})
	old := again.pid(t)
	in(t, again.node, "kill", "-KILL", old)
	var address string
	poll(t, "a new sandbox without the API server", func() error {
		pid, err := again.tryPID()
		if err != nil {
			return err
		}
		if pid == "" || pid == old {
			return fmt.Errorf("process %q, was %q", pid, old)
		}
		out, err := try(again.node, "nsenter", "-n", "-t", pid, "ip", "-4", "-br", "addr", "show", "eth0")
		if err != nil {
			return err
		}
		fields := strings.Fields(out)
		if len(fields) < 3 {
			return fmt.Errorf("no address in %q", out)
		}
		address, _, _ = strings.Cut(fields[2], "/")
		return nil
	})
	t.Logf("%s after %.1f s without the API server: new sandbox with %s", again.name, time.Since(begun).Seconds(), address)
	poll(t, "the new sandbox from the other node", func() error {
		_, err := try(a.node, "nsenter", "-n", "-t", a.pid(t), "ping", "-n", "-q", "-c", "3", "-i", "0.1", address)
		return err
	})
	if rest := away - time.Since(begun); rest > 0 {
		<-time.After(rest)
	}
	script(t, "service", name+"/api", "start", "kube-apiserver")
	started = true
	poll(t, "API server", func() error { _, err := try("api", "kubectl", "get", "--raw", "/readyz"); return err })
	back := time.Now()
	ready(t)
	start(t, ns, "", "after@worker01")
	<-time.After(15*time.Second - time.Since(back)) // the time that is counted
	none(t, since, flows...)
	again.wait(t)
	again.reaches(t, "http://"+a.ip+":8080/hostname", "a")
	count(t, begun)
}

// count prints how many requests towpath and all sent in the seconds after the outage, and fails for more than a few of ours at once.
func count(t *testing.T, from time.Time) {
	t.Helper()
	file, err := os.Open(filepath.Join(stateDir(), name, "log", "api", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ours, all := map[int64]int{}, map[int64]int{}
	var first int64
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			User                     struct{ Username string }
			RequestReceivedTimestamp time.Time
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.RequestReceivedTimestamp.Before(from.Add(2*time.Second)) {
			continue // a line that is being written; a request that was under way when it went
		}
		second := e.RequestReceivedTimestamp.Unix()
		if first == 0 {
			first = second
		}
		all[second]++
		if e.User.Username == "system:serviceaccount:towpath:towpath" {
			ours[second]++
		}
	}
	peak, sum := 0, 0
	for second := first; second < first+15; second++ {
		t.Logf("second %2d after the return: %3d requests of towpath, %3d of all", second-first, ours[second], all[second])
		peak, sum = max(peak, ours[second]), sum+ours[second]
	}
	if sum == 0 {
		t.Error("no request of towpath after the return")
	}
	if limit := 15 * len(nodes(t)); peak > limit { // a listing and a watch of four kinds, and what a node publishes
		t.Errorf("%d requests in a second, at most %d are expected", peak, limit)
	}
}
