//go:build netns

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/lib/nl"
	"github.com/towpath/towpath/lib/nstest"
	"github.com/towpath/towpath/lib/state"
)

// prompt is far more than a repair by event takes, and far less than the period of 30 s.
const prompt = 12 * time.Second

// generationOf is the kernel's in a namespace.
func generationOf(t testing.TB, n *nstest.Namespace) (g uint32) {
	t.Helper()
	n.Do(func() {
		var err error
		if g, err = nl.NFTGeneration(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestDriftIsPutBack(t *testing.T) {
	n := nstest.New(t, "drift")
	dir := state.Dir(t.TempDir())
	w := newWorld(12, 6, 9, 20)
	w.write(t, dir)
	watched(t, n, dir)
	good := listing(n)
	for _, c := range []struct{ what, command string }{
		{"ruleset flushed", "flush ruleset"},
		{"table deleted", "delete table inet towpath-policy"},
		{"bridge table deleted", "delete table bridge towpath-policy"},
		{"table flushed", "flush table inet towpath-policy"},
		{"chain flushed", "flush chain inet towpath-policy ingress"},
		{"rule inserted", "insert rule inet towpath-policy forward accept"},
		{"element added", "add element inet towpath-policy sel4-0001 { 203.0.113.9 }"},
		{"element deleted", "delete element inet towpath-policy egress4 { 10.244.0.3 }"},
		{"set added", "add set inet towpath-policy extra { type ipv4_addr; }"},
		{"policy changed", "chain inet towpath-policy forward { policy drop; }"},
		// A reload of somebody else's firewall, in one transaction.
		{"reload of another", "flush ruleset; table ip other { chain c { type filter hook forward priority 0; }; }"},
	} {
		n.Run("nft", c.command)
		took := n.Eventually(prompt, func() string {
			for _, family := range []string{"inet", "bridge"} {
				if _, err := n.Try("nft", "list", "table", family, "towpath-policy"); err != nil {
					return "no table " + family
				}
			}
			return cmp.Diff(strings.Split(good, "\n"), strings.Split(listing(n), "\n"))
		})
		t.Logf("%s: put back within %v", c.what, took.Round(time.Millisecond))
	}
}

// TestOthersCostNothing: transactions on other tables lead to no write, also between our own, and a restart after them
// finds nothing to do.
func TestOthersCostNothing(t *testing.T) {
	n := nstest.New(t, "others")
	dir := state.Dir(t.TempDir())
	w := newWorld(12, 6, 9, 20)
	w.write(t, dir)
	ctx, end := context.WithCancel(t.Context())
	var changes <-chan nl.NFTChange
	n.Do(func() {
		var err error
		if changes, err = nl.WatchNFT(ctx); err != nil {
			t.Error(err)
		}
	})
	done := make(chan int)
	go func() {
		count := 0
		for {
			select {
			case <-ctx.Done():
				done <- count
				return
			case c := <-changes:
				if c.Lost {
					count = -1000
				} else if touches(c) {
					count++
				}
			}
		}
	}()
	cmd := watched(t, n, dir)
	n.Run("nft", "table ip kube-proxy { chain services { }; set s { type ipv4_addr; }; }")
	loads := 1
	for i := range 40 {
		n.Run("nft", fmt.Sprintf("add rule ip kube-proxy services accept; flush set ip kube-proxy s; add element ip kube-proxy s { 10.0.0.%d }", i+1))
		if i%4 == 0 {
			before := w.write(t, dir)
			w.sets[1] = append(w.sets[1], 4000+i)
			after := w.write(t, dir)
			if before == after {
				t.Fatal("nothing changed")
			}
			loads++
			n.Eventually(prompt, func() string {
				if r, _, _ := readRecord(dir); r.Generation != after {
					return "not loaded"
				}
				return ""
			})
		}
	}
	n.Run("nft", "add rule ip kube-proxy services accept")
	last := generationOf(t, n)
	stop(t, cmd)
	n.Eventually(prompt, func() string {
		if r, _, _ := readRecord(dir); r.Kernel != last {
			return fmt.Sprintf("policy.loaded.json says %d, the kernel is at %d", r.Kernel, last)
		}
		return ""
	})
	if out := n.Run("policy-load", "apply", "--run-dir", string(dir)); out != "" {
		t.Errorf("apply after a restart:\n%.300s", out)
	}
	n.Eventually(prompt, func() string {
		if generationOf(t, n) != last {
			return "the restart wrote"
		}
		return ""
	})
	end()
	if got := <-done; got != loads {
		t.Errorf("%d transactions on our tables, want %d", got, loads)
	}
}

// TestWatchRefused: the old rules stay in force, the record says why, drift is put back all the same, and the next good
// policy.nft is taken.
func TestWatchRefused(t *testing.T) {
	n := nstest.New(t, "refused")
	dir := state.Dir(t.TempDir())
	w := newWorld(12, 6, 9, 20)
	w.write(t, dir)
	watched(t, n, dir)
	good := listing(n)
	bad := w.render()
	for _, o := range bad {
		if o.Name == "unknown-pod" {
			o.Lines = append(o.Lines, "ip saddr @none drop")
		}
	}
	if err := writeObjects(dir, nil, bad); err != nil {
		t.Fatal(err)
	}
	n.Eventually(prompt, func() string {
		if r, _, _ := readRecord(dir); !strings.Contains(r.Refused, `load "policy/inet/chains/unknown-pod.nft": line 4`) {
			return fmt.Sprintf("refused: %q", r.Refused)
		}
		return ""
	})
	if diff := cmp.Diff(good, listing(n)); diff != "" {
		t.Error(diff)
	}
	n.Run("nft", "flush ruleset")
	n.Eventually(prompt, func() string {
		if _, err := n.Try("nft", "list", "table", "bridge", "towpath-policy"); err != nil {
			return "no table"
		}
		return cmp.Diff(good, listing(n))
	})
	w.sets[1] = append(w.sets[1], 77)
	want := w.write(t, dir)
	n.Eventually(prompt, func() string {
		if r, _, _ := readRecord(dir); r.Generation != want || r.Refused != "" {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
	// policy.nft goes: nothing is removed, and drift is put back.
	good = listing(n)
	os.Remove(dir.PolicyNFT())
	n.Run("nft", "flush ruleset")
	n.Eventually(prompt, func() string {
		if _, err := n.Try("nft", "list", "table", "bridge", "towpath-policy"); err != nil {
			return "no table"
		}
		return cmp.Diff(good, listing(n))
	})
	w.write(t, dir)
}

// TestFighter: another program that undoes each repair is answered ever more slowly, and outlasted.
func TestFighter(t *testing.T) {
	n := nstest.New(t, "fighter")
	dir := state.Dir(t.TempDir())
	w := newWorld(4, 2, 3, 5)
	w.write(t, dir)
	watched(t, n, dir)
	good := listing(n)
	before := generationOf(t, n)
	began := time.Now()
	for range 30 {
		n.Run("nft", "add table inet towpath-policy; delete table inet towpath-policy")
		<-time.After(20 * time.Millisecond)
	}
	n.Eventually(prompt, func() string {
		if _, err := n.Try("nft", "list", "table", "inet", "towpath-policy"); err != nil {
			return "no table"
		}
		return cmp.Diff(good, listing(n))
	})
	if loads := generationOf(t, n) - before - 30; loads > 8+uint32(time.Since(began)/paceMax) {
		t.Errorf("%d repairs for 30 attacks", loads)
	} else {
		t.Logf("%d repairs for 30 attacks", loads)
	}
}

// TestFlowsSurvive: a stream of bytes and pings through a router pass all full replacements and restarts unharmed.
func TestFlowsSurvive(t *testing.T) {
	router, client, server := nstest.New(t, "router"), nstest.New(t, "client"), nstest.New(t, "server")
	nstest.Connect(router, "veth1", "10.244.0.1/24", client, "eth0", "10.244.0.3/24 10.244.0.4/24")
	nstest.Connect(router, "veth2", "10.244.7.1/24", server, "eth0", "10.244.7.2/24")
	router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	client.Run("ip", "route", "add", "default", "via", "10.244.0.1")
	server.Run("ip", "route", "add", "default", "via", "10.244.7.1")
	dir := state.Dir(t.TempDir())
	// Pod 1 (10.244.0.3) is in group g0, whose egress allows TCP to the server alone.
	w := newWorld(0, 3, 3, 3)
	w.pods = map[int]string{1: "g0", 2: "", 1750: ""}
	w.groups = map[string][]int{"g0": {0}}
	w.sets[0] = []int{1750} // 10.244.7.2
	w.write(t, dir)
	cmd := watched(t, router, dir)
	if out, err := client.Try("ping", "-c1", "-W1", "10.244.7.2"); err == nil {
		t.Fatalf("the policy is not in force:\n%s", out)
	}
	var listener net.Listener
	var conn net.Conn
	server.Do(func() { listener, _ = net.Listen("tcp", "10.244.7.2:8000") })
	if listener == nil {
		t.Fatal("no listener")
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	client.Do(func() {
		var err error
		if conn, err = net.DialTimeout("tcp", "10.244.7.2:8000", 5*time.Second); err != nil {
			t.Error(err)
		}
	})
	if conn == nil {
		t.Fatal(router.Run("nft", "list", "ruleset"))
	}
	defer conn.Close()
	far := <-accepted
	defer far.Close()
	exchange := func() {
		t.Helper()
		start := time.Now()
		for _, pair := range [][2]net.Conn{{conn, far}, {far, conn}} {
			pair[0].SetDeadline(start.Add(10 * time.Second))
			pair[1].SetDeadline(start.Add(10 * time.Second))
			if _, err := pair[0].Write([]byte("towpath")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 7)
			if _, err := pair[1].Read(got); err != nil || string(got) != "towpath" {
				t.Fatalf("read %q, %v", got, err)
			}
		}
	}
	exchange()
	// Pings of pod 2, which is open, run all the while; 500 a second.
	pinged := client.Pinging("10.244.7.2", "-i", "0.002", "-I", "10.244.0.4")
	for i := range 15 {
		router.Run("nft", "-f", dir.PolicyNFT()) // somebody's full replacement, and ours upon it
		exchange()
		w.sets[1] = append(w.sets[1], 5000+i)
		w.write(t, dir)
		exchange()
	}
	stop(t, cmd)
	exchange()
	router.Run("policy-load", "apply", "--run-dir", string(dir))
	exchange()
	router.Run("nft", "add table ip other")
	if out := router.Run("policy-load", "apply", "--run-dir", string(dir)); !strings.Contains(out, "delete table inet towpath-policy") {
		t.Errorf("no full replacement:\n%.300s", out)
	}
	exchange()
	sent, lost := pinged()
	if sent == 0 || lost != 0 {
		t.Errorf("%d of %d pings lost", lost, sent)
	}
	t.Logf("%d of %d pings lost", lost, sent)
}
