//go:build netns

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCheckFindsDamage breaks one thing at a time.
func TestCheckFindsDamage(t *testing.T) {
	for _, c := range []struct {
		name, words string
		damage      func(h *host, c container)
	}{
		{"bridge gone", `bridge "cni0" is missing`, func(h *host, _ container) { h.Run("ip", "link", "del", "cni0") }},
		{"bridge down", `bridge "cni0" is down`, func(h *host, _ container) { h.Run("ip", "link", "set", "cni0", "down") }},
		{"gateway gone", "lacks the gateway address 10.244.1.1", func(h *host, _ container) {
			h.Run("ip", "addr", "del", "10.244.1.1/24", "dev", "cni0")
		}},
		{"pair gone", `device "eth0" is missing in the pod`, func(h *host, c container) { h.Run("ip", "link", "del", vethOf(c.id)) }},
		{"host end unplugged", "is no port of bridge", func(h *host, c container) { h.Run("ip", "link", "set", vethOf(c.id), "nomaster") }},
		{"host end down", "is down", func(h *host, c container) { h.Run("ip", "link", "set", vethOf(c.id), "down") }},
		{"hairpin off", "has hairpin false", func(h *host, c container) { h.Run("bridge", "link", "set", "dev", vethOf(c.id), "hairpin", "off") }},
		{"another pair", "is missing", func(h *host, c container) {
			h.Run("ip", "link", "set", vethOf(c.id), "name", "elsewhere")
		}},
		{"pod's end down", `"eth0" in the pod is down`, func(_ *host, c container) { c.Run("ip", "link", "set", "eth0", "down") }},
		{"pod's MAC", "has the MAC 02:00:00:00:00:01", func(_ *host, c container) {
			c.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:01")
		}},
		{"pod's MTU", `"eth0" in the pod has the MTU 1300, not 1430`, func(_ *host, c container) {
			c.Run("ip", "link", "set", "eth0", "mtu", "1300")
		}},
		{"host end's MTU", `"eth0" in the pod has the MTU 1430, its host end 1300`, func(h *host, c container) {
			h.Run("ip", "link", "set", vethOf(c.id), "mtu", "1300")
		}},
		{"pod's v4 address", "lacks the address 10.244.1.2/24", func(_ *host, c container) {
			c.Run("ip", "addr", "add", "10.244.1.99/24", "dev", "eth0")
			c.Run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
			c.Run("ip", "addr", "del", "10.244.1.2/24", "dev", "eth0")
		}},
		{"pod's v6 address", "lacks the address fd00:10:0:1::2/64", func(_ *host, c container) {
			c.Run("ip", "addr", "del", "fd00:10:0:1::2/64", "dev", "eth0")
		}},
		{"default route", "lacks its route to 0.0.0.0/0", func(_ *host, c container) { c.Run("ip", "route", "del", "default") }},
		{"network's route", "lacks its route to fd00:10::/48", func(_ *host, c container) { c.Run("ip", "-6", "route", "del", "fd00:10::/48") }},
		{"reservation gone", "address 10.244.1.2 is not reserved", func(h *host, _ container) { os.Remove(filepath.Join(h.ipam, "cbr0", "10.244.1.2")) }},
		{"reservation of another", "address 10.244.1.2 is not reserved", func(h *host, _ container) {
			h.write(filepath.Join(h.ipam, "cbr0", "10.244.1.2"), "someone\r\neth0")
		}},
		{"endpoint gone", "endpoint", func(h *host, c container) { os.Remove(h.run.Endpoint(c.id, "eth0")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, pod := newHost(t, envDual), newContainer(t, "a")
			conf := h.conf("1.0.0", nil)
			conf["prevResult"] = asVersion(t, h.add(pod, h.conf("1.0.0", nil)), "1.0.0")
			h.must("CHECK", pod, conf)
			c.damage(h, pod)
			h.fails(damaged, c.words, "CHECK", pod, conf)
		})
	}
	h, pod := newHost(t, envV4), newContainer(t, "a")
	h.add(pod, h.conf("1.0.0", nil))
	h.fails(7, "prevResult", "CHECK", pod, h.conf("1.0.0", nil))
}

// TestGC removes what the runtime no longer knows, and nothing else.
func TestGC(t *testing.T) {
	h := newHost(t, envV4)
	keep, lost := newContainer(t, "keep"), newContainer(t, "lost")
	for _, c := range []container{keep, lost} {
		h.add(c, h.conf("1.1.0", nil))
	}
	dir := filepath.Join(h.ipam, "cbr0")
	h.write(filepath.Join(dir, "10.244.1.100"), "of-host-local\r\neth0")
	h.write(filepath.Join(dir, "10.244.1.101"), "of-old-host-local")
	h.write(filepath.Join(dir, "10.244.1.102"), "") // killed between making and filling it
	h.write(filepath.Join(dir, "10.244.1.103"), "keep-host-local\r\neth0")
	h.write(h.run.Endpoint("orphan", "eth0"), `{"version":1,"network":"cbr0","containerID":"orphan","interface":"eth0","ip":{}}`)
	h.write(h.run.Endpoint("other", "eth0"), `{"version":1,"network":"other","containerID":"other","interface":"eth0","ip":{}}`)
	h.fails(7, "valid-attachments", "GC", container{}, h.conf("1.1.0", nil))
	if n := len(h.reserved()); n != 6 {
		t.Errorf("GC without a list removed something: %v", h.reserved())
	}
	valid := []map[string]string{{"containerID": "keep", "ifname": "eth0"}, {"containerID": "keep-host-local", "ifname": "eth0"}}
	h.must("GC", container{}, h.conf("1.1.0", map[string]any{validAttachments: valid}))
	want := map[string]string{"10.244.1.2": "keep\r\neth0", "10.244.1.103": "keep-host-local\r\neth0"}
	if got := h.reserved(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("reserved: %v", got)
	}
	keep.Run("ping", "-c1", "-W5", "10.244.1.1")
	if out := lost.Run("ip", "-br", "link"); strings.Contains(out, "eth0") {
		t.Errorf("the lost pod still has eth0:\n%s", out)
	}
	names, _ := readNames(h.run.Endpoints())
	slices.Sort(names)
	if fmt.Sprint(names) != "[keep-eth0.json other-eth0.json]" {
		t.Errorf("endpoints: %v", names)
	}
	h.must("GC", container{}, h.conf("1.1.0", map[string]any{validAttachments: []string{}}))
	os.Remove(h.run.Endpoint("other", "eth0"))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestHostLocalNode takes a node over whose pods have host-local's reservations.
func TestHostLocalNode(t *testing.T) {
	h := newHost(t, envV4)
	dir := filepath.Join(h.ipam, "cbr0")
	h.write(filepath.Join(dir, "10.244.1.2"), "old\r\neth0")
	h.write(filepath.Join(dir, "10.244.1.3"), "older")
	h.write(filepath.Join(dir, "10.244.1.5"), "third\r\neth0")
	h.write(filepath.Join(dir, "last_reserved_ip.0"), "10.244.1.3")
	h.write(filepath.Join(dir, "lock"), "")
	a, b := newContainer(t, "a"), newContainer(t, "b")
	if got := addrOf(h.add(a, h.conf("1.0.0", nil)), 0); got != "10.244.1.4" {
		t.Errorf("the address after the last reserved one is 10.244.1.4, not %s", got)
	}
	if got := addrOf(h.add(b, h.conf("1.0.0", nil)), 0); got != "10.244.1.6" {
		t.Errorf("10.244.1.5 is taken: %s", got)
	}
	if last, _ := os.ReadFile(filepath.Join(dir, "last_reserved_ip.0")); string(last) != "10.244.1.6" {
		t.Errorf("last_reserved_ip.0: %q", last)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "10.244.1.4")); string(data) != "a\r\neth0" {
		t.Errorf("reservation: %q", data)
	}
	names, _ := readNames(dir)
	slices.Sort(names)
	if got := fmt.Sprint(names); got != "[10.244.1.2 10.244.1.3 10.244.1.4 10.244.1.5 10.244.1.6 last_reserved_ip.0 lock]" {
		t.Errorf("the directory holds what host-local does not know: %s", got)
	}
	// Back to host-local, which gives and takes, and to us again.
	os.Remove(filepath.Join(dir, "10.244.1.4"))
	h.write(filepath.Join(dir, "10.244.1.7"), "between\r\neth0")
	h.write(filepath.Join(dir, "10.244.1.4"), "reused\r\neth0")
	h.must("DEL", a, h.conf("1.0.0", nil))
	for _, c := range []string{"old", "older", "third", "between"} {
		h.must("DEL", container{id: c}, h.conf("1.0.0", nil))
	}
	h.must("DEL", b, h.conf("1.0.0", nil))
	if got := fmt.Sprint(h.reserved()); got != fmt.Sprint(map[string]string{"10.244.1.4": "reused\r\neth0"}) {
		t.Errorf("reserved: %s", got)
	}
}

// TestFlannelPod deletes a pod that the reference chain made.
func TestFlannelPod(t *testing.T) {
	h, pod := newHost(t, envV4), newContainer(t, "old")
	h.Run("ip", "link", "add", "cni0", "type", "bridge")
	h.Run("ip", "link", "add", "veth12345678", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Name)
	h.write(filepath.Join(h.ipam, "cbr0", "10.244.1.2"), "old\r\neth0")
	h.write(filepath.Join(h.state, "old"), `{"type":"bridge","name":"cbr0"}`)
	h.must("DEL", pod, h.conf("1.0.0", nil))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestManyAtOnce adds and deletes 200 pods at once and kills some of the calls midway: no address is
// given twice, and nothing is left when the runtime has retried or collected.
func TestManyAtOnce(t *testing.T) {
	const pods = 200
	h := newHost(t, strings.ReplaceAll(envDual, "10.244.1.1/24", "10.244.0.1/20"))
	all := make([]container, pods)
	for i := range all {
		all[i] = newContainer(t, fmt.Sprint("pod", i))
	}
	conf := h.conf("1.1.0", nil)
	each := func(what string, f func(i int)) {
		t.Helper()
		var wait sync.WaitGroup
		slots := make(chan struct{}, 32)
		for i := range all {
			wait.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				f(i)
			})
		}
		wait.Wait()
		if t.Failed() {
			t.Fatal(what)
		}
	}
	// Every third call is killed after a time in which it may be anywhere.
	killed := func(verb string, i int) bool {
		if i%3 != 0 {
			return false
		}
		cmd := h.command(verb, all[i], conf)
		var err error
		h.Do(func() { err = cmd.Start() })
		if err != nil {
			t.Error(err)
			return true
		}
		after := time.NewTimer(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		defer after.Stop()
		<-after.C
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		return true
	}
	addrs := make([]string, pods)
	each("ADD", func(i int) {
		if killed("ADD", i) && i%2 == 0 {
			return // never retried: GC's
		}
		r := h.add(all[i], conf)
		addrs[i] = addrOf(r, 0) + " " + addrOf(r, 1)
	})
	seen := map[string]int{}
	for i, a := range addrs {
		if j, twice := seen[a]; twice && a != "" {
			t.Errorf("%s is given to %s and %s", a, all[i].id, all[j].id)
		}
		seen[a] = i
	}
	each("CHECK by ping", func(i int) {
		if addrs[i] != "" && i%20 == 1 {
			all[i].Run("ping", "-c1", "-W10", "10.244.0.1")
		}
	})
	var valid []map[string]string
	for i := range all {
		if addrs[i] != "" {
			valid = append(valid, map[string]string{"containerID": all[i].id, "ifname": "eth0"})
		}
	}
	h.must("GC", container{}, h.conf("1.1.0", map[string]any{validAttachments: valid}))
	if got, want := len(h.reserved()), 2*len(valid); got != want {
		t.Errorf("after GC %d addresses are reserved for %d pods", got, len(valid))
	}
	each("DEL", func(i int) {
		if addrs[i] == "" || killed("DEL", i) && i%2 == 0 {
			return
		}
		h.must("DEL", all[i], conf)
	})
	h.must("GC", container{}, h.conf("1.1.0", map[string]any{validAttachments: []string{}}))
	if left := h.leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
