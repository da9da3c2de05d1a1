//go:build netns

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/lib/state"
)

// fill puts n leased records into a store, from the first /24 on.
func fill(t testing.TB, store string, n int) {
	t.Helper()
	for i := range n {
		if _, err := state.Save(filepath.Join(store, fmt.Sprintf("n%d.json", i)), numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(store, ".store"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// numbered is the record of node ni, which has the i-th subnet of 10.0.0.0/8 by /24 but for the first
// two bytes of the usual network.
func numbered(i int) *Record {
	r := record(fmt.Sprintf("n%d 10.%d.%d.0/24", i, 244+i/256, i%256))
	r.PublicIP.IPv4 = netip.AddrFrom4([4]byte{172, 16 + byte(i>>16), byte(i >> 8), byte(i)})
	r.Granted, r.Expires = stamp(time.Now()), stamp(time.Now().Add(24*time.Hour))
	r.Backend.Data = []byte(fmt.Sprintf(`{"VNI":1,"VtepMAC":"62:00:00:00:%02x:%02x"}`, i>>8, i&255))
	return r
}

// TestRace: 64 processes at once get 64 subnets, and find each other.
func TestRace(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	n := newNode(t, "race", "1", store)
	const racers = 64
	var wg sync.WaitGroup
	nodes := make([]*node, racers)
	for i := range racers {
		r := *n
		r.name = fmt.Sprintf("racer%d", i)
		r.run = state.Dir(filepath.Join(t.TempDir(), "run"))
		nodes[i] = &r
		wg.Go(func() {
			if code, out, errs := r.exec("apply", "--public-ip", fmt.Sprintf("192.168.7.%d", 10+i)); code != 0 {
				t.Errorf("%s: exit status %d\n%s%s", r.name, code, out, errs)
			}
		})
	}
	wg.Wait()
	seen := map[netip.Prefix]string{}
	for _, r := range nodes {
		l := r.lease()
		if other, twice := seen[l.Subnet.IPv4]; twice {
			t.Errorf("%s and %s both have %s", r.name, other, l.Subnet.IPv4)
		}
		seen[l.Subnet.IPv4] = r.name
		if have := r.record(r.name); have.Subnet != l.Subnet {
			t.Errorf("%s: the store says %s, the file %s", r.name, have.Subnet.IPv4, l.Subnet.IPv4)
		}
	}
	for i := range racers {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24); seen[p] == "" {
			t.Errorf("nobody has %s: not the lowest ones were taken", p)
		}
	}
	nodes[0].must("apply", "--public-ip", "192.168.7.10")
	if files, _ := filepath.Glob(string(nodes[0].run) + "/peers/*.json"); len(files) != racers-1 {
		t.Errorf("%d peers of %d", len(files), racers-1)
	}
}

// TestExhaustion: a /16 by /24 has 256 subnets, and the 257th node is told.
func TestExhaustion(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	fill(t, store, 255)
	n := newNode(t, "last", "1", store)
	if out := n.must("apply"); !strings.HasPrefix(out, "acquire 10.244.255.0/24 for last\n") {
		t.Errorf("the 256th node:\n%s", out)
	}
	n.name, n.run = "late", state.Dir(filepath.Join(t.TempDir(), "run"))
	code, out, errs := n.exec("apply", "--public-ip", "192.168.7.2")
	if code != 75 || out != "" || !strings.Contains(errs, "no free subnet: every /24 from SubnetMin 10.244.0.0/24 to SubnetMax 10.244.255.0/24 is leased") {
		t.Errorf("the 257th node: exit status %d\n%s%s", code, out, errs)
	}
	if exists(string(n.run) + "/lease.json") {
		t.Error("the 257th node has a lease.json")
	}
}

// TestKilledAnywhere kills apply and release after every possible time; what is left is always sound,
// and the next run puts it right.
func TestKilledAnywhere(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	a := newNode(t, "a", "1", store)
	b := *a
	b.name, b.run = "b", state.Dir(filepath.Join(t.TempDir(), "run"))
	killed := 0
	for delay := time.Duration(0); delay < 16*time.Millisecond; delay += 100 * time.Microsecond {
		for _, n := range []*node{a, &b} {
			cmd := n.Command("subnet-lease", n.args("apply", "--public-ip", map[string]string{"a": "192.168.7.1", "b": "192.168.7.2"}[n.name])...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-time.After(delay)
			cmd.Process.Kill()
			cmd.Wait()
			if cmd.ProcessState.ExitCode() < 0 {
				killed++
			}
		}
		for _, path := range []string{a.run.Lease(), b.run.Lease(), a.run.Backend("vxlan"), a.run.Peer("b"), b.run.Peer("a"), a.run.PeersSynced()} {
			if exists(path) && !strings.HasSuffix(read(t, path), "}\n") {
				t.Fatalf("after %s: half a file %s: %q", delay, path, read(t, path))
			}
		}
		all, err := newFileStore(store).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held := map[netip.Prefix]string{}
		for node, e := range all.Entries {
			if e.Err != nil {
				t.Fatalf("after %s: %v", delay, e.Err)
			}
			if other, twice := held[e.Record.Subnet.IPv4]; twice {
				t.Fatalf("after %s: %s and %s hold %s", delay, node, other, e.Record.Subnet.IPv4)
			}
			held[e.Record.Subnet.IPv4] = node
		}
		if delay%(3*time.Millisecond) == 0 { // begin anew
			a.must("release")
			os.RemoveAll(string(a.run))
		}
	}
	if killed < 50 {
		t.Errorf("only %d of 320 runs were killed", killed)
	}
	a.must("apply")
	b.must("apply", "--public-ip", "192.168.7.2")
	a.must("apply")
	if out := a.must("apply"); out != "" {
		t.Errorf("not settled:\n%s", out)
	}
	for _, pattern := range []string{string(a.run) + "/.*.tmp", string(a.run) + "/peers/.*.tmp"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	}
	a.must("release")
	a.must("apply") // takes the lock, and sweeps the store
	if left, _ := filepath.Glob(store + "/.*.tmp"); len(left) > 0 {
		t.Errorf("left behind in the store: %s", left)
	}
}

// TestBrokenInputs gives subnet-lease each of its files broken in every way.
func TestBrokenInputs(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	n := newNode(t, "a", "1", store)
	n.must("apply")
	n.link("vxlan", `{"VNI":1,"VtepMAC":"62:00:00:00:00:01"}`)
	n.must("apply")
	own := filepath.Join(store, "a.json")
	for _, c := range []struct {
		path string
		code int
	}{{n.netConf, 78}, {n.run.Link(), 65}, {own, 65}} {
		good := read(t, c.path)
		broken := map[string]string{
			"empty": "", "truncated": good[:len(good)/2], "malformed": "Network=10.244.0.0/16\n", "binary": "\x7fELF\x00\x01",
			"an array": "[1]\n", "huge": strings.Repeat(" ", 2*state.MaxSize) + good,
		}
		if strings.Contains(good, `"version": 1`) {
			broken["newer version"] = strings.Replace(good, `"version": 1`, `"version": 9`, 1)
		}
		for kind, text := range broken {
			t.Run(filepath.Base(c.path)+" "+kind, func(t *testing.T) {
				lease := read(t, n.run.Lease())
				write(t, c.path, text)
				defer write(t, c.path, good)
				for _, verb := range []string{"plan", "apply"} {
					code, out, errs := n.exec(verb)
					if code != c.code || out != "" || !strings.Contains(errs, c.path) {
						t.Errorf("%s: exit status %d\n%s%s", verb, code, out, errs)
					}
					if kind == "newer version" && !strings.Contains(errs, "version") {
						t.Errorf("%s: the key is not named: %s", verb, errs)
					}
				}
				if read(t, n.run.Lease()) != lease || read(t, c.path) != text {
					t.Error("something was changed")
				}
			})
		}
	}
	t.Run("own output spoilt", func(t *testing.T) {
		write(t, n.run.Lease(), "{")
		if out := n.must("apply"); out != "write "+n.run.Lease()+"\n" {
			t.Errorf("printed %q", out)
		}
		write(t, n.run.Lease(), `{"version": 9}`)
		if code, _, errs := n.exec("apply"); code != 65 || !strings.Contains(errs, n.run.Lease()) {
			t.Errorf("a newer lease.json: exit status %d, %s", code, errs)
		}
	})
}

// FuzzRecord: whatever the bytes of a record, reading it does no harm, and a good one is written back
// as it was read.
func FuzzRecord(f *testing.F) {
	good, err := state.Marshal(record("a 10.244.0.0/24 fd00::/64"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(good), "", "{}", `{"version":1,"node":"a","subnet":{"ipv4":"0.0.0.0/0"}}`, `{"version":1,"node":"a","subnet":{"ipv4":"::/0"}}`, string(good[:100])} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "a.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, path, string(data))
		e, ok := load(path, "a")
		if !ok || e.gone() {
			t.Fatalf("%q: gone", data)
		}
		if e.Err != nil {
			return
		}
		s := newPeerSet(*record("b 10.244.0.0/24"), state.Pair[netip.Addr]{}, conf(t, plain), Listing{Entries: map[string]Entry{"a": e}})
		s.decide("a", now)
		if _, err := state.Save(path, e.Record); err != nil {
			return // a time beyond what JSON can hold
		}
		if again, _ := load(path, "a"); again.Err != nil || !again.Record.equal(e.Record) {
			t.Errorf("%q: read back otherwise: %v", data, again)
		}
	})
}

// BenchmarkFullListing is a start, or the look at everything every 30 s.
func BenchmarkFullListing(b *testing.B) {
	for _, peers := range []int{100, 1000, 5000} {
		for _, kind := range []string{"start", "again"} {
			b.Run(fmt.Sprintf("peers=%d/%s", peers, kind), func(b *testing.B) {
				s := benchStep(b, peers)
				for b.Loop() {
					s.listing = nil
					if kind == "start" {
						s.store = newFileStore(s.store.(*fileStore).dir)
						s.files = map[string]peerFile{}
					}
					if ops, err := s.Plan(b.Context()); err != nil || len(ops) > 0 {
						b.Fatalf("%d operations, %v", len(ops), err)
					}
				}
			})
		}
	}
}

// BenchmarkJoin is one changed record, from the store to the peer's file.
func BenchmarkJoin(b *testing.B) {
	for _, peers := range []int{100, 5000} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			s := benchStep(b, peers)
			r := numbered(7)
			for i := 0; b.Loop(); i++ {
				r.Backend.Data = []byte(fmt.Sprintf(`{"VNI":1,"VtepMAC":"62:00:00:00:00:%02x"}`, i%256))
				if _, err := state.Save(s.store.(*fileStore).path("n7"), r); err != nil {
					b.Fatal(err)
				}
				ops, _, err := s.follow(b.Context(), []string{"n7"}, time.Now())
				if err != nil || len(ops) != 1 {
					b.Fatalf("%d operations, %v", len(ops), err)
				}
				if err := ops[0].Do(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkJoinWatched is the same with a real process that watches: from the rename in the store until
// the peer's file is new.
func BenchmarkJoinWatched(b *testing.B) {
	for _, peers := range []int{100, 5000} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			n := newNode(b, "watcher", "1", filepath.Join(b.TempDir(), "store"))
			fill(b, n.store, peers)
			write(b, n.netConf, wide)
			n.watch()
			r := numbered(7)
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				mac := fmt.Sprintf("62:00:00:00:01:%02x", i%256)
				r.Backend.Data = []byte(fmt.Sprintf(`{"VNI":1,"VtepMAC":%q}`, mac))
				start := time.Now()
				if _, err := state.Save(filepath.Join(n.store, "n7.json"), r); err != nil {
					b.Fatal(err)
				}
				for !strings.Contains(read(b, n.run.Peer("n7")), mac) {
					if time.Since(start) > 10*time.Second {
						b.Fatal("not within 10 s")
					}
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// TestListingReadsOnlyWhatIsNew: an unchanged record is not read again, a replaced, an edited and a
// removed one are seen.
func TestListingReadsOnlyWhatIsNew(t *testing.T) {
	s := newFileStore(filepath.Join(t.TempDir(), "store"))
	list := func() map[string]Entry {
		all, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all.Entries
	}
	if all, _ := s.List(t.Context()); !all.Unused {
		t.Error("a store that is not there is not called unused")
	}
	fill(t, s.dir, 5)
	before := list()
	r := numbered(1)
	r.Backend.Data = nil
	state.Save(s.path("n1"), r)
	write(t, s.path("n2"), "{")
	os.Remove(s.path("n3"))
	after := list()
	for _, node := range []string{"n0", "n4"} {
		if after[node].Record == nil || after[node].Record != before[node].Record {
			t.Errorf("%s was read again", node)
		}
	}
	if after["n1"].Record.Backend.Data != nil || after["n2"].Err == nil || !after["n3"].gone() {
		t.Errorf("changes were missed: %v", after)
	}
	if e, err := s.Get(t.Context(), "n0"); err != nil || e.Record != before["n0"].Record {
		t.Errorf("Get: %v, %v", e, err)
	}
	if e, err := s.Get(t.Context(), "n3"); err != nil || !e.gone() {
		t.Errorf("Get of a removed one: %v, %v", e, err)
	}
}
